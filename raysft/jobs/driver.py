"""What the driver of a submitted job does beside its work: it checks the versions that were asked for, and tells which
nodes the cluster has. It runs where RAYSFT_EVENTS is set and nowhere else.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from raysft.config.labels import POOL
from raysft.errors import UsageError
from raysft.jobs.request import PINS, pins
from raysft.jobs.told import Teller

LOOK_S = 5.0


@contextmanager
def reporting(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Around the work of a submitted job; nothing around any other. Raises UsageError for other versions."""
    teller = Teller()
    if not teller.on:
        yield
        return
    refuse_other_versions(environment.get(PINS, "{}"))
    over = threading.Event()
    thread = threading.Thread(target=_look_at_nodes, args=(teller, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def refuse_other_versions(asked: str) -> None:
    """Raise UsageError where this environment has other versions than the one that the job was sent from."""
    mine = pins()
    other = [
        f"{name} {mine.get(name, 'is not there')}, not {version}"
        for name, version in json.loads(asked).items()
        if mine.get(name) != version
    ]
    if other:
        raise UsageError(
            f"the cluster has {'; '.join(other)}",
            "Use the image of that version (`image:` of the cluster file), or submit from the same versions: results "
            "would not be those of this machine.",
        )


def _look_at_nodes(teller: Teller, over: threading.Event) -> None:
    told: dict[str, Any] = {}
    while not over.wait(LOOK_S if told else 0.5):
        with suppress(Exception):  # Ray is not up yet, or not any more
            found = _nodes()
            if found is not None and found != told:
                teller.tell("nodes", **found)
                told = found


def _nodes() -> dict[str, Any] | None:
    """Nodes by pool, and GPUs of all of them; None where this process has no Ray."""
    import sys

    if "ray" not in sys.modules:
        return None
    import ray

    if not ray.is_initialized():
        return None
    alive = [node for node in ray.nodes() if node["Alive"]]
    pools = Counter(node.get("Labels", {}).get(POOL, "") for node in alive)
    gpus = sum(node["Resources"].get("GPU", 0) for node in alive)
    return {"pools": dict(sorted(pools.items())), "gpus": int(gpus)}
