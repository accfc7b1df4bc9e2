"""What the driver of a submitted job does beside its work: it checks the versions that were asked for, and tells which
nodes the cluster has, and how many GPUs the job holds. It runs where RAYSFT_EVENTS is set and nowhere else.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from raysft.config.labels import POOL
from raysft.errors import UsageError
from raysft.jobs.request import PINS, pins
from raysft.jobs.told import Teller

LOOK_S = 5.0
ANSWER_S = 5.0  # that the head may take, once this process has left Ray
ALIVE = 0  # GcsNodeInfo.GcsNodeState of Ray 2.60
HELD_S = 20.0  # between two events that tell of GPUs alone, which in a sweep come and go all the time


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
    nodes, since = Nodes(), 0.0
    while not over.wait(LOOK_S if told else 0.5):
        with suppress(Exception):  # Ray is not up yet, or not any more
            found = nodes.look()
            if found is None or found == told:
                continue
            if found["pools"] != told.get("pools") or time.monotonic() - since > HELD_S:
                teller.tell("nodes", **found)
                told, since = found, time.monotonic()


@dataclass
class Nodes:
    """Those of the Ray that this process has joined; also after it has left it, as when a finished training is
    evaluated, while nodes without work go. address: of its GCS, once it is known."""

    address: str | None = None

    def look(self) -> dict[str, Any] | None:
        """Nodes by pool, GPUs of all of them, and those that this job holds; None where this process had no Ray yet."""
        import sys

        if "ray" not in sys.modules:
            return None
        import ray

        if ray.is_initialized():
            self.address = ray.get_runtime_context().gcs_address
            alive = [(node.get("Labels", {}), node["Resources"]) for node in ray.nodes() if node["Alive"]]
            return _told(alive, _held_gpus())
        return None if self.address is None else _told(_alive_at(self.address), 0.0)


def _told(alive: Sequence[tuple[Mapping[str, str], Mapping[str, float]]], held: float) -> dict[str, Any]:
    """alive: labels and resources of each node."""
    pools = Counter(labels.get(POOL, "") for labels, _ in alive)
    gpus = sum(resources.get("GPU", 0) for _, resources in alive)
    return {"pools": dict(sorted(pools.items())), "gpus": int(gpus), "held_gpus": held}


def _alive_at(address: str) -> list[tuple[Mapping[str, str], Mapping[str, float]]]:
    """By a client that lives for one question: one that is kept ends its process when the head is away for a minute."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()  # Ray's client waits 40 s
    nodes = GcsClient(address=address).get_all_node_info(timeout=ANSWER_S).values()
    return [(dict(node.labels), dict(node.resources_total)) for node in nodes if node.state == ALIVE]


def _held_gpus() -> float:
    """Of the placement groups of this job, in which all of its work on GPUs is done.

    Ray's own `placement_group_table` does not tell whose they are; what it is made from does.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData as Group

    mine = ray.get_runtime_context().get_job_id()
    groups = [Group.FromString(each) for each in state._connect_and_get_accessor().get_placement_group_table()]
    held = [each for each in groups if each.creator_job_id.hex() == mine and each.state == Group.CREATED]
    return round(sum(float(bundle.unit_resources.get("GPU", 0.0)) for each in held for bundle in each.bundles), 4)
