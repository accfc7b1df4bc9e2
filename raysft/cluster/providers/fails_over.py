"""What turns one of Ray's node providers into one that takes another pool where the cloud has no machine.

Ray 2.60 keeps asking the pool that had none: its autoscaler steps back from a node type only when nodes were given and
did not come up. So the call that makes nodes goes on to the next pool itself, before it answers.

What Ray is told then matters. A node of another type than was asked for is found by the autoscaler and counted, set up
and labelled as what it is. But the request itself stays open: for ten minutes it counts as a node that is coming, and
then it is made again, for work that is long done. So after the nodes of another pool are made and listed, the call says
that the pool that was asked gave too few, which closes the request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from raysft.cluster.providers.launching import TYPE_TAG, Launcher, Setting
from raysft.cluster.providers.node_types import with_pools
from raysft.cluster.providers.shared import publish, publish_pools

LISTED_S = 30.0  # how long is waited until the autoscaler has seen nodes of another pool

logger = logging.getLogger(__name__)

if TYPE_CHECKING:

    class _Provider:
        """What is used of ray.autoscaler.node_provider.NodeProvider."""

        def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None: ...
        def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]: ...
        def node_tags(self, node_id: str) -> dict[str, str]: ...
        def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any: ...
        def create_node_with_resources_and_labels(
            self,
            node_config: dict[str, Any],
            tags: dict[str, str],
            count: int,
            resources: dict[str, float],
            labels: dict[str, str],
        ) -> Any: ...
        def terminate_node(self, node_id: str) -> Any: ...
        def terminate_nodes(self, node_ids: list[str]) -> Any: ...
        @staticmethod
        def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]: ...

else:
    _Provider = object


class FailsOver(_Provider):
    """Stands before a provider class of Ray's in the order of bases; `provider_class` puts the two together.

    Keys of the section `provider`: `pools` (see node_types.with_pools), `no_capacity_minutes` (10 by default) and
    `record`, the file that the record is kept in (~/.raysft/capacity-CLUSTER.jsonl by default).

    Whatever it keeps has names that begin with `raysft`, since Ray's classes have attributes of their own.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        """Raises ValueError where Ray would end nodes of another pool as soon as they are there."""
        if not provider_config.get("disable_launch_config_check", True):
            raise ValueError("provider.disable_launch_config_check: must be true, or nodes of other pools are ended")
        super().__init__(provider_config, cluster_name)
        self._raysft_listing = Listing()
        self._raysft_within = threading.local()
        tell = partial(publish, address=provider_config.get("gcs_address"))
        self._raysft = Launcher(_Base(self), provider_config, cluster_name, tell)
        publish_pools(list(self._raysft.pools.values()), provider_config.get("gcs_address"))

    @classmethod
    def bootstrap_config(cls, cluster_config: dict[str, Any]) -> dict[str, Any]:
        """As Ray's provider does it, and with the pools where the head's provider finds them."""
        return with_pools(super().bootstrap_config(cluster_config))

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """As Ray's provider does it; what the autoscaler's own loop was told is remembered."""
        every = not tag_filters
        found = super().non_terminated_nodes(tag_filters)
        if every:
            self._raysft_listing.told(found)
        return found

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any:
        """Nodes of the pool that the tags name, else of those that stand in for it.

        Raises NodeLaunchException where fewer than `count` are of that pool.
        """
        pool = self._raysft.pools.get(tags.get(TYPE_TAG, ""))
        if pool is None or self._raysft_is_within():
            return super().create_node(node_config, tags, count)
        return self._raysft_launch(Setting(node_config, pool["resources"], pool["labels"]), tags, count)

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> Any:
        """As create_node; this is what the autoscaler calls."""
        if tags.get(TYPE_TAG) not in self._raysft.pools or self._raysft_is_within():
            return super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
        return self._raysft_launch(Setting(node_config, resources, labels), tags, count)

    def terminate_node(self, node_id: str) -> Any:
        """As Ray's provider does it."""
        self._raysft.forget(node_id)
        return super().terminate_node(node_id)

    def terminate_nodes(self, node_ids: list[str]) -> Any:
        """As Ray's provider does it."""
        for node_id in node_ids:
            self._raysft.forget(node_id)
        return super().terminate_nodes(node_ids)

    def _raysft_launch(self, own: Setting, tags: dict[str, str], count: int) -> dict[str, Any]:
        made = self._raysft.launch(own, tags, count)
        if not made.words:
            return made.nodes
        from ray.autoscaler.node_launch_exception import NodeLaunchException

        self._raysft_listing.wait_for(set(made.nodes))
        raise NodeLaunchException("FailedOver" if made.of.total() >= count else "NoCapacity", made.words, None)

    def _raysft_is_within(self) -> bool:
        """Whether this thread is already asking one pool: providers of Ray's call one of these methods by the other."""
        return getattr(self._raysft_within, "now", False)

    def _raysft_listed(self) -> list[str]:
        return super().non_terminated_nodes({})

    def _raysft_make(self, setting: Setting, tags: dict[str, str], count: int) -> Any:
        self._raysft_within.now = True
        try:
            return super().create_node_with_resources_and_labels(
                dict(setting.node_config), tags, count, dict(setting.resources), dict(setting.labels)
            )
        finally:
            self._raysft_within.now = False


class _Base:
    """The provider of Ray's that stands behind one that fails over, as launching.Cloud."""

    def __init__(self, provider: FailsOver) -> None:
        self._provider = provider

    def listed(self) -> list[str]:
        return self._provider._raysft_listed()

    def tags(self, node: str) -> Mapping[str, str]:
        return self._provider.node_tags(node)

    def make(self, setting: Setting, tags: dict[str, str], count: int) -> Mapping[str, Any] | None:
        made = self._provider._raysft_make(setting, tags, count)
        return made if isinstance(made, Mapping) else None

    def fingerprint(self, node_config: Mapping[str, Any]) -> str:
        from ray.autoscaler._private.util import hash_launch_conf

        return str(hash_launch_conf(dict(node_config), {}))


class Listing:
    """What the autoscaler's loop saw last, for threads that make nodes.

    A request that is closed before the loop has counted the nodes that were made instead is made once more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._nodes: set[str] = set()

    def told(self, nodes: list[str]) -> None:
        """Ray lists nodes in the main thread of its autoscaler for that loop, and in others for other ends."""
        if _in_main_thread():
            with self._changed:
                self._nodes = set(nodes)
                self._changed.notify_all()

    def wait_for(self, nodes: set[str], limit_s: float = LISTED_S) -> None:
        """Until the loop has seen these nodes; at once where it is the loop itself that asks."""
        if not nodes or _in_main_thread():
            return
        with self._changed:
            if not self._changed.wait_for(lambda: nodes <= self._nodes, limit_s):
                logger.warning("nodes are not listed after %g s: %s", limit_s, sorted(nodes - self._nodes))


def provider_class(base: type[Any]) -> type[Any]:
    """A provider class of Ray's that fails over."""
    return type("FailoverProvider", (FailsOver, base), {"__doc__": f"{base.__name__} that fails over."})


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
