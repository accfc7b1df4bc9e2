"""Which pool is asked next, what is written of it, and what people are told."""

from __future__ import annotations

import ast
import importlib.util
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.cluster.providers.failover import Failover, PoolType
from raysft.cluster.providers.fails_over import Listing
from raysft.cluster.providers.launching import HASH_TAG, TYPE_TAG, Launcher, Setting
from raysft.cluster.providers.node_types import pool_type, with_pools
from raysft.cluster.providers.record import append, read
from raysft.shortage import Asked, capacity_words, dump, parse

QUIET_S = 600.0
NONE: Counter[str] = Counter()


def pool(name: str, market: str = "on-demand", most: int = 4, **resources: float) -> PoolType:
    return PoolType(name, market, "L4", {"CPU": 4, "GPU": 1, **resources}, most)


SPOT, STEADY, BEHIND = pool("spot", "spot"), pool("steady"), pool("behind", most=2)
POOLS = (SPOT, STEADY, BEHIND)


def refused(name: str, at: float, wanted: str = "spot", why: str = "InsufficientInstanceCapacity: none") -> Asked:
    return Asked(at, name, wanted, 2, 0, why, at + QUIET_S)


def given_all(name: str, at: float, wanted: str = "spot") -> Asked:
    return Asked(at, name, wanted, 2, 2)


def name_of(found: PoolType | None) -> str | None:
    return found.name if found else None


def test_a_refused_pool_is_left_alone_and_then_asked_again() -> None:
    policy = Failover(POOLS, QUIET_S)
    assert name_of(policy.next_pool("spot", NONE, 0)) == "spot"
    policy.note(refused("spot", 0))
    assert name_of(policy.next_pool("spot", NONE, 1)) == "steady"
    assert name_of(policy.next_pool("spot", NONE, QUIET_S - 1)) == "steady"
    assert name_of(policy.next_pool("spot", NONE, QUIET_S)) == "spot"


def test_where_all_are_refused_the_next_try_is_told() -> None:
    policy = Failover(POOLS, QUIET_S, [refused(each.name, at) for at, each in enumerate(POOLS)])
    assert policy.next_pool("spot", NONE, 10) is None
    assert policy.next_try("spot", NONE, 10) == (SPOT, QUIET_S)
    # Spot has its most nodes, so the next that may be asked is the one that was refused a second later.
    assert policy.next_try("spot", Counter(spot=4), 10) == (STEADY, QUIET_S + 1)
    assert policy.next_try("spot", Counter(spot=4, steady=4, behind=2), 10) is None


def test_what_was_given_ends_the_quiet_time() -> None:
    policy = Failover(POOLS, QUIET_S, [refused("spot", 0), given_all("spot", 5)])
    assert name_of(policy.next_pool("spot", NONE, 6)) == "spot"


def test_pools_ahead_never_stand_in() -> None:
    """What insists on an on-demand node by its label must get one, however much spot there is."""
    policy = Failover(POOLS, QUIET_S, [refused("steady", 0, "steady")])
    assert [each.name for each in policy.choices("steady")] == ["steady", "behind"]
    assert name_of(policy.next_pool("steady", NONE, 1)) == "behind"


@pytest.mark.parametrize(
    ("other", "stands_in"),
    [
        (pool("as-large"), True),
        (pool("larger", CPU=8), True),
        (pool("fewer-cpus", CPU=2), False),
        (pool("more-gpus", GPU=4), False),
        (PoolType("other-kind", "on-demand", "A10G", {"CPU": 4, "GPU": 1}, 4), False),
        (PoolType("no-gpu", "on-demand", "", {"CPU": 64}, 4), False),
    ],
    ids=lambda each: each.name if isinstance(each, PoolType) else "",
)
def test_only_pools_that_hold_the_same_work_stand_in(other: PoolType, stands_in: bool) -> None:
    assert [each.name for each in Failover([SPOT, other], QUIET_S).choices("spot")][1:] == [other.name] * stands_in


def test_a_clock_that_is_set_back_leaves_no_pool_alone_for_long() -> None:
    policy = Failover(POOLS, QUIET_S, [refused("spot", 1_000_000)])
    assert name_of(policy.next_pool("spot", NONE, 10)) == "spot"


class Market:
    """A cloud of which each pool has so many nodes at each moment, asked as the launcher asks."""

    def __init__(self, policy: Failover, has: Mapping[str, int]) -> None:
        self.policy, self.has = policy, has
        self.nodes: Counter[str] = Counter()
        self.last_refusal: dict[str, float] = {}

    def want(self, count: int, now: float) -> None:
        for _ in range(count):
            free = [
                each.name
                for each in self.policy.choices("spot")
                if self.nodes[each.name] < each.most and now >= self.last_refusal.get(each.name, -QUIET_S) + QUIET_S
            ]
            found = self.policy.next_pool("spot", self.nodes, now)
            # Never a pool in its quiet time, and never none while one may be asked; spot as soon as it may be.
            assert name_of(found) == (free[0] if free else None)
            if found is None:
                following = self.policy.next_try("spot", self.nodes, now)
                assert following is None or now < following[1] <= now + QUIET_S
                return
            if self.nodes[found.name] < self.has.get(found.name, 0):
                self.nodes[found.name] += 1
                self.policy.note(Asked(now, found.name, "spot", 1, 1))
            else:
                self.last_refusal[found.name] = now
                self.policy.note(Asked(now, found.name, "spot", 1, 0, "no capacity", now + QUIET_S))
            assert all(self.nodes[each.name] <= each.most for each in POOLS)


steps = st.tuples(
    st.floats(0, 2 * QUIET_S),  # seconds until then
    st.integers(0, 5),  # nodes that are wanted
    st.dictionaries(st.sampled_from([each.name for each in POOLS]), st.integers(0, 6)),  # that the cloud has
    st.booleans(),  # all that are there go
)


@given(st.lists(steps, max_size=20))
def test_whatever_the_cloud_does_the_right_pool_is_asked(story: list[tuple[float, int, dict[str, int], bool]]) -> None:
    market = Market(Failover(POOLS, QUIET_S), {})
    now = 0.0
    for pause, wanted, has, gone in story:
        now += pause
        market.has = has
        if gone:
            market.nodes.clear()
        market.want(wanted, now)
    # It always returns to spot: past the quiet time, when nodes have gone, spot is the first to be asked.
    market.nodes.clear()
    assert name_of(market.policy.next_pool("spot", NONE, now + QUIET_S)) == "spot"


# What people are told.


def test_nothing_is_said_of_pools_that_give() -> None:
    assert capacity_words([], 0) == []
    assert capacity_words([given_all("spot", 0)], 10) == []
    assert capacity_words([refused("spot", 0), given_all("spot", QUIET_S)], QUIET_S + 5) == []


def test_a_shortage_is_told_from_its_beginning_with_what_comes_next() -> None:
    record = [refused("spot", 0), refused("steady", 60), refused("spot", 605)]
    assert capacity_words(record, 725) == ["pool spot has no capacity since 12 min; spot next in 8 min"]
    assert capacity_words(record[:2], 120) == [
        "pool spot has no capacity since 2 min; spot next in 8 min",
        "pool steady has no capacity since 1 min; steady next in 9 min",
    ]


def test_the_pool_that_is_tried_first_again_is_named() -> None:
    early = Asked(0, "steady", "spot", 2, 0, "no capacity", 300)
    assert capacity_words([early, refused("spot", 60)], 120)[1] == (
        "pool spot has no capacity since 1 min; steady next in 3 min"
    )


def test_another_pool_that_gave_is_named() -> None:
    words = capacity_words([refused("spot", 0), given_all("steady", 1)], 180)
    assert words == ["pool spot has no capacity since 3 min; steady gave 2 nodes instead, and spot is next in 7 min"]


def test_a_mistake_is_not_called_a_lack_of_capacity() -> None:
    words = capacity_words([refused("spot", 0, why="InvalidAMIID.NotFound: ami-1 is not there")], 60)
    assert words == [
        "pool spot cannot be used since 1 min (InvalidAMIID.NotFound: ami-1 is not there); spot next in 9 min"
    ]


def test_an_old_shortage_that_is_over_does_not_make_a_new_one_look_older() -> None:
    record = [refused("spot", 0), refused("spot", 50_000)]
    assert capacity_words(record, 50_120)[0].startswith("pool spot has no capacity since 2 min")


# The record.


def test_the_record_is_read_as_it_was_written_and_damage_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a folder with 'quotes'" / "capacity.jsonl"
    assert read(file) == []
    lines = [refused("spot", 0), given_all("steady", 1)]
    for line in lines:
        append(file, line)
    with file.open("a") as handle:
        handle.write('{"time": 3, "pool": "sp\n[]\n{"nonsense": 1}\n')
    assert read(file) == lines == parse(dump(lines).splitlines())


# Node types of the autoscaler's file.


def config(**types: dict[str, Any]) -> dict[str, Any]:
    head = {"head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}}
    return {"head_node_type": "head", "available_node_types": head | types, "provider": {}, "max_workers": 9}


def node_type(name: str, market: str, **more: Any) -> dict[str, Any]:
    labels = {"raysft.io/pool": name, "raysft.io/market": market}
    resources = {"CPU": 4, "GPU": 1, "accelerator_type:L4": 1}
    return {"labels": labels, "resources": resources, "node_config": {"Market": market}, "max_workers": 3, **more}


def test_pools_are_the_node_types_in_order_without_the_head() -> None:
    made = with_pools(config(spot=node_type("spot", "spot"), steady=node_type("steady", "on-demand")))
    first, second = map(pool_type, made["provider"]["pools"])
    assert (first.name, first.market, first.gpu, first.most) == ("spot", "spot", "L4", 3)
    assert second.stands_in_for(first)
    # The first has the greater priority, since among equals Ray takes either.
    assert [made["available_node_types"][name]["priority"] for name in ("spot", "steady")] == [2, 1]


def test_priorities_that_are_told_stay() -> None:
    made = with_pools(config(spot=node_type("spot", "spot", priority=7), steady=node_type("steady", "on-demand")))
    assert "priority" not in made["available_node_types"]["steady"]


def test_a_label_that_would_not_be_true_is_refused() -> None:
    with pytest.raises(ValueError, match=r"available_node_types\.spot\.labels: raysft.io/pool is 'other'"):
        with_pools(config(spot=node_type("other", "spot")))


# The launcher, on a cloud of dictionaries.


class Shelf:
    """A cloud that has so many nodes of each pool; it gives as many at a time as `batch`, and lists late if told so."""

    def __init__(self, has: Mapping[str, int], batch: int = 99, says: bool = True, lists: bool = True) -> None:
        self.has, self.batch, self.says, self.lists = dict(has), batch, says, lists
        self.nodes: dict[str, dict[str, str]] = {}
        self.settings: list[Setting] = []

    def listed(self) -> list[str]:
        return list(self.nodes) if self.lists else []

    def tags(self, node: str) -> Mapping[str, str]:
        return self.nodes[node]

    def make(self, setting: Setting, tags: dict[str, str], count: int) -> Mapping[str, Any] | None:
        name = tags[TYPE_TAG]
        free = self.has.get(name, 0) - sum(each[TYPE_TAG] == name for each in self.nodes.values())
        if free < 1:
            raise RuntimeError("InsufficientInstanceCapacity")
        self.settings.append(setting)
        made = {f"node-{len(self.nodes) + place}": tags for place in range(min(count, free, self.batch))}
        self.nodes |= made
        return made if self.says else None

    def fingerprint(self, node_config: Mapping[str, Any]) -> str:
        return f"hash of {node_config}"


def launcher(shelf: Shelf, tmp_path: Path, told: list[list[Asked]] | None = None) -> Launcher:
    types = config(spot=node_type("spot", "spot"), steady=node_type("steady", "on-demand"))
    provider = {**with_pools(types)["provider"], "record": str(tmp_path / "record.jsonl"), "no_capacity_minutes": 10}
    return Launcher(shelf, provider, "c", lambda record: (told if told is not None else []).append(list(record)))


OWN = Setting({"Market": "spot"}, {"CPU": 4}, {"raysft.io/market": "spot"})
TAGS = {TYPE_TAG: "spot", HASH_TAG: "asked", "other": "kept"}


@pytest.mark.parametrize("says", [True, False], ids=["provider-names-nodes", "provider-says-nothing"])
@pytest.mark.parametrize("batch", [99, 1], ids=["all-at-once", "one-at-a-time"])
def test_nodes_are_those_of_the_pool_that_gave_them(says: bool, batch: int, tmp_path: Path) -> None:
    shelf = Shelf({"spot": 1, "steady": 9}, batch, says)
    made = launcher(shelf, tmp_path).launch(OWN, TAGS, 3)
    assert made.of == {"spot": 1, "steady": 2}
    assert made.words == "spot gave 1 of 3 nodes; steady gave 2 instead"
    steady = [tags for tags in shelf.nodes.values() if tags[TYPE_TAG] == "steady"]
    assert all(
        tags == {TYPE_TAG: "steady", HASH_TAG: "hash of {'Market': 'on-demand'}", "other": "kept"} for tags in steady
    )
    assert len(steady) == 2
    assert shelf.settings[-1].labels == {"raysft.io/pool": "steady", "raysft.io/market": "on-demand"}
    assert shelf.settings[-1].node_config == {"Market": "on-demand"}


def test_nodes_of_the_wanted_pool_need_no_words(tmp_path: Path) -> None:
    made = launcher(Shelf({"spot": 3}), tmp_path).launch(OWN, TAGS, 3)
    assert (made.words, made.of, len(made.nodes)) == ("", {"spot": 3}, 3)


def test_no_pool_has_more_than_its_most_even_before_the_cloud_lists_them(tmp_path: Path) -> None:
    shelf = Shelf({"spot": 9, "steady": 9}, lists=False)
    launching = launcher(shelf, tmp_path)
    made = launching.launch(OWN, TAGS, 9)
    assert made.of == {"spot": 3, "steady": 3}
    assert made.words == "spot gave 3 of 9 nodes; steady gave 3 instead; no pool may have more nodes"
    launching.forget(next(iter(made.nodes)))
    assert launching.launch(OWN, TAGS, 1).words == ""


def test_a_node_that_the_cloud_took_makes_room_at_once(tmp_path: Path) -> None:
    shelf = Shelf({"spot": 3})
    launching = launcher(shelf, tmp_path)
    assert launching.launch(OWN, TAGS, 3).words == ""
    assert launching.launch(OWN, TAGS, 1).of.total() == 0  # it has its most, and the other pool has no machine
    del shelf.nodes["node-0"]
    assert launching.launch(OWN, TAGS, 1).words == ""


def test_a_refused_pool_is_asked_once_and_not_by_the_next_head_either(tmp_path: Path) -> None:
    shelf, told = Shelf({}), list[list[Asked]]()
    first = launcher(shelf, tmp_path, told).launch(OWN, TAGS, 2)
    assert first.words == "spot gave 0 of 2 nodes; spot next in 10 min"
    assert [(line.pool, line.asked, line.got) for line in told[-1]] == [("spot", 2, 0), ("steady", 2, 0)]
    again = launcher(shelf, tmp_path, told)  # it reads what the first wrote
    assert again.launch(OWN, TAGS, 2).of.total() == 0
    assert len(told) == 2  # nothing was asked any more
    assert len(read(tmp_path / "record.jsonl")) == 2


def test_many_at_a_time_never_take_more_than_there_may_be(tmp_path: Path) -> None:
    launching = launcher(Shelf({"spot": 9, "steady": 9}), tmp_path)
    threads = [threading.Thread(target=launching.launch, args=(OWN, TAGS, 2)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert launching.launch(OWN, TAGS, 1).words.endswith("no pool may have more nodes")


def test_a_record_that_cannot_be_written_stops_no_launch(tmp_path: Path) -> None:
    (tmp_path / "record.jsonl").mkdir()
    assert launcher(Shelf({"spot": 1}), tmp_path).launch(OWN, TAGS, 1).words == ""


# What is relied on of Ray's classes; two of them cannot be imported without the packages of their cloud.

USED = {"non_terminated_nodes": 1, "node_tags": 1, "create_node": 3, "terminate_node": 1, "bootstrap_config": 1}


@pytest.mark.parametrize("path", ["aws", "gcp", "_azure", "fake_multi_node"])
def test_rays_providers_have_the_methods_that_are_called_by_place(path: str) -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    ray = Path(spec.origin).parent
    text = (ray / "autoscaler" / "_private" / path / "node_provider.py").read_text()
    known = _methods((ray / "autoscaler" / "node_provider.py").read_text(), "NodeProvider")
    (name,) = set(re.findall(r"^class (\w+)\(NodeProvider\)", text, re.M))
    found = {**known, **_methods(text, name)}
    assert {name: found[name] for name in USED} == USED
    assert found["create_node_with_resources_and_labels"] == 5
    assert "_raysft" not in text  # our names are ours


def _methods(text: str, name: str) -> dict[str, int]:
    """By name: how many arguments without a default a method of this class takes, but self."""
    (body,) = (node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        each.name: len(each.args.args) - len(each.args.defaults) - (not _is_static(each))
        for each in body
        if isinstance(each, ast.FunctionDef)
    }


def _is_static(method: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in method.decorator_list)


def test_a_request_is_closed_when_the_loop_has_seen_the_nodes_and_not_before() -> None:
    listing, done = Listing(), threading.Event()

    def launch() -> None:
        listing.wait_for({"a", "b"}, 20)
        done.set()

    thread = threading.Thread(target=launch)
    thread.start()
    listing.told(["a"])
    time.sleep(0.05)
    assert not done.is_set()
    other = threading.Thread(target=listing.told, args=(["a", "b"],))  # not the loop
    other.start()
    other.join()
    time.sleep(0.05)
    assert not done.is_set()
    listing.told(["a", "b", "c"])
    thread.join(10)
    assert done.is_set()
    listing.wait_for({"never"})  # the loop itself does not wait for itself
