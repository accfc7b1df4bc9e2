"""How many workers there is room for on some pools.

Workers come and go by whole nodes. A pool holds as many workers as its nodes have GPUs (or CPUs) for, as long as each
has the memory; more workers that share a model need less memory each. So what a set of pools holds is the largest
number of workers for which there is room with the memory that so many need.
"""

from __future__ import annotations

from collections.abc import Sequence

from raysft.cluster.pools.catalogue import Pool
from raysft.cluster.pools.need import Need

GIB = 2**30
# Of a node's memory, beyond which Ray ends workers (its RAY_memory_usage_threshold).
USABLE = 0.95
ENDLESS = 10**9


def room(pools: Sequence[Pool], need: Need, limit: int = ENDLESS) -> int:
    """The most workers, up to `limit`, that can stand on these pools at once with the memory that so many need; 0: not
    even one."""
    workers = min(limit, sum(slots_by_count(pool, need) * pool.most for pool in pools))
    while workers:
        # Fewer workers never need less memory each, so that there is room for fewer of them, and this ends.
        there = sum(slots(pool, need, workers) * pool.most for pool in pools)
        if there >= workers:
            return workers
        workers = there
    return 0


def largest(pools: Sequence[Pool], need: Need) -> int:
    """The most workers that some pool, or pools of one kind together, can hold; 0: none."""
    sets: list[Sequence[Pool]] = [(pool,) for pool in pools]
    return max((room(some, need) for some in [*sets, *groups(pools, need)]), default=0)


def can_hold(pools: Sequence[Pool], need: Need, workers: int) -> bool:
    """Whether some pool, or pools of one kind together, have room for exactly so many workers."""
    sets: list[Sequence[Pool]] = [(pool,) for pool in pools]
    return any(room(some, need, workers) == workers for some in [*sets, *groups(pools, need)])


def groups(pools: Sequence[Pool], need: Need) -> list[tuple[Pool, ...]]:
    """Pools whose workers may train together: of one kind of GPU; on CPUs, those without GPUs."""
    kinds = dict.fromkeys(pool.gpu for pool in pools if bool(pool.gpus) == need.gpu)
    groups = [tuple(pool for pool in pools if pool.gpu == kind and bool(pool.gpus) == need.gpu) for kind in kinds]
    return [group for group in groups if len(group) > 1]


def slots(pool: Pool, need: Need, workers: int) -> int:
    """Workers on one node of a pool, where there are so many in all."""
    count, least = slots_by_count(pool, need), need.least_bytes(workers)
    node = int(pool.memory_gib * GIB * USABLE)
    if need.at_most or not count:
        return count
    if not need.gpu:
        return min(count, node // least) if node else count
    if pool.gpu_gib and least > pool.gpu_gib * GIB:
        return 0
    return min(count, node // need.host) if node and need.host else count


def slots_by_count(pool: Pool, need: Need) -> int:
    """The same by CPUs and GPUs alone."""
    cpus = pool.cpus // need.cpus_each
    return min(cpus, pool.gpus // need.gpus_each) if need.gpu else cpus
