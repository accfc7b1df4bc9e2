"""What will go wrong on a cluster that is up: whether it answers, to whom, with which Ray, and on what nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raysft.cluster.endpoint import Endpoint, endpoint_of
from raysft.cluster.rules.finding import Finding
from raysft.config import Cluster
from raysft.errors import RaysftError
from raysft.jobs.client import Client
from raysft.jobs.submit import refuse_other_ray

FULL = 0.95  # share of a disk from which on Ray takes no more objects (RAY_local_fs_capacity_threshold)


NOT_LOOKED_AT = "the storage is tried by every job before it trains; `raysft check JOB --cluster` tells of capacity"


def doctor(cluster: Cluster) -> list[Finding]:
    """Everything that is found from here. Asks the cluster alone, and changes nothing."""
    return list(_look(cluster))


def _look(cluster: Cluster) -> Iterator[Finding]:
    where = cluster.path.name
    try:
        endpoint = endpoint_of(cluster)
        client = Client(endpoint)
        client.version()
    except RaysftError as error:
        yield Finding(where, "address", error.message, error.next_step)
        return
    yield from _open_to_all(where, endpoint)
    try:
        refuse_other_ray(client)
    except RaysftError as error:
        yield Finding(where, "image", error.message, error.next_step)
    nodes = client.nodes()
    yield from _nodes(where, cluster, nodes)


def _open_to_all(where: str, endpoint: Endpoint) -> Iterator[Finding]:
    """Whoever can reach the job API of a cluster can run any program on it (CVE-2023-48022)."""
    try:
        Client(Endpoint(endpoint.address)).jobs()
    except RaysftError:
        return
    yield Finding(
        where,
        "token_file",
        "the job API answers without a token, to everyone who can reach it",
        "Start the head with RAY_AUTH_MODE=token and a token file, as the files of `raysft cluster render` do.",
    )


def _nodes(where: str, cluster: Cluster, nodes: list[dict[str, Any]]) -> Iterator[Finding]:
    if not nodes:
        yield Finding(where, "pools", "no node is alive", "`raysft cluster status` tells more.")
    for node in nodes:
        name = node["name"]
        if node["disk"] is not None and node["disk"] > FULL:
            yield Finding(
                where,
                "pools",
                f"the disk of node {name} is {node['disk']:.0%} full, from {FULL:.0%} on Ray takes no more objects",
                "Free some space, or give its pool a larger disk.",
            )
        if node["head"] and cluster.config.pools and node["cpus"] > 0:
            yield Finding(
                where,
                "pools",
                f"the head ({name}) offers {node['cpus']:g} CPUs, so that training may take the memory that it needs",
                "Start it with --num-cpus=0.",
            )
