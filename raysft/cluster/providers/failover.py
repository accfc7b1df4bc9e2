"""Which pool is asked for nodes next, and what is said of pools that had none. Knows nothing of Ray or of clouds.

A pool whose cloud had no machine is left alone for a while and then asked again, so that work returns to spot.
Only pools behind the wanted one stand in for it, never those ahead: what insists on an on-demand node must get one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raysft.shortage import Asked

GPU = "GPU"
KIND = "accelerator_type:"  # Ray's resource that names the kind of a node's GPUs


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
