"""A provider of Ray's that fails over, on a provider that behaves like Ray's: one of its methods calls the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysft.cluster.providers.fails_over import provider_class
from raysft.cluster.providers.simulated import capacity

HEAD = {"ray-user-node-type": "head", "ray-node-type": "head"}
SPOT = {"ray-user-node-type": "spot", "ray-launch-config": "asked", "ray-launch-request": "request-7"}


class Base:
    """As ray.autoscaler.node_provider.NodeProvider, with a cloud of which spot has one machine."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        self.provider_config, self.cluster_name = provider_config, cluster_name
        self.has = {"head": 1, "spot": 1, "steady": 9}
        self.nodes: dict[str, dict[str, str]] = {}
        self.ended: list[str] = []

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        return [name for name, tags in self.nodes.items() if tag_filters.items() <= tags.items()]

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self.nodes[node_id]

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        kind = tags["ray-user-node-type"]
        free = self.has[kind] - len(self.non_terminated_nodes({"ray-user-node-type": kind}))
        if free < 1:
            raise RuntimeError("InsufficientInstanceCapacity")
        made = {
            f"i-{len(self.nodes) + place}": {**tags, "config": str(node_config)} for place in range(min(count, free))
        }
        self.nodes |= made
        return dict(made)

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int, resources: object, labels: object
    ) -> Any:
        return self.create_node(node_config, tags, count)

    def terminate_node(self, node_id: str) -> None:
        self.ended.append(node_id)
        del self.nodes[node_id]

    def terminate_nodes(self, node_ids: list[str]) -> None:
        for node_id in node_ids:
            self.terminate_node(node_id)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return {**cluster_config, "bootstrapped": True}


def file_of_ray(tmp_path: Path) -> dict[str, Any]:
    def kind(name: str, market: str) -> dict[str, Any]:
        labels = {"raysft.io/pool": name, "raysft.io/market": market}
        return {"resources": {"GPU": 1}, "labels": labels, "node_config": {"market": market}, "max_workers": 4}

    return {
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}},
            "spot": kind("spot", "spot"),
            "steady": kind("steady", "on-demand"),
        },
        "provider": {"record": str(tmp_path / "record.jsonl")},
    }


@pytest.fixture
def provider(tmp_path: Path) -> Any:
    made = provider_class(Base)
    config = made.bootstrap_config(file_of_ray(tmp_path))
    assert config["bootstrapped"]
    return made(config["provider"], "c")


def test_the_head_is_made_by_rays_provider_alone(provider: Any, tmp_path: Path) -> None:
    assert list(provider.create_node_with_resources_and_labels({}, HEAD, 1, {}, {})) == ["i-0"]
    assert not (tmp_path / "record.jsonl").exists()


@pytest.mark.parametrize("method", ["create_node", "create_node_with_resources_and_labels"])
def test_both_ways_to_ask_fail_over_and_close_the_request(provider: Any, method: str) -> None:
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    more = ({"GPU": 1}, {"raysft.io/pool": "spot"}) if method != "create_node" else ()
    with pytest.raises(NodeLaunchException) as told:
        getattr(provider, method)({"market": "spot"}, SPOT, 3, *more)
    assert (told.value.category, told.value.description) == (
        "FailedOver",
        "spot gave 1 of 3 nodes; steady gave 2 instead",
    )
    found = [(tags["ray-user-node-type"], tags["config"]) for tags in provider.nodes.values()]
    steady = ("steady", "{'market': 'on-demand'}")
    assert found == [("spot", "{'market': 'spot'}"), steady, steady]
    assert {tags["ray-launch-request"] for tags in provider.nodes.values()} == {"request-7"}
    hashes = [tags["ray-launch-config"] for tags in provider.nodes.values()]
    assert hashes[0] == "asked" and hashes[1] == hashes[2] != "asked"


def test_where_the_wanted_pool_gives_all_there_is_nothing_to_close(provider: Any) -> None:
    assert list(provider.create_node_with_resources_and_labels({}, SPOT, 1, {}, {})) == ["i-0"]


def test_where_no_pool_gives_enough_the_next_try_is_told(provider: Any) -> None:
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    provider.has = {"head": 1, "spot": 0, "steady": 0}
    with pytest.raises(NodeLaunchException, match=r"NoCapacity.*spot gave 0 of 2 nodes; spot next in 10 min"):
        provider.create_node({}, SPOT, 2)


def test_nodes_are_ended_as_rays_provider_ends_them(provider: Any) -> None:
    provider.create_node({}, SPOT, 1)
    provider.terminate_nodes(["i-0"])
    assert provider.ended == ["i-0"] and provider.non_terminated_nodes({}) == []


def test_a_check_that_would_end_nodes_of_other_pools_is_refused() -> None:
    with pytest.raises(ValueError, match=r"provider.disable_launch_config_check: must be true"):
        provider_class(Base)({"disable_launch_config_check": False}, "c")


@pytest.mark.parametrize(("text", "nodes"), [(None, float("inf")), ("{}", float("inf")), ('{"spot": 0}', 0)])
def test_a_simulated_pool_has_what_its_file_says(text: str | None, nodes: float, tmp_path: Path) -> None:
    file = tmp_path / "capacity.json"
    if text is not None:
        file.write_text(text)
    assert capacity(file, "spot") == nodes


@pytest.mark.parametrize("text", ["[]", "", '{"spot": "many"}'])
def test_a_file_that_is_no_table_of_nodes_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "capacity.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"capacity\.json.*JSON object of pools and nodes"):
        capacity(file, "spot")
