"""Which pool is asked for nodes next, and what is said of pools that had none. Knows nothing of Ray or of clouds.

A pool whose cloud had no machine is left alone for a while and then asked again, so that work returns to spot.
Only pools behind the wanted one stand in for it, never those ahead: what insists on an on-demand node must get one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

GPU = "GPU"
KIND = "accelerator_type:"  # Ray's resource that names the kind of a node's GPUs
# What clouds call having no machine; other refusals, such as an unknown image, are a mistake that someone must mend.
NO_CAPACITY = re.compile(
    r"capacity|exhausted|stockout|quota|(limit|count)exceeded|skunotavailable|allocationfail|overconstrained|spotmaxprice",
    re.I,
)
SERIES_S = 300.0  # refusals that follow one another more closely than this, past the quiet time, are one shortage


@dataclass(frozen=True)
class PoolType:
    """One node type of an autoscaler's file, as far as the choice between pools needs it."""

    name: str
    market: str  # spot | on-demand
    gpu: str  # kind of its GPUs; "" where it is not told, or without GPUs
    resources: Mapping[str, float]  # of a node, as Ray counts them
    most: int  # nodes

    def stands_in_for(self, other: PoolType) -> bool:
        """Whether work that was to have a node of `other` can have one of these: GPUs alike, nothing else less."""
        if self.gpu != other.gpu or self.resources.get(GPU, 0) != other.resources.get(GPU, 0):
            return False
        return all(self.resources.get(name, 0) >= amount for name, amount in other.resources.items() if _counts(name))


def _counts(resource: str) -> bool:
    return not resource.startswith(KIND) and resource != "object_store_memory"


@dataclass(frozen=True)
class Asked:
    """One time that a cloud was asked for nodes of a pool."""

    time: float  # seconds since 1970
    pool: str
    wanted: str  # the pool that was wanted; another one than `pool` when that stands in for it
    asked: int  # nodes
    got: int
    why: str = ""  # in the cloud's words, where it gave fewer
    again: float = 0.0  # seconds since 1970, from which the pool is asked again; 0 where it gave all

    @property
    def refused(self) -> bool:
        return self.got < self.asked

    def line(self) -> dict[str, Any]:
        """As it stands in the record."""
        return asdict(self)


class Failover:
    """The choice between pools; `note` tells it what came of each choice."""

    def __init__(self, pools: Sequence[PoolType], quiet_s: float, record: Iterable[Asked] = ()) -> None:
        """pools: in the order in which they are asked. quiet_s: how long a pool is left alone after a refusal.

        record: what was asked before, so that a restarted head does not ask all over again.
        """
        self.pools = {pool.name: pool for pool in pools}
        self.quiet_s = quiet_s
        self._refused: dict[str, float] = {}
        for asked in record:
            self.note(asked)

    def choices(self, wanted: str) -> tuple[PoolType, ...]:
        """The wanted pool and, in order, those behind it that can stand in for it.

        Raises KeyError for a pool that is not there.
        """
        names = list(self.pools)
        behind = [self.pools[name] for name in names[names.index(wanted) + 1 :]] if wanted in names else []
        first = self.pools[wanted]
        return (first, *(pool for pool in behind if pool.stands_in_for(first)))

    def again(self, pool: str, now: float) -> float:
        """From when on, in seconds since 1970, the pool may be asked; `now` where it may be asked at once."""
        refused = self._refused.get(pool)
        # A clock that was set back must not leave a pool alone for as long as it was set back.
        if refused is None or now < refused:
            return now
        return max(now, refused + self.quiet_s)

    def next_pool(self, wanted: str, nodes: Mapping[str, int], now: float) -> PoolType | None:
        """Which pool to ask for a node of `wanted`; None where each is in its quiet time or has its most nodes.

        nodes: how many there are of each pool. now: seconds since 1970.
        """
        free = (pool for pool in self._with_room(wanted, nodes) if self.again(pool.name, now) <= now)
        return next(free, None)

    def next_try(self, wanted: str, nodes: Mapping[str, int], now: float) -> tuple[PoolType, float] | None:
        """Which pool is asked next, and when (seconds since 1970); None where each has its most nodes."""
        times = [(pool, self.again(pool.name, now)) for pool in self._with_room(wanted, nodes)]
        return min(times, key=lambda each: each[1], default=None)

    def note(self, asked: Asked) -> None:
        """Remember what came of asking."""
        if asked.refused:
            self._refused[asked.pool] = asked.time
        else:
            self._refused.pop(asked.pool, None)

    def _with_room(self, wanted: str, nodes: Mapping[str, int]) -> list[PoolType]:
        return [pool for pool in self.choices(wanted) if nodes.get(pool.name, 0) < pool.most]


def capacity_words(record: Sequence[Asked], now: float) -> list[str]:
    """What a person who waits is told: a line for each pool that had no machine and is not asked again yet.

    record: in the order of time. now: seconds since 1970.
    """
    last = {asked.pool: asked for asked in record}
    short = {name: asked for name, asked in last.items() if asked.refused and asked.time <= now < asked.again}
    return [_words(asked, record, short, now) for asked in short.values()]


def _words(asked: Asked, record: Sequence[Asked], short: Mapping[str, Asked], now: float) -> str:
    since = _since(asked.pool, record)
    what = "has no capacity" if NO_CAPACITY.search(asked.why) else "cannot be used"
    why = "" if what == "has no capacity" else f" ({asked.why})"
    return f"pool {asked.pool} {what} since {span(now - since)}{why}; {_next(asked, record, short, now)}"


def _next(asked: Asked, record: Sequence[Asked], short: Mapping[str, Asked], now: float) -> str:
    """What happens next for those who want nodes of this pool."""
    others = {each.pool: each for each in record if each.wanted == asked.pool and each.pool != asked.pool}
    gave = [each for each in others.values() if each.got and each.time >= _since(asked.pool, record)]
    if gave:
        nodes = "1 node" if gave[-1].got == 1 else f"{gave[-1].got} nodes"
        return f"{gave[-1].pool} gave {nodes} instead, and {asked.pool} is next in {span(asked.again - now)}"
    waiting = [asked, *(short[name] for name in others if name in short)]
    soonest = min(waiting, key=lambda each: each.again)
    return f"{soonest.pool} next in {span(soonest.again - now)}"


def _since(pool: str, record: Sequence[Asked]) -> float:
    """When the shortage of a pool began that its last line belongs to, in seconds since 1970."""
    began = later = None
    for asked in reversed([each for each in record if each.pool == pool]):
        if later is not None and (not asked.refused or later.time > asked.again + SERIES_S):
            break
        began = later = asked
    assert began is not None, "only pools of the record are asked for"
    return began.time


def span(seconds: float) -> str:
    """A length of time in one unit: "40 s", "12 min", "3 h"."""
    if seconds < 60:
        return f"{max(0, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"
