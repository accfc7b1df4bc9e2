"""Why a pool cannot hold a job, and what to do about it, in words for people."""

from __future__ import annotations

from collections.abc import Sequence

from raysft.cluster.pools.catalogue import Pool
from raysft.cluster.pools.need import Need
from raysft.cluster.pools.room import GIB, can_hold, largest, slots, slots_by_count


def why_not(pool: Pool, need: Need) -> str:
    """Why a pool alone cannot hold a job."""
    if need.gpu and not pool.gpus:
        return "has no GPUs"
    count = slots_by_count(pool, need)
    if count == 0:
        return f"a node has no CPU for each worker ({pool.cpus} CPUs)"
    workers = min(need.most, max(need.fewest, count * pool.most))
    least = need.least_bytes(workers)
    if need.gpu and not need.at_most and pool.gpu_gib and least > pool.gpu_gib * GIB:
        return f"needs {_least(least)} GiB a GPU, {pool.gpu} has {pool.gpu_gib:g}"
    each, of = (need.host, " beside a GPU") if need.gpu else (least, "")
    if slots(pool, need, workers) == 0:
        return f"needs {_least(each)} GiB of memory a worker{of}, {_node(pool)} has {pool.memory_gib:g}"
    unit, there = ("GPU", pool.gpus) if need.gpu else ("CPU", pool.cpus)
    fitting = slots(pool, need, workers)
    limit = f", of whose {pool.memory_gib:g} GiB {_workers(fitting)} take{'s' * (fitting == 1)} all"
    return (
        f"needs {need.fewest} workers x 1 {unit}; most {pool.most} node{'s' * (pool.most != 1)} x {there} {unit}"
        f"{'s' * (there != 1)}{limit if fitting < count else ''}"
    )


def next_step(pools: Sequence[Pool], need: Need) -> str:
    most = largest(pools, need)
    if not most:
        return _smaller(pools, need)
    if most < need.fewest:
        return f"The largest that fits: {_workers(most)}, --set train.workers={most}; or raise `most` of a pool."
    few = next(some for some in range(need.most + 1, most + 1) if can_hold(pools, need, some))
    return f"It fits from {few} workers that share the model, --set train.workers={few}, to {most}."


def _smaller(pools: Sequence[Pool], need: Need) -> str:
    """What to do where no number of workers helps."""
    with_gpus = [pool for pool in pools if pool.gpus]
    if need.gpu and not with_gpus:
        return "Add a pool with GPUs, or --set train.device=cpu."
    unit = "GPU" if need.gpu else "node"
    sizes = [(pool.gpu_gib if need.gpu else pool.memory_gib, pool.gpu or pool.machine, pool) for pool in pools]
    gib, kind, pool = max(sizes, key=lambda each: each[0])
    share = "" if "fsdp" in need.strategies else " train.strategy: fsdp with more workers,"
    return (
        f"The largest {unit} has {gib:g} GiB ({kind or 'of pool'}, {pool.name}). Use model.lora,{share} "
        f"train.activation_checkpointing: true, a smaller model.base or model.max_length, or a pool of larger {unit}s."
    )


def _least(least: int) -> str:
    return f"{-(-least * 10 // GIB) / 10:.1f}"  # rounded up: what is refused never reads as what there is


def _node(pool: Pool) -> str:
    return pool.machine or "a node"


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"
