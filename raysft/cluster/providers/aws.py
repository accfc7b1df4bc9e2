"""Amazon EC2: `provider: {type: external, module: raysft.cluster.providers.aws.FailoverProvider, ...}`."""

from __future__ import annotations

from functools import cache
from typing import Any

from raysft.cluster.providers.fails_over import provider_class
from raysft.cluster.providers.given import told


def __getattr__(name: str) -> Any:
    """The class is made when Ray asks for it, so that nothing else has to load Ray."""
    if name == "FailoverProvider":
        return _provider()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _provider() -> type[Any]:
    """Raises ImportError where the packages of this cloud are not installed."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    return provider_class(told(AWSNodeProvider))
