"""What nodes a cluster has and may come to have, and waiting for room on them while saying what is waited for.

Ray tells of nodes that are there, and nothing of those that may come. A cluster that grows tells of them by POOLS, and
whatever makes its nodes leaves in Ray's internal KV why none come (raysft/cluster/providers/shared.py).
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from raysft.config.labels import POOL
from raysft.errors import NoRoom
from raysft.events import Listener
from raysft.shortage import capacity_words, parse

NAMESPACE = b"raysft"  # of our keys in Ray's internal KV
# The pools of a cluster that grows, as `pools_text` has them. Where the driver has this in its environment (the head's,
# on a cluster, or what submitted the job sets it), that counts; else POOLS_KEY; else Ray's own record, if there is one.
POOLS = "RAYSFT_POOLS"
POOLS_KEY = b"pools"
CAPACITY_KEY = b"capacity"  # what clouds were asked for, as raysft/shortage.py writes it
NEEDED = ("name", "cpus", "gpus", "most")  # of a pool; memory_gib may be missing
POOL_LABELS = (POOL, "ray.io/node-group")  # of a node: the name of its pool
FREE_S = 30.0  # how long other jobs may hold what is needed, on a cluster that does not grow
TELL_S = 30.0  # between two lines that say the same
QUIET_S = 2.0  # what comes so soon is not worth a line
LOOK_S = 1.0


@dataclass(frozen=True)
class Node:
    """What a node has, or would have."""

    cpus: float
    gpus: float
    memory: float = 0.0  # bytes; 0: not known

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f" + {self.gpus:g} GPU" if self.gpus else "")


@dataclass(frozen=True)
class Capacity:
    """The nodes that are there, and those that may come beside them."""

    there: Sequence[Node]
    coming: Sequence[Node] = ()

    @property
    def nodes(self) -> list[Node]:
        return [*self.there, *self.coming]

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(CPUs, GPUs) of each node, there or not."""
        return [(node.cpus, node.gpus) for node in self.nodes]


def find_capacity() -> Capacity:
    """Of the Ray that is running."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    there = [_node(node["Resources"]) for node in alive]
    counts = Counter(_pool_of(node.get("Labels") or {}) for node in alive)
    coming: list[Node] = []
    for pool in declared_pools():
        shape = Node(float(pool["cpus"]), float(pool["gpus"]), float(pool.get("memory_gib", 0.0)) * 2**30)
        coming += [shape] * max(0, int(pool["most"]) - counts[str(pool["name"])])
    return Capacity(there, coming)


def grows() -> bool:
    """Whether the cluster has pools at all, however many of their nodes are there."""
    return bool(declared_pools())


class Pool(Protocol):
    """What is told of nodes that are alike; raysft.cluster.pools.catalogue.Pool is one."""

    @property
    def name(self) -> str: ...
    @property
    def cpus(self) -> int: ...
    @property
    def gpus(self) -> int: ...
    @property
    def memory_gib(self) -> float: ...
    @property
    def most(self) -> int: ...


def pools_text(pools: Iterable[Pool]) -> str:
    """Pools as POOLS and POOLS_KEY hold them: a JSON list."""
    return json.dumps(
        [
            {"name": each.name, "cpus": each.cpus, "gpus": each.gpus, "memory_gib": each.memory_gib, "most": each.most}
            for each in pools
        ]
    )


def declared_pools() -> list[dict[str, Any]]:
    """What POOLS, POOLS_KEY or Ray itself tells of the pools; nothing where none does, or what it tells is no list."""
    text = os.environ.get(POOLS) or _kv(POOLS_KEY)
    return _objects(text, NEEDED) if text else _ray_groups()


def shortages() -> list[str]:
    """A line for each pool whose cloud had no machine and is not asked again yet."""
    return capacity_words(parse(_kv(CAPACITY_KEY).splitlines()), time.time())


def _objects(text: str, keys: Iterable[str]) -> list[dict[str, Any]]:
    """The objects of a JSON list that have these keys."""
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, list):
            return [each for each in found if isinstance(each, dict) and each.keys() >= set(keys)]
    return []


def wait_for_room(count: int, bundle: dict[str, float], listener: Listener, until: float | None = None) -> None:
    """Return when `count` workers with these resources each have room. Raises NoRoom where they do not come.

    A cluster that grows is asked for nodes, and waited for until then, in seconds since 1970, or without limit; on
    others jobs have FREE_S to end.
    """
    if grows():
        _ask_for(count, bundle, listener, until)
    else:
        _wait_until_free(count, bundle)


def _ask_for(count: int, bundle: dict[str, float], listener: Listener, until: float | None) -> None:
    """By a group of places, as the workers will have: while it is pending, the autoscaler is asked for its nodes."""
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([bundle] * count, strategy="PACK")
    started, said_at, said = time.monotonic(), 0.0, ""
    try:
        while not group.wait(timeout_seconds=LOOK_S):
            now, words = time.monotonic(), waiting_words(count, bundle)
            if until is not None and time.time() > until:
                raise NoRoom(words, "The same command goes on; give it more time.")
            if now - started > QUIET_S and (words != said or now - said_at > TELL_S):
                listener.note(words)
                said, said_at = words, now
    finally:
        remove_placement_group(group)


def waiting_words(count: int, bundle: dict[str, float]) -> str:
    """What is waited for, what of it is there, and what may come."""
    import ray

    free, name = ray.available_resources(), "GPU" if "GPU" in bundle else "CPU"
    needed = bundle[name] * count
    more = len(find_capacity().coming)
    growth = f"the cluster may grow by {more} node{'s' * (more != 1)}" if more else "the cluster is at its largest"
    return "; ".join(
        [
            f"waiting for {count} worker{'s' * (count != 1)} x {bundle[name]:g} {name}: "
            f"{min(needed, free.get(name, 0.0)):g} of {needed:g} {name}s are free",
            growth,
            *shortages(),
        ]
    )


def _wait_until_free(count: int, bundle: dict[str, float]) -> None:
    """Ray itself would wait for ever, and say nothing."""
    import ray

    needed = {name: amount * count for name, amount in bundle.items()}
    deadline = time.monotonic() + FREE_S
    while True:
        free = ray.available_resources()
        short = {name: amount for name, amount in needed.items() if free.get(name, 0.0) < amount}
        if not short:
            return
        if time.monotonic() > deadline:
            said = ", ".join(f"{amount:g} {name} ({free.get(name, 0.0):g} free)" for name, amount in short.items())
            raise NoRoom(
                f"the cluster is busy: {count} worker(s) need {said}, and none came free in {FREE_S:.0f} s",
                "Wait for the other jobs (`ray status`), or use fewer workers.",
            )
        time.sleep(LOOK_S)


def _node(resources: dict[str, float]) -> Node:
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), resources.get("memory", 0.0))


def _pool_of(labels: dict[str, str]) -> str:
    return next((labels[name] for name in POOL_LABELS if name in labels), "")


def _kv(key: bytes) -> str:
    """A text of Ray's internal KV; "" where there is none."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    if not ray.is_initialized():
        return ""
    return (_internal_kv_get(key, namespace=NAMESPACE) or b"").decode("utf-8", "replace")


def _ray_groups() -> list[dict[str, Any]]:
    """The groups of Ray's own record, which whatever runs the autoscaler may have reported."""
    import ray
    from ray._private.state import state

    config = state.get_cluster_config() if ray.is_initialized() else None
    groups = config.node_group_configs if config is not None else ()
    return [
        {
            "name": group.name,
            "cpus": group.resources.get("CPU", 0),
            "gpus": group.resources.get("GPU", 0),
            "memory_gib": group.resources.get("memory", 0) / 2**30,
            "most": 1000 if group.max_count < 0 else group.max_count,  # below 0: no limit
        }
        for group in groups
    ]
