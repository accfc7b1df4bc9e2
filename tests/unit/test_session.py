"""Nodes are divided among workers: as many CPUs each as fit, a GPU each where asked or enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.capacity import Capacity
from raysft.capacity import Node as Shape
from raysft.errors import NoCapacity
from raysft.session import Resources, cpus_of, own_python, share_out, share_out_range

Node = tuple[float, float]


@pytest.mark.parametrize(
    ("workers", "device", "nodes", "cpus", "gpu"),
    [
        (1, "auto", [(2, 0)], 2, False),
        (2, "auto", [(8, 0)], 4, False),
        (3, "cpu", [(8, 0)], 2, False),
        (3, "auto", [(4, 0), (2, 0)], 2, False),
        (2, "auto", [(4, 0), (2, 0)], 2, False),
        (1, "auto", [(3.9, 0)], 3, False),
        (2, "auto", [(8, 2)], 4, True),
        (1, "auto", [(8, 2)], 8, True),
        (2, "auto", [(8, 1)], 4, False),
        (2, "cpu", [(8, 2)], 4, False),
        (2, "gpu", [(8, 1), (4, 1)], 4, True),
        (4, "gpu", [(0, 0), (16, 4)], 4, True),
        (2, "gpu", [(16, 1), (2, 1)], 2, True),
    ],
)
def test_what_each_worker_gets(workers: int, device: str, nodes: list[Node], cpus: int, gpu: bool) -> None:
    found = share_out(workers, device, nodes)
    assert found == Resources(workers, cpus, gpu)
    assert found.bundle() == ({"CPU": cpus, "GPU": 1} if gpu else {"CPU": cpus})


L4, P4D, PLAIN, HEAD = Shape(4, 1), Shape(96, 8), Shape(8, 0), Shape(0, 0)


@pytest.mark.parametrize(
    ("workers", "gpu", "there", "coming", "cpus"),
    [
        (1, True, [HEAD], [L4] * 8 + [P4D], 4),  # and not 96, which only the largest machine has
        (1, True, [HEAD], [P4D], 12),
        (9, True, [HEAD], [L4] * 8 + [P4D], 4),
        (1, True, [HEAD, Shape(16, 1)], [L4], 16),  # it is there
        (2, True, [HEAD, L4], [L4, P4D], 4),
        (1, False, [HEAD], [L4, PLAIN, P4D], 8),  # GPUs are not bought for their CPUs
        (1, False, [HEAD], [L4, P4D], 4),
        (1, False, [Shape(2, 0)], [P4D], 2),
        (1, False, [Shape(2, 0)], [], 2),
    ],
)
def test_nodes_that_have_to_come_are_small_ones(
    workers: int, gpu: bool, there: list[Shape], coming: list[Shape], cpus: int
) -> None:
    capacity = Capacity(there, coming)
    found = share_out(workers, "gpu" if gpu else "cpu", capacity.pairs)
    assert cpus_of(found, capacity) == cpus


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 9), st.just(0)), max_size=4))
def test_no_more_cpus_could_be_given_and_none_are_given_twice(workers: int, nodes: list[tuple[int, int]]) -> None:
    def fits(cpus: int) -> bool:
        return sum(cpu // cpus for cpu, _ in nodes) >= workers

    given_nodes = [(float(cpu), float(gpu)) for cpu, gpu in nodes]
    if fits(1):
        found = share_out(workers, "cpu", given_nodes)
        assert fits(found.cpus) and not fits(found.cpus + 1)
    else:
        with pytest.raises(NoCapacity):
            share_out(workers, "cpu", given_nodes)


def test_too_few_gpus_are_refused_with_the_numbers() -> None:
    with pytest.raises(NoCapacity) as caught:
        share_out(3, "gpu", [(8, 1), (8, 1)])
    assert "train.workers 3 x 1 GPU = 3 GPUs; the cluster has 2" in caught.value.message
    assert "2 node(s) with 8 CPU + 1 GPU, 8 CPU + 1 GPU" in caught.value.message
    assert "--set train.device=cpu" in caught.value.next_step


@pytest.mark.parametrize(("nodes", "total"), [([(2, 0)], 2), ([(1, 0), (1, 0)], 2), ([], 0), ([(0.5, 0)], 0)])
def test_too_few_cpus_are_refused_with_the_numbers(nodes: list[Node], total: int) -> None:
    with pytest.raises(NoCapacity) as caught:
        share_out(5, "auto", nodes)
    assert f"train.workers 5 x 1 CPU = 5 CPUs; the cluster has {total}" in caught.value.message
    assert f"--set train.workers={max(1, total)}" in caught.value.next_step


@pytest.mark.parametrize(
    ("fewest", "most", "device", "nodes", "expected"),
    [
        (1, 4, "cpu", [(2, 0)], Resources(2, 1, False)),
        (1, 2, "cpu", [(8, 0)], Resources(2, 4, False)),
        (2, 8, "cpu", [(1, 0), (1, 0), (1, 0)], Resources(3, 1, False)),
        (1, 4, "auto", [(16, 1)], Resources(1, 16, True)),  # a GPU before more workers on CPUs
        (2, 4, "auto", [(16, 1)], Resources(4, 4, False)),
        (1, 4096, "gpu", [(8, 2), (8, 1)], Resources(3, 4, True)),
        (2, 2, "auto", [(8, 2)], Resources(2, 4, True)),
    ],
)
def test_of_a_range_as_many_workers_as_fit(
    fewest: int, most: int, device: str, nodes: list[Node], expected: Resources
) -> None:
    assert share_out_range(fewest, most, device, nodes) == expected


def test_fewer_than_the_fewest_are_refused_with_the_numbers() -> None:
    with pytest.raises(NoCapacity, match=r"train\.workers 3 x 1 CPU = 3 CPUs; the cluster has 2"):
        share_out_range(3, 5, "auto", [(2, 0)])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/ann/.venv/bin/python", {}),
        (
            "/home/ann's work/.venv/bin/python",
            {"runtime_env": {"py_executable": """'/home/ann'"'"'s work/.venv/bin/python'"""}},
        ),
    ],
)
def test_ray_gets_our_python_as_a_shell_reads_it(monkeypatch: pytest.MonkeyPatch, path: str, expected: object) -> None:
    monkeypatch.setattr("sys.executable", path)
    assert own_python() == expected
