"""Clusters whose network and roles are given, so that Ray neither makes nor ends any.

Left to itself, Ray makes a network with ssh open to the world and an account that may do nearly everything on Google
Cloud and Azure, whatever the file says; on Azure it takes network and identity down with the cluster. On AWS it makes
nothing that the file names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Config = dict[str, Any]


def told(base: type[Any]) -> type[Any]:
    """A provider class of Ray's that takes the resources of nodes as they are told, and asks for no list of machines.

    Amazon's list has hundreds of machine types, and to read it takes a right of its own and many seconds.
    """

    def fillout_available_node_types_resources(cluster_config: Config) -> Config:
        return cluster_config

    members: dict[str, Any] = {
        "fillout_available_node_types_resources": staticmethod(fillout_available_node_types_resources),
        "__doc__": base.__doc__,
    }
    return type(f"Told{base.__name__}", (base,), members)


def given(base: type[Any], with_key_pair: Callable[[Config], Config]) -> type[Any]:
    """A provider class of Ray's that makes nothing but a key pair for ssh before the head starts.

    with_key_pair: adds the key pair to an autoscaler's file.
    """

    def bootstrap_config(cluster_config: Config) -> Config:
        return with_key_pair(copy.deepcopy(cluster_config))

    members: dict[str, Any] = {"bootstrap_config": staticmethod(bootstrap_config), "__doc__": base.__doc__}
    if hasattr(base, "cleanup_cluster_resources"):

        def cleanup_cluster_resources(self: Any) -> None:
            """What was given stays."""

        members["cleanup_cluster_resources"] = cleanup_cluster_resources
    return type(f"Given{base.__name__}", (base,), members)
