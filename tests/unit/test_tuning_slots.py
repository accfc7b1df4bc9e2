"""As many folds train at a time as have room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from raysft.capacity import Capacity, Node
from raysft.config.sections import TrainSection
from raysft.errors import NoCapacity
from raysft.session import Resources
from raysft.tuning import slots
from raysft.tuning.slots import MOST_ON_A_GPU, Slots, find_slots, slots_on_cpus

GB = 2**30


@pytest.mark.parametrize(
    ("cpus", "memory", "need", "most", "count", "each"),
    [
        ([4.0], [0.0], 0, 100, 4, 1),
        ([4.0], [8.0], 0, 100, 4, 1),  # what a fold needs is not known
        ([4.0], [8.0], 3, 100, 2, 2),  # two fit into memory, and have two CPUs each
        ([4.0], [8.0], 9, 100, 1, 4),  # none fits: one is tried
        ([4.0], [0.0], 9, 100, 4, 1),  # Ray does not tell the memory
        ([4.0], [8.0], 1, 3, 3, 1),
        ([4.0], [8.0], 1, 2, 2, 2),
        ([8.0], [80.0], 1, 1, 1, 8),
        ([4.0, 8.0], [80.0, 80.0], 1, 3, 3, 4),
        ([4.0, 8.0], [80.0, 80.0], 1, 100, 12, 1),
        ([2.5, 0.5], [8.0, 8.0], 1, 100, 2, 1),
    ],
)
def test_a_cpu_each_as_far_as_memory_goes_and_more_where_folds_are_few(
    cpus: list[float], memory: list[float], need: int, most: int, count: int, each: int
) -> None:
    assert slots_on_cpus(cpus, [some * GB for some in memory], need * GB, most) == Slots(count, each, gpu=False)


def test_without_a_cpu_nothing_trains() -> None:
    with pytest.raises(NoCapacity, match="no CPU"):
        slots_on_cpus([0.5, 0.0], [8.0, 8.0], 1, 4)
    with pytest.raises(NoCapacity, match="no CPU"):
        slots_on_cpus([], [], 1, 4)


@given(
    st.lists(st.tuples(st.integers(0, 16), st.integers(0, 64)), min_size=1, max_size=5),
    st.integers(0, 8),
    st.integers(1, 40),
)
def test_all_slots_stand_on_the_nodes_at_once(nodes: list[tuple[int, int]], need: int, most: int) -> None:
    cpus, memory = [float(cpu) for cpu, _ in nodes], [float(some) for _, some in nodes]
    if not any(cpus):
        return
    found = slots_on_cpus(cpus, memory, need, most)
    assert 1 <= found.count <= most
    assert sum(int(cpu // found.cpus) for cpu in cpus) >= found.count
    if found.cpus < max(cpus):
        assert sum(int(cpu // (found.cpus + 1)) for cpu in cpus) < found.count  # no CPU lies idle for want of asking


def cluster(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float], gpu_bytes: int = 80 * GB) -> None:
    found = [{"Alive": True, "Resources": node} for node in nodes]
    found.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 1e12}})
    monkeypatch.setattr(ray, "nodes", lambda: found)
    monkeypatch.setattr(slots, "gpu_memory", lambda: gpu_bytes)
    monkeypatch.setattr(slots, "wait_for_room", lambda *_: None)


TRAIN = TrainSection()


@pytest.mark.parametrize(
    ("nodes", "need", "most", "expected"),
    [
        ([{"CPU": 16.0, "GPU": 1.0}], 0, 100, Slots(1, 16, True, 1.0)),  # what a fold needs is not known
        ([{"CPU": 16.0, "GPU": 1.0}], 30 * GB, 100, Slots(2, 8, True, 0.5)),
        ([{"CPU": 16.0, "GPU": 1.0}], 1 * GB, 100, Slots(MOST_ON_A_GPU, 4, True, 0.25)),
        ([{"CPU": 16.0, "GPU": 1.0}], 90 * GB, 100, Slots(1, 16, True, 1.0)),
        ([{"CPU": 16.0, "GPU": 1.0}], 1 * GB, 2, Slots(2, 8, True, 0.5)),
        ([{"CPU": 16.0, "GPU": 8.0}], 1 * GB, 100, Slots(16, 1, True, 0.5)),  # a CPU for each fold
        ([{"CPU": 64.0, "GPU": 8.0}], 1 * GB, 5, Slots(5, 8, True, 1.0)),  # rather a GPU each
        ([{"CPU": 16.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 1.0}], 1 * GB, 100, Slots(6, 1, True, 1 / 3)),
        ([{"CPU": 16.0, "GPU": 1.0}, {"CPU": 32.0}], 1 * GB, 100, Slots(4, 4, True, 0.25)),
    ],
)
def test_several_folds_share_a_gpu_that_holds_them(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], need: int, most: int, expected: Slots
) -> None:
    cluster(monkeypatch, *nodes)
    assert find_slots(TRAIN, need, most) == expected


def test_who_asks_for_cpus_gets_them_and_who_asks_for_gpus_is_told_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = {"CPU": 4.0, "memory": 8.0 * GB}
    cluster(monkeypatch, {**node, "GPU": 1.0})
    assert find_slots(replace_device("cpu"), 3 * GB, 100) == Slots(2, 2, gpu=False)
    cluster(monkeypatch, node)
    assert find_slots(TRAIN, 3 * GB, 100) == Slots(2, 2, gpu=False)
    with pytest.raises(NoCapacity, match="the cluster has 0"):
        find_slots(replace_device("gpu"), 3 * GB, 100)


@pytest.mark.parametrize(
    ("there", "coming", "count"),
    [
        ([Node(2, 0)], [Node(4, 0), Node(16, 1)], 6),  # GPUs are not bought for their CPUs
        ([Node(2, 1)], [Node(4, 0)], 6),  # those that are there compute
        ([Node(0, 0)], [Node(16, 1)], 16),  # there are no others
    ],
)
def test_which_nodes_are_asked_for_cpus(
    monkeypatch: pytest.MonkeyPatch, there: list[Node], coming: list[Node], count: int
) -> None:
    cluster(monkeypatch)
    monkeypatch.setattr(slots, "find_capacity", lambda: Capacity(there, coming))
    assert find_slots(replace_device("cpu"), 0, 100) == Slots(count, 1, gpu=False)


def replace_device(device: str) -> TrainSection:
    return TRAIN.model_copy(update={"device": device})


@pytest.mark.parametrize(
    ("found", "nodes", "most", "count"),
    [
        (Resources(2, 2, False), [{"CPU": 8.0}], 100, 2),
        (Resources(2, 2, False), [{"CPU": 8.0}, {"CPU": 3.0}], 100, 2),
        (Resources(2, 2, False), [{"CPU": 8.0}, {"CPU": 5.0}], 100, 3),
        (Resources(2, 2, False), [{"CPU": 8.0}], 1, 1),
        (Resources(2, 4, True), [{"CPU": 64.0, "GPU": 5.0}], 100, 2),
        (Resources(4, 4, True), [{"CPU": 64.0, "GPU": 2.0}], 100, 1),
    ],
)
def test_groups_of_workers_stand_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, found: Resources, nodes: list[dict[str, float]], most: int, count: int
) -> None:
    cluster(monkeypatch, *nodes)
    monkeypatch.setattr(slots, "find_resources", lambda _: found)
    monkeypatch.setattr(slots, "hold", lambda found, *_: found)
    made = find_slots(TRAIN, 0, most, several=True)
    assert made == Slots(count, found.cpus, found.gpu, 1.0, found.workers, found)
    assert made.bundle() == {"node:__internal_head__": 0.001}  # its process only waits for them


def test_what_ray_is_asked_for() -> None:
    cpus: dict[str, Any] = Slots(3, 2, gpu=False).bundle()
    assert cpus == {"cpu": 2}
    assert replace(Slots(3, 2, gpu=True), share=0.5).bundle() == {"cpu": 2, "gpu": 0.5}


@pytest.mark.parametrize(
    ("nodes", "found", "count", "cpus"),
    [
        # As many CPUs as fit for two workers alone would leave six GPUs without one.
        ([{"CPU": 96.0, "GPU": 8.0}], Resources(2, 48, True), 4, 12),
        ([{"CPU": 96.0, "GPU": 8.0}] * 2, Resources(2, 96, True), 8, 12),
        ([{"CPU": 8.0}, {"CPU": 32.0, "GPU": 4.0}], Resources(2, 16, True), 2, 8),
        ([{"CPU": 8.0}], Resources(2, 4, False), 1, 4),
    ],
)
def test_workers_that_share_a_fold_leave_each_gpu_its_share_of_the_cpus(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], found: Resources, count: int, cpus: int
) -> None:
    cluster(monkeypatch, *nodes)
    monkeypatch.setattr(slots, "find_resources", lambda _: found)
    monkeypatch.setattr(slots, "hold", lambda found, *_: found)
    several = find_slots(TrainSection(workers=2), 0, 100, several=True)
    assert (several.count, several.cpus, several.resources.cpus) == (count, cpus, cpus)
