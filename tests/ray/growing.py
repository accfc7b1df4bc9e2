"""Started by test_growing.py in a process of its own: a cluster whose pool has no node yet, and a cloud that has none
at first. Arguments: a folder, and the base. Prints what was seen, as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysft import pipeline
from raysft.errors import NoCapacity
from raysft.events import Silent
from tests.support.autoscaling import Autoscaled, SimulatedPool, autoscaled
from tests.support.jobs import corpus_rows, write_job

POOL = SimulatedPool("gpu", cpus=1, gpus=1, most=2)
LIMIT_S = 60.0  # for nodes to go that have nothing to do
WORKERS = ["train.workers=2", "train.device=gpu"]


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def note(self, text: str) -> None:
        self.kept.append(text)


def main(folder: Path, base: Path) -> None:
    with autoscaled([POOL], idle_s=10, quiet_s=5, capacity={POOL.name: 0}, RAYSFT_LOGICAL_GPUS="1") as cluster:
        cluster.connect()
        print(json.dumps({"train": train(cluster, folder, base), "sweep": sweep(cluster, folder, base)}))


def train(cluster: Autoscaled, folder: Path, base: Path) -> dict[str, Any]:
    """Two workers, each with a logical GPU of a node of its own."""
    job, notes = write_job(folder / "train", base, corpus_rows(120), train={"epochs": 2}), Notes()

    def let_them_come() -> None:
        while not any("has no capacity" in text for text in notes.kept):
            time.sleep(0.1)
        cluster.set_capacity({})

    assert not cluster.nodes()
    refused = ""
    try:
        pipeline.train(job, ["train.workers=3", "train.device=gpu"])
    except NoCapacity as error:
        refused = str(error)
    threading.Thread(target=let_them_come, daemon=True).start()
    with most_nodes(cluster) as nodes:
        result = pipeline.train(job, WORKERS, notes)
    cluster.wait_for({}, LIMIT_S)
    return {"refused": refused, "notes": notes.kept, "nodes": nodes[0], "workers": result.plan["workers"]}


def sweep(cluster: Autoscaled, folder: Path, base: Path) -> dict[str, Any]:
    """Two configurations on two folds; nodes come for it and go."""
    search = {"search": {"train.learning_rate": [1e-3, 5e-3]}, "racing": False, "early": False, "refit": False}
    sections: dict[str, Any] = {"folds": {"k": 2}, "train": {"epochs": 1, "device": "cpu"}, "tune": search}
    with most_nodes(cluster) as nodes:
        result = pipeline.tune(write_job(folder / "sweep", base, corpus_rows(120), **sections))
    cluster.wait_for({}, LIMIT_S)
    return {"trials": len(result.trials), "nodes": nodes[0]}


@contextmanager
def most_nodes(cluster: Autoscaled) -> Iterator[list[int]]:
    """The most nodes that there are at a time inside."""
    most, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            most[0] = max(most[0], cluster.nodes()[POOL.name])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
