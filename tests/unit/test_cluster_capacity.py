"""What pools can hold: by hand, and what must be true of any pools and any job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.cluster.pools.capacity import Fit, fit, require_room
from raysft.cluster.pools.catalogue import Pool
from raysft.cluster.pools.need import Memory, Need
from raysft.cluster.pools.room import can_hold, groups, largest, room, slots
from raysft.errors import NoCapacity

GIB = 2**30


def pool(name: str = "l4", gpus: int = 1, **facts: Any) -> Pool:
    """Nodes of one L4, four of them; or of no GPUs."""
    known: dict[str, Any] = {
        "machine": "g6.xlarge",
        "market": "on-demand",
        "cpus": 4,
        "memory_gib": 16.0,
        "gpu": "L4" if gpus else "",
        "gpu_gib": 22.0 if gpus else 0.0,
        "price": 0.8,
        "fewest": 0,
        "most": 4,
        "tflops": 121.0 if gpus else 0.0,
    }
    return Pool(name=name, gpus=gpus, **{**known, **facts})


def need(fewest: int = 1, most: int = 0, gib: float = 10, least: float = 0, gpu: bool = True, **facts: Any) -> Need:
    """Of so many GiB a worker, by ddp."""
    return Need(
        fewest=fewest,
        most=most or fewest,
        gpu=gpu,
        strategies=facts.pop("strategies", ("ddp",)),
        planned=facts.pop("planned", Memory(int(gib * GIB))),
        least=facts.pop("smallest", Memory(int((least or gib) * GIB))),
        **{"flops": 1e16, "cpu_flops": 1e10, **facts},
    )


def shared(whole: float, beside: float, split: float) -> Memory:
    return Memory(int(whole * GIB), int(beside * GIB), int(split * GIB))


def refused(pools: Sequence[Pool], job: Need) -> str:
    with pytest.raises(NoCapacity) as caught:
        require_room("west", pools, job)
    assert caught.value.exit_code == 5
    return str(caught.value)


# --- by hand


def test_a_job_stands_on_as_many_nodes_as_it_has_workers_for() -> None:
    (one,) = fit([pool(gpus=4, cpus=48, price=5.0)], need(6))
    assert (one.holds, one.workers, one.nodes, one.hourly, one.why) == (True, 6, (2,), 10.0, "")
    assert one.strategy == "ddp" and one.planned_bytes == 10 * GIB and one.device_bytes == 22 * GIB


def test_a_range_of_workers_takes_as_many_as_there_are_gpus() -> None:
    (one,) = fit([pool(most=3)], need(2, 8))
    assert (one.workers, one.nodes) == (3, (3,))


def test_cpus_bound_the_workers_of_a_node_with_many_gpus() -> None:
    assert room([pool(gpus=8, cpus=3, most=2)], need(1)) == 6


REASONS = [
    (pool(), need(gib=31), "needs 31.0 GiB a GPU, L4 has 22"),
    (pool(), need(gib=22.001), "needs 22.1 GiB a GPU, L4 has 22"),  # rounded up, so that it never says 22 of 22
    (pool(), need(8), "needs 8 workers x 1 GPU; most 4 nodes x 1 GPU"),
    (pool(gpus=8, cpus=96, most=1), need(9), "needs 9 workers x 1 GPU; most 1 node x 8 GPUs"),
    (pool(gpus=0), need(), "has no GPUs"),
    (pool(), need(host=20 * GIB), "needs 20.0 GiB of memory a worker beside a GPU, g6.xlarge has 16"),
    (
        pool(gpus=4, most=2),
        need(4, host=10 * GIB),
        "needs 4 workers x 1 GPU; most 2 nodes x 4 GPUs, of whose 16 GiB 1 worker takes all",
    ),
    (pool(gpus=0), need(gib=20, gpu=False), "needs 20.0 GiB of memory a worker, g6.xlarge has 16"),
    (
        pool(gpus=0, most=2),
        need(5, gib=7, gpu=False),
        "needs 5 workers x 1 CPU; most 2 nodes x 4 CPUs, of whose 16 GiB 2 workers take all",
    ),
]


@pytest.mark.parametrize(("there", "asked", "words"), REASONS, ids=[words for _, _, words in REASONS])
def test_the_reason_why_not_is_arithmetic(there: Pool, asked: Need, words: str) -> None:
    (found,) = fit([there], asked)
    assert not found.holds and found.why == words


def test_less_than_planned_is_enough_since_micro_batches_shrink() -> None:
    (one,) = fit([pool()], need(gib=40, least=21))
    assert one.holds and one.why == "in smaller micro-batches: 40.0 GiB a GPU are planned, it has 22.0"
    (tight,) = fit([pool()], need(gib=20))
    assert tight.holds and tight.why == "tight: 20.0 of 22.0 GiB a GPU"


def test_what_is_not_known_refuses_nothing() -> None:
    (unknown,) = fit([pool(gpu="MI300X", gpu_gib=0.0, tflops=0.0, memory_gib=0.0)], need(gib=500))
    assert unknown.holds and unknown.why == "whether 500.0 GiB a GPU fit is not known here"
    assert unknown.hours is None and unknown.dollars is None and unknown.hourly == 0.8
    (bound,) = fit([pool()], need(gib=31, at_most=True))
    assert bound.holds and bound.why == "at most 31.0 GiB a GPU"


def test_workers_that_share_a_model_fit_where_one_does_not() -> None:
    """Whole 40 GiB; shared 8 + 32 / workers: 2 need 24, 3 need 18.7."""
    both = shared(40, 8, 32)
    job = need(2, 4, strategies=("ddp", "fsdp"), planned=both, smallest=both)
    (one,) = fit([pool(most=4)], job)
    assert (one.workers, one.strategy, one.planned_bytes) == (4, "fsdp", 16 * GIB)
    assert "It fits from 3 workers that share the model, --set train.workers=3, to 4." in refused(
        [pool()], replace(job, most=2)
    )


def test_where_the_run_chooses_the_whole_model_is_taken_if_it_fits() -> None:
    both = shared(10, 8, 2)
    (one,) = fit([pool()], need(2, strategies=("ddp", "fsdp"), planned=both, smallest=both))
    assert (one.strategy, one.planned_bytes) == ("ddp", 10 * GIB)


def test_pools_of_one_kind_hold_a_job_together() -> None:
    pools = [pool("spot", market="spot", price=0.3), pool("behind", most=2), pool("other", gpu="T4", gpu_gib=14.6)]
    mixed, *alone = fit(pools, need(6))
    assert (mixed.pools, mixed.nodes, mixed.market) == (("spot", "behind"), (4, 2), "spot + on-demand")
    assert mixed.hourly == pytest.approx(4 * 0.3 + 2 * 0.8)
    assert [each.holds for each in alone] == [False] * 3
    assert [each.pools for each in fit(pools, need(4))] == [("spot",), ("other",), ("behind",)]


def test_the_cheapest_comes_first_and_spot_has_on_demand_behind_it() -> None:
    pools = [
        pool("dear", gpu="A100", gpu_gib=39.4, tflops=312.0, price=4.0),
        pool("od", price=0.9),
        pool("small", gpus=0),
        pool("spot", market="spot", price=0.3),
        pool("od-too", price=0.8),
    ]
    found = fit(pools, need())
    assert [each.pools[0] for each in found] == ["spot", "od-too", "od", "dear", "small"]
    assert (found[0].behind, found[0].behind_hourly) == ("od-too", 0.8)
    assert found[1].behind == "" and not found[-1].holds


def test_a_slow_machine_that_is_cheap_by_the_hour_is_not_cheap() -> None:
    slow, fast = pool("slow", gpu="T4", tflops=65.0, price=0.6), pool("fast", tflops=650.0, price=1.0)
    assert [each.pools[0] for each in fit([slow, fast], need(flops=1e19))] == ["fast", "slow"]


def test_hours_and_dollars_by_hand() -> None:
    """1e18 operations on 2 x 100 TFLOP/s; mid: 25% of it, 90% of that with two, 5 minutes and 35 s before."""
    (one,) = fit([pool(tflops=100.0, price=2.0)], need(2, flops=1e18))
    assert one.hours is not None and one.dollars is not None
    assert one.hours.mid == pytest.approx((1e18 / (2e14 * 0.25 * 0.9) + 300 + 35) / 3600, abs=1e-4)
    assert one.hours.low == pytest.approx((1e18 / (2e14 * 0.35) + 180 + 35) / 3600, abs=1e-4)
    assert one.hours.high == pytest.approx((1e18 / (2e14 * 0.05 * 0.6) + 480 + 35) / 3600, abs=1e-4)
    assert one.dollars.mid == pytest.approx(4 * one.hours.mid, abs=1e-3)
    (compiled,) = fit([pool(tflops=100.0)], need(2, flops=1e18, compiled=True))
    assert compiled.hours is not None and compiled.hours.mid < one.hours.mid


def test_nodes_that_are_always_there_need_no_start() -> None:
    (kept,), (started,) = fit([pool(fewest=1)], need()), fit([pool()], need())
    assert kept.hours is not None and started.hours is not None
    assert started.hours.mid - kept.hours.mid == pytest.approx(300 / 3600, abs=2e-4)


def test_what_is_refused_is_told_with_the_largest_that_fits() -> None:
    told = refused([pool("a"), pool("b", most=2), pool("c", gpus=0)], need(8))
    assert told.splitlines() == [
        "no pool of cluster west can ever hold this job: a: needs 8 workers x 1 GPU; most 4 nodes x 1 GPU; "
        "b: needs 8 workers x 1 GPU; most 2 nodes x 1 GPU; c: has no GPUs",
        "  -> The largest that fits: 6 workers, --set train.workers=6; or raise `most` of a pool.",
    ]


def test_where_no_number_of_workers_helps_the_largest_gpu_is_named() -> None:
    told = refused([pool(), pool("big", gpu="A100", gpu_gib=39.4)], need(gib=60))
    assert "The largest GPU has 39.4 GiB (A100, big). Use model.lora, train.strategy: fsdp with more workers" in told
    both = shared(60, 50, 10)
    told = refused([pool()], need(2, strategies=("fsdp",), planned=both, smallest=both))
    assert "The largest GPU has 22 GiB (L4, l4). Use model.lora, train.activation_checkpointing" in told
    assert "Add a pool with GPUs, or --set train.device=cpu." in refused([pool(gpus=0)], need())


def test_no_pools_refuse_nothing() -> None:
    require_room("here", [], need(99))


# --- of any pools and jobs

KINDS = {"T4": (14.6, 65.0), "L4": (22.0, 121.0), "A100": (39.4, 312.0), "MI300X": (0.0, 0.0)}


@st.composite
def some_pool(draw: st.DrawFn, name: str = "p") -> Pool:
    kind = draw(st.sampled_from(["", *KINDS]))
    gib, tflops = KINDS.get(kind, (0.0, 0.0))
    return pool(
        name,
        gpus=draw(st.integers(1, 8)) if kind else 0,
        gpu=kind,
        gpu_gib=gib,
        tflops=tflops,
        cpus=draw(st.integers(1, 16)),
        memory_gib=float(draw(st.integers(0, 128))),
        price=draw(st.none() | st.floats(0, 50)),
        market=draw(st.sampled_from(["spot", "on-demand"])),
        most=draw(st.integers(1, 6)),
        fewest=draw(st.integers(0, 1)),
    )


@st.composite
def some_pools(draw: st.DrawFn) -> list[Pool]:
    return [draw(some_pool(f"p{index}")) for index in range(draw(st.integers(1, 4)))]


@st.composite
def some_need(draw: st.DrawFn) -> Need:
    fewest = draw(st.integers(1, 12))
    gib = st.integers(1, 60)
    least = shared(draw(gib), draw(gib), draw(gib))
    more = draw(st.floats(1, 3))
    return need(
        fewest,
        fewest + draw(st.integers(0, 6)),
        gpu=draw(st.booleans()),
        strategies=draw(st.sampled_from([("ddp",), ("fsdp",), ("ddp", "fsdp")])),
        smallest=least,
        planned=Memory(*(int(each * more) for each in (least.whole, least.beside, least.split))),
        host=draw(st.integers(0, 40)) * GIB,
        at_most=draw(st.integers(0, 9)) == 0,
        flops=draw(st.floats(0, 1e20)),
    )


def sets(pools: Sequence[Pool], job: Need) -> list[Sequence[Pool]]:
    return [*[(each,) for each in pools], *groups(pools, job)]


@given(some_pools(), some_need())
def test_the_room_is_the_most_workers_that_all_have_their_place_and_memory(pools: list[Pool], job: Need) -> None:
    """Against trying every number of workers."""
    for some in sets(pools, job):
        most = sum(each.most * max(each.cpus, each.gpus) for each in some)
        tried = [w for w in range(1, most + 2) if sum(slots(each, job, w) * each.most for each in some) >= w]
        assert room(some, job) == max(tried, default=0)


@given(some_pools(), some_need())
def test_a_fit_has_a_place_for_every_worker_and_no_node_too_many(pools: list[Pool], job: Need) -> None:
    by_name = {each.name: each for each in pools}
    found = fit(pools, job)
    assert {name for each in found for name in each.pools} == set(by_name)
    for each in (each for each in found if each.holds):
        assert job.fewest <= each.workers <= job.most
        there = [slots(by_name[name], job, each.workers) for name in each.pools]
        places = sum(nodes * some for nodes, some in zip(each.nodes, there, strict=True))
        assert places >= each.workers > places - there[-1]
        assert all(0 < nodes <= by_name[name].most for nodes, name in zip(each.nodes, each.pools, strict=True))
        if not job.at_most and each.device_bytes:
            assert job.least_bytes(each.workers) <= each.device_bytes
        if each.hours is not None:
            assert 0 < each.hours.low <= each.hours.mid <= each.hours.high
    assert [each.holds for each in found] == sorted((each.holds for each in found), reverse=True)


@given(some_pool(), some_need(), st.integers(0, 5), st.integers(0, 4), st.integers(0, 8), st.floats(0, 60))
def test_what_fits_a_pool_fits_a_larger_one(
    small: Pool, job: Need, nodes: int, gpus: int, cpus: int, gib: float
) -> None:
    large = replace(
        small,
        most=small.most + nodes,
        cpus=small.cpus + cpus,
        gpus=small.gpus + gpus if small.gpus else 0,
        gpu_gib=small.gpu_gib + gib if small.gpu_gib else 0.0,
        memory_gib=small.memory_gib + gib if small.memory_gib else 0.0,
    )
    assert fit([small], job)[0].holds <= fit([large], job)[0].holds
    assert room([small], job) <= room([large], job)


@given(some_pools(), some_need(), some_pool("more"))
def test_another_pool_takes_nothing_away(pools: list[Pool], job: Need, more: Pool) -> None:
    assert largest(pools, job) <= largest([*pools, more], job)
    assert any(each.holds for each in fit(pools, job)) <= any(each.holds for each in fit([*pools, more], job))


@given(some_pools(), some_need())
def test_the_largest_that_is_named_fits_and_one_more_does_not(pools: list[Pool], job: Need) -> None:
    most = largest(pools, job)
    if most:
        assert any(each.holds for each in fit(pools, replace(job, fewest=most, most=most)))
    one_more = replace(job, fewest=most + 1, most=most + 1)
    assert not any(each.holds for each in fit(pools, one_more)) and not can_hold(pools, job, most + 1)


@given(some_pools(), some_need())
def test_a_refusal_comes_exactly_where_nothing_holds_and_its_advice_holds(pools: list[Pool], job: Need) -> None:
    holds = any(each.holds for each in fit(pools, job))
    try:
        require_room("west", pools, job)
        refusal = ""
    except NoCapacity as error:
        refusal = error.next_step
        assert all(f"{each.name}: " in error.message for each in pools)
    assert bool(refusal) == (not holds)
    if "--set train.workers=" in refusal:
        workers = int(refusal.partition("train.workers=")[2].split(";")[0].split(",")[0].rstrip("."))
        require_room("west", pools, replace(job, fewest=workers, most=workers))


@given(some_pool(), some_need(), st.floats(0, 10), st.floats(0, 10))
def test_cost_grows_with_the_price(one: Pool, job: Need, price: float, more: float) -> None:
    def cost(dollars: float) -> Fit:
        return fit([replace(one, price=dollars)], job)[0]

    cheap, dear = cost(price), cost(price + more)
    assert cheap.hours == dear.hours
    if cheap.hourly is not None and dear.hourly is not None:
        assert cheap.hourly <= dear.hourly
    if cheap.dollars is not None and dear.dollars is not None:
        assert cheap.dollars.mid <= dear.dollars.mid and cheap.dollars.low <= dear.dollars.low
