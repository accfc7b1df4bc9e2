"""What the driver of a submitted job does beside its work: it checks the versions that were asked for, and tells which
nodes the cluster has, and how many GPUs the job holds. It runs where RAYSFT_EVENTS is set and nowhere else.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from raysft.config.labels import POOL
from raysft.errors import UsageError
from raysft.jobs.request import PINS, pins
from raysft.jobs.told import Teller

LOOK_S = 5.0
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
    since = 0.0
    while not over.wait(LOOK_S if told else 0.5):
        with suppress(Exception):  # Ray is not up yet, or not any more
            found = _nodes()
            if found is None or found == told:
                continue
            if found["pools"] != told.get("pools") or time.monotonic() - since > HELD_S:
                teller.tell("nodes", **found)
                told, since = found, time.monotonic()


def _nodes() -> dict[str, Any] | None:
    """Nodes by pool, GPUs of all of them, and those that this job holds; None where this process has no Ray."""
    import sys

    if "ray" not in sys.modules:
        return None
    import ray

    if not ray.is_initialized():
        return None
    alive = [node for node in ray.nodes() if node["Alive"]]
    pools = Counter(node.get("Labels", {}).get(POOL, "") for node in alive)
    gpus = sum(node["Resources"].get("GPU", 0) for node in alive)
    return {"pools": dict(sorted(pools.items())), "gpus": int(gpus), "held_gpus": _held_gpus()}


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
