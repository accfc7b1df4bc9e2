"""Google Compute Engine: `provider: {type: external, module: raysft.cluster.providers.gcp.FailoverProvider, ...}`."""

from __future__ import annotations

from functools import cache
from typing import Any

from raysft.cluster.providers.fails_over import provider_class
from raysft.cluster.providers.given import given


def __getattr__(name: str) -> Any:
    """The class is made when Ray asks for it, so that nothing else has to load Ray."""
    if name == "FailoverProvider":
        return _provider()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _provider() -> type[Any]:
    """Raises ImportError where the packages of this cloud are not installed."""
    from ray.autoscaler._private.gcp import config as gcp
    from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

    def with_key_pair(config: dict[str, Any]) -> dict[str, Any]:
        _, _, compute, _ = gcp.construct_clients_from_provider_config(config["provider"])
        made: dict[str, Any] = gcp._configure_key_pair(config, compute)
        return made

    return provider_class(given(GCPNodeProvider, with_key_pair))
