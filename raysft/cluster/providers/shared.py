"""What jobs of the cluster read in Ray's key-value store: its pools, and the record of what clouds were asked for."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from raysft.capacity import CAPACITY_KEY as KEY
from raysft.capacity import NAMESPACE, POOLS_KEY
from raysft.shortage import Asked, dump, parse

LIMIT_S = 5  # a store that does not answer must hold up neither the autoscaler nor a job's status

logger = logging.getLogger(__name__)


def publish(record: Sequence[Asked], address: str | None = None) -> bool:
    """Store the newest lines, from the process of the autoscaler; says whether that went well.

    address: HOST:PORT of the head's control store; None: as this process was told on its command line.
    """
    return _store(KEY, dump(record), address or _told())


def publish_pools(pools: Sequence[Mapping[str, Any]], address: str | None = None) -> bool:
    """Store what the cluster can grow to, so that a job waits for it: raysft/capacity.py. Says whether that went well.

    pools: section `provider.pools`. address: as for `publish`; where neither it nor the command line tells one, this is
    no process of an autoscaler, and nothing is stored.
    """
    address = address or _told()
    return bool(pools and address) and _store(POOLS_KEY, json.dumps([_pool(each) for each in pools]), address)


def _pool(pool: Mapping[str, Any]) -> dict[str, Any]:
    resources = pool["resources"]
    return {
        "name": pool["name"],
        "cpus": resources.get("CPU", 0),
        "gpus": resources.get("GPU", 0),
        "memory_gib": resources.get("memory", 0) / 2**30,
        "most": pool["max_workers"],
    }


def _store(key: bytes, text: str, address: str | None) -> bool:
    try:
        _client(address).internal_kv_put(key, text.encode(), True, NAMESPACE, LIMIT_S)
    except Exception:  # whatever goes wrong with words for people, nodes must still be made
        logger.warning("%s could not be stored in the cluster", key.decode(), exc_info=True)
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
