"""Nodes on this machine with logical GPUs, for rehearsals and tests: pools have as much as a file says.

`provider: {type: external, module: raysft.cluster.providers.simulated.FailoverProvider, capacity: FILE, ...}`. FILE is
JSON, `{POOL: NODES}`: how many nodes the cloud would have at a time. A pool that is not named has no limit; without
the file none has. It is read at every request, so that it can be edited while the cluster runs.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from raysft.cluster.providers.fails_over import provider_class
from raysft.cluster.providers.launching import TYPE_TAG


def __getattr__(name: str) -> Any:
    """The class is made when Ray asks for it, so that nothing else has to load Ray."""
    if name == "FailoverProvider":
        return _provider()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def capacity(file: Path | None, pool: str) -> float:
    """Nodes that a pool has at a time. Raises ValueError where the file is no JSON object of numbers."""
    if file is None or not file.exists():
        return float("inf")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return float(found.get(pool, float("inf")))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f'{file}: must be a JSON object of pools and nodes, such as {{"gpu-spot": 0}}') from None


@cache
def _provider() -> type[Any]:
    from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    class Limited(FakeMultiNodeProvider):  # type: ignore[misc]  # Ray has no types
        """Ray's own raylets on this machine, as many as the file says."""

        def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
            super().__init__({**provider_config, "launch_multiple": True}, cluster_name)
            self._capacity = Path(provider_config["capacity"]) if provider_config.get("capacity") else None

        def create_node_with_resources_and_labels(
            self,
            node_config: dict[str, Any],
            tags: dict[str, str],
            count: int,
            resources: dict[str, float],
            labels: dict[str, str],
        ) -> None:
            """As many as there are, like a cloud. Raises NodeLaunchException where there is none."""
            pool = tags[TYPE_TAG]
            with self.lock:
                has = capacity(self._capacity, pool) - len(self.non_terminated_nodes({TYPE_TAG: pool}))
                if has < 1:
                    raise NodeLaunchException("InsufficientInstanceCapacity", f"no machine for {pool}", None)
                super().create_node_with_resources_and_labels(
                    node_config, tags, int(min(count, has)), resources, labels
                )

    return provider_class(Limited)
