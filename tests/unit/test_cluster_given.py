"""Providers of clouds in which the network and the roles are given: Ray makes nothing and takes nothing down."""

from __future__ import annotations

from typing import Any

from raysft.cluster.providers.fails_over import provider_class
from raysft.cluster.providers.given import given, told


class MakesAll:
    """Like Ray's provider for Azure: makes a network of its own, and takes down what it is told is its network."""

    taken_down = 0

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        cluster_config["provider"]["subnet"] = "one that is open to the world"
        return cluster_config

    def cleanup_cluster_resources(self) -> None:
        MakesAll.taken_down += 1


class MakesSome:
    """Like that for Google Cloud, which takes nothing down."""


def with_key_pair(config: dict[str, Any]) -> dict[str, Any]:
    config["auth"]["ssh_private_key"] = "~/.ssh/key.pem"
    return config


CONFIG: dict[str, Any] = {
    "provider": {"subnet": "ours"},
    "auth": {},
    "head_node_type": "head_node",
    "available_node_types": {
        "head_node": {"node_config": {}},
        "cpu": {"node_config": {"size": 2}, "resources": {"CPU": 2}, "max_workers": 1},
    },
}


def test_only_a_key_pair_is_made_and_pools_are_told() -> None:
    made = provider_class(given(MakesAll, with_key_pair)).bootstrap_config(CONFIG)
    assert made["provider"]["subnet"] == "ours" and made["auth"] == {"ssh_private_key": "~/.ssh/key.pem"}
    assert [pool["name"] for pool in made["provider"]["pools"]] == ["cpu"]
    assert CONFIG["auth"] == {}, "the caller's own is left alone"


def test_what_was_given_stays_when_the_cluster_goes_down() -> None:
    given(MakesAll, with_key_pair)().cleanup_cluster_resources()
    assert MakesAll.taken_down == 0
    assert not hasattr(given(MakesSome, with_key_pair), "cleanup_cluster_resources")


def test_resources_are_as_they_are_told() -> None:
    assert told(MakesAll).fillout_available_node_types_resources(CONFIG) is CONFIG
