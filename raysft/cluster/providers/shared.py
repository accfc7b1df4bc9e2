"""The record of what clouds were asked for, where every job of the cluster can read it: in Ray's key-value store."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from raysft.cluster.providers.failover import Asked
from raysft.cluster.providers.record import dump, parse

NAMESPACE = b"raysft"
KEY = b"capacity"
LIMIT_S = 5  # a store that does not answer must hold up neither the autoscaler nor a job's status

logger = logging.getLogger(__name__)


def publish(record: Sequence[Asked], address: str | None = None) -> bool:
    """Store the newest lines, from the process of the autoscaler; says whether that went well.

    address: HOST:PORT of the head's control store; None: as this process was told on its command line.
    """
    try:
        _client(address or _told()).internal_kv_put(KEY, dump(record).encode(), True, NAMESPACE, LIMIT_S)
    except Exception:  # whatever goes wrong with words for people, nodes must still be made
        logger.warning("the record of capacity could not be stored in the cluster", exc_info=True)
        return False
    return True


def fetch(address: str | None = None) -> list[Asked]:
    """The newest lines, oldest first; none where none were stored or the store does not answer.

    address: HOST:PORT of the head's control store; None: of the cluster that this process is connected to.
    """
    with suppress(Exception):
        found = _client(address).internal_kv_get(KEY, NAMESPACE, LIMIT_S)
        return parse(found.decode().splitlines()) if found else []
    return []


def _client(address: str | None) -> Any:
    """A client of the control store. Raises whatever Ray raises where there is none."""
    if address:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

        return GcsClient(address=address)
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    return internal_kv_get_gcs_client()


def _told() -> str | None:
    """What the autoscaler's own command line says of where the control store is."""
    name = "--gcs-address="
    return next((each.removeprefix(name) for each in sys.argv if each.startswith(name)), None)
