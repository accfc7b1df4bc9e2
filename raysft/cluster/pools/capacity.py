"""Whether the pools of a cluster can hold a job, with how many nodes, for how much; and why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from raysft.cluster.pools.catalogue import Pool
from raysft.cluster.pools.forecast import Span, hours
from raysft.cluster.pools.need import Need
from raysft.cluster.pools.refusal import next_step, why_not
from raysft.cluster.pools.room import GIB, USABLE, groups, room, slots
from raysft.errors import NoCapacity

TIGHT = 0.85  # of a GPU's memory: plans of GPUs were up to 17% too low, see docs/benchmarks.md


@dataclass(frozen=True)
class Fit:
    """What one pool, or several together, can do for a job."""

    pools: tuple[str, ...]
    holds: bool
    why: str  # why not; where it holds, what should be known, or ""
    market: str = ""  # spot | on-demand, or both
    workers: int = 0
    nodes: tuple[int, ...] = ()  # of each pool
    strategy: str = ""  # ddp | fsdp
    device_bytes: int = 0  # of a worker: its GPU, or its share of a node; 0: not known
    planned_bytes: int = 0  # of these
    hourly: float | None = None  # dollars; None: a price is not known
    hours: Span | None = None  # None: not predicted
    dollars: Span | None = None
    behind: str = ""  # of spot pools: the on-demand pool that takes over
    behind_hourly: float | None = None


def fit(pools: Sequence[Pool], need: Need) -> tuple[Fit, ...]:
    """Each pool, and pools of one kind of GPU together where none alone has room; those that hold the job first, the
    cheapest before the others, then those that do not in their order."""
    alone = [_fit((pool,), need) for pool in pools]
    mixed = [_fit(group, need) for group in groups(pools, need) if not any(_holds((pool,), need) for pool in group)]
    holding = [each for each in alone + mixed if each.holds]
    holding = [_with_behind(each, holding, pools) for each in holding]
    return (*sorted(holding, key=_dear), *(each for each in alone if not each.holds))


def require_room(cluster: str, pools: Sequence[Pool], need: Need) -> None:
    """Raise NoCapacity, with why each pool is too small and the largest that fits, where nothing ever holds the job."""
    fits = fit(pools, need)
    if pools and not any(each.holds for each in fits):
        reasons = "; ".join(f"{each.pools[0]}: {each.why}" for each in fits)
        raise NoCapacity(f"no pool of cluster {cluster} can ever hold this job: {reasons}", next_step(pools, need))


def _holds(pools: Sequence[Pool], need: Need) -> bool:
    return room(pools, need, need.most) >= need.fewest


def _fit(pools: Sequence[Pool], need: Need) -> Fit:
    names = tuple(pool.name for pool in pools)
    workers = room(pools, need, need.most)
    if workers < need.fewest:
        return Fit(names, False, why_not(pools[0], need))
    used = _share_out(pools, need, workers)
    each = min((_device_bytes(pool, need, workers) for pool, _ in used), default=0)
    boots = any(nodes > pool.fewest for pool, nodes in used)
    taken = hours(need, [pool for pool, _ in used], workers, boots, _cpus_each(used, need, workers))
    hourly = _hourly(used)
    return Fit(
        pools=tuple(pool.name for pool, _ in used),
        holds=True,
        why=_remark(need, workers, each),
        market=" + ".join(dict.fromkeys(pool.market for pool, _ in used)),
        workers=workers,
        nodes=tuple(nodes for _, nodes in used),
        strategy=need.strategy(workers, each),
        device_bytes=each,
        planned_bytes=need.planned_bytes(workers, each),
        hourly=hourly,
        hours=taken,
        dollars=None if taken is None or hourly is None else taken.times(hourly),
    )


def _share_out(pools: Sequence[Pool], need: Need, workers: int) -> list[tuple[Pool, int]]:
    """Nodes of each pool, filled from the one whose workers are the cheapest."""

    def price(pool: Pool) -> float:
        return float("inf") if pool.price is None else pool.price / slots(pool, need, workers)

    used, left = [], workers
    for pool in sorted((pool for pool in pools if slots(pool, need, workers)), key=price):
        nodes = min(pool.most, -(-left // slots(pool, need, workers)))
        if nodes:
            used.append((pool, nodes))
            left = max(0, left - nodes * slots(pool, need, workers))
    return used


def _device_bytes(pool: Pool, need: Need, workers: int) -> int:
    """Bytes of a worker's GPU, or its share of a node; 0: not known."""
    if need.gpu:
        return int(pool.gpu_gib * GIB)
    return int(pool.memory_gib * GIB * USABLE) // min(workers, slots(pool, need, workers))


def _cpus_each(used: Iterable[tuple[Pool, int]], need: Need, workers: int) -> int:
    return min(pool.cpus // min(workers, slots(pool, need, workers)) for pool, _ in used)


def _hourly(used: Iterable[tuple[Pool, int]]) -> float | None:
    costs = [None if pool.price is None else pool.price * nodes for pool, nodes in used]
    return None if None in costs else round(sum(cost or 0.0 for cost in costs), 4)


def _remark(need: Need, workers: int, each: int) -> str:
    planned = need.planned_bytes(workers, each)
    unit = "a GPU" if need.gpu else "a worker"
    if not each:
        return f"whether {planned / GIB:.1f} GiB {unit} fit is not known here"
    if planned <= each * TIGHT or (planned <= each and not need.gpu):
        return ""
    if need.at_most:
        return f"at most {planned / GIB:.1f} GiB {unit}"
    if planned <= each:
        return f"tight: {planned / GIB:.1f} of {each / GIB:.1f} GiB {unit}"
    return f"in smaller micro-batches: {planned / GIB:.1f} GiB {unit} are planned, it has {each / GIB:.1f}"


def _with_behind(each: Fit, holding: Sequence[Fit], pools: Sequence[Pool]) -> Fit:
    """A fit on spot nodes, with the cheapest on-demand pool of the same kind that can take over."""
    by_name = {pool.name: pool for pool in pools}
    if not any(by_name[name].spot for name in each.pools):
        return each
    kind = by_name[each.pools[0]].gpu
    there = [
        other
        for other in holding
        if not any(by_name[name].spot for name in other.pools) and by_name[other.pools[0]].gpu == kind
    ]
    if not there:
        return each
    behind = min(there, key=_dear)
    return replace(each, behind=" + ".join(behind.pools), behind_hourly=behind.hourly)


def _dear(each: Fit) -> tuple[float, float]:
    """Dollars in all, then an hour; what is not known last."""
    unknown = float("inf")
    return (
        unknown if each.dollars is None else each.dollars.mid,
        unknown if each.hourly is None else each.hourly,
    )
