"""Pools as the autoscaler's file has them: its node types, in their order, with what their labels say."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from raysft.cluster.providers.failover import KIND, PoolType
from raysft.config.labels import MARKET, POOL

ACCELERATOR = "ray.io/accelerator-type"  # a label that Ray itself gives to nodes whose GPUs it knows


def with_pools(config: Mapping[str, Any]) -> dict[str, Any]:
    """The autoscaler's file with its node types repeated under `provider.pools`, in order.

    A provider is told the section `provider` and nothing else. Where no node type has a priority, each gets one by its
    place, so that of pools alike the first is asked first. Raises ValueError where a node type's label names another
    pool, since then what the labels of its nodes say would not be true.
    """
    made = copy.deepcopy(dict(config))
    head = made["head_node_type"]
    types: dict[str, dict[str, Any]] = {
        name: kind for name, kind in made["available_node_types"].items() if name != head
    }
    for name, kind in types.items():
        if (label := kind.get("labels", {}).get(POOL, name)) != name:
            raise ValueError(f"available_node_types.{name}.labels: {POOL} is {label!r}, and must be {name!r}")
    if not any("priority" in kind for kind in types.values()):
        for place, kind in enumerate(types.values()):
            kind["priority"] = len(types) - place
    provider = made["provider"]
    provider["pools"] = [{"name": name, **_kept(kind, made)} for name, kind in types.items()]
    # Ray would end nodes whose launch settings are not those of the type that was asked for.
    provider["disable_launch_config_check"] = True
    return made


def _kept(kind: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    most = kind.get("max_workers", config.get("max_workers", 0))
    kept = {key: copy.deepcopy(kind.get(key, {})) for key in ("node_config", "resources", "labels")}
    return {**kept, "max_workers": most}


def pool_type(pool: Mapping[str, Any]) -> PoolType:
    """One entry of `provider.pools`, as the choice between pools needs it."""
    labels, resources = pool["labels"], pool["resources"]
    told = next((name.removeprefix(KIND) for name in resources if name.startswith(KIND)), "")
    return PoolType(
        name=pool["name"],
        market=labels.get(MARKET, "on-demand"),
        gpu=told or labels.get(ACCELERATOR, ""),
        resources=resources,
        most=int(pool["max_workers"]),
    )
