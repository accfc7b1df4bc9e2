"""Nodes that may come are counted beside those that are there, whoever tells of them; what is missing is told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import ray

from raysft import capacity
from raysft.capacity import CAPACITY_KEY, NAMESPACE, POOLS, POOLS_KEY, Node, find_capacity, grows, pools_text
from raysft.cluster.pools.catalogue import Pool
from raysft.cluster.providers import shared
from raysft.config.sections import TrainSection
from raysft.errors import NoCapacity
from raysft.preparation import engine
from raysft.session import Resources, find_resources
from raysft.shortage import Asked, dump

GIB = 2**30


def pool(name: str, cpus: int, gpus: int, most: int) -> Pool:
    return Pool(name, "", "spot", cpus, 64.0, gpus, "L4" if gpus else "", 22.0 if gpus else 0.0, 1.0, 0, most)


def node(pool: str, cpus: float, gpus: float = 0.0, alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    return {"Alive": alive, "Resources": resources, "Labels": {"raysft.io/pool": pool} if pool else {}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, str]:
    """Ray's KV."""
    kept: dict[bytes, str] = {}
    monkeypatch.delenv(POOLS, raising=False)
    monkeypatch.setattr(capacity, "_kv", lambda key: kept.get(key, ""))
    return kept


def there(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any]) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: list(nodes))


def test_of_each_pool_those_that_are_not_there_may_come(
    monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str]
) -> None:
    there(monkeypatch, node("", 0), node("gpu", 8, 1), node("gpu", 8, 1, alive=False), node("cpu", 4))
    told[POOLS_KEY] = pools_text([pool("gpu", 8, 1, 3), pool("cpu", 4, 0, 1)])
    found = find_capacity()
    assert list(found.there) == [Node(0, 0), Node(8, 1), Node(4, 0)]
    assert list(found.coming) == [Node(8, 1, 64 * GIB)] * 2
    assert grows()


def test_the_environment_counts_before_the_store(monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str]) -> None:
    there(monkeypatch)
    told[POOLS_KEY] = pools_text([pool("gpu", 8, 1, 3)])
    monkeypatch.setenv(POOLS, pools_text([pool("other", 2, 0, 1)]))
    assert [str(each) for each in find_capacity().nodes] == ["2 CPU"]


@pytest.mark.parametrize("text", ["", "no JSON", "{}", '[{"name": "gpu"}]', "[3]"])
def test_what_is_no_list_of_pools_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str], text: str
) -> None:
    there(monkeypatch, node("", 2))
    told[POOLS_KEY] = text
    assert not grows()
    assert find_capacity().pairs == [(2, 0)]


def test_workers_are_shared_out_over_nodes_that_may_come(
    monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str]
) -> None:
    there(monkeypatch, node("", 0))
    told[POOLS_KEY] = pools_text([pool("gpu", 8, 2, 2)])
    assert find_resources(TrainSection(workers=4)) == Resources(4, 4, True, 0, 4, 4)
    with pytest.raises(NoCapacity) as caught:
        find_resources(TrainSection(workers=5, device="gpu"))
    assert "train.workers 5 x 1 GPU = 5 GPUs; the cluster can grow to 4 (3 node(s)" in caught.value.message
    assert "--set train.workers=4 or fewer" in caught.value.next_step


def test_what_is_waited_for_is_told_with_the_words_of_the_cloud(
    monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str]
) -> None:
    there(monkeypatch, node("", 0))
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.0})
    told[POOLS_KEY] = pools_text([pool("gpu", 8, 1, 4)])
    bundle = Resources(2, 8, True).bundle()
    assert capacity.waiting_words(2, bundle) == (
        "waiting for 2 workers x 1 GPU: 0 of 2 GPUs are free; the cluster may grow by 4 nodes"
    )
    record = [
        Asked(0, "steady", "steady", 1, 1),
        Asked(0, "gpu", "gpu", 2, 0, "InsufficientInstanceCapacity", 600),
    ]
    told[CAPACITY_KEY] = dump(record)
    monkeypatch.setattr(time, "time", lambda: 120.0)
    assert capacity.shortages() == ["pool gpu has no capacity since 2 min; gpu next in 8 min"]
    assert capacity.waiting_words(2, bundle).endswith("; pool gpu has no capacity since 2 min; gpu next in 8 min")
    told[CAPACITY_KEY] = dump([*record, Asked(110, "gpu", "gpu", 2, 2)])
    assert capacity.shortages() == []


def test_providers_write_what_is_read_here(monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str]) -> None:
    class Store:
        def internal_kv_put(self, key: bytes, value: bytes, overwrite: bool, namespace: bytes, _: int) -> None:
            assert overwrite and namespace == NAMESPACE
            told[key] = value.decode()

    monkeypatch.setattr(shared, "_client", lambda _: Store())
    there(monkeypatch)
    pool = {"name": "gpu", "resources": {"CPU": 8, "GPU": 1, "memory": 4 * GIB}, "max_workers": 2}
    assert shared.publish_pools([pool], "127.0.0.1:1")
    assert list(find_capacity().coming) == [Node(8, 1, 4 * GIB)] * 2
    assert not shared.publish_pools([pool])  # no autoscaler: nothing that could grow
    shared.publish([Asked(0, "gpu", "gpu", 2, 1, "none left", 60)], "127.0.0.1:1")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert capacity.shortages() == ["pool gpu cannot be used since 0 s (none left); gpu next in 1 min"]


@pytest.mark.parametrize(("cpus", "coming", "actors"), [(6, 0, 6), (6, 2, 6), (0, 2, 8), (0, 0, 0)])
def test_data_is_prepared_where_there_are_cpus_or_will_be(
    monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str], cpus: float, coming: int, actors: int
) -> None:
    there(monkeypatch, node("", cpus))
    told[POOLS_KEY] = pools_text([pool("gpu", 8, 1, coming)])
    assert engine.actors() == actors


def test_many_nodes_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch, told: dict[bytes, str]) -> None:
    there(monkeypatch, node("", 0))
    told[POOLS_KEY] = json.dumps([{"name": "gpu", "cpus": 8, "gpus": 1, "most": 40}])
    with pytest.raises(NoCapacity, match=r"41 node\(s\) with 1 x \(0 CPU\), 40 x \(8 CPU \+ 1 GPU\)"):
        find_resources(TrainSection(workers=41, device="gpu"))
