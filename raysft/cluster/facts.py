"""How a cluster is, for programs: one document for all kinds (raysft.cluster/1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from raysft.cluster import clouds, kubectl
from raysft.cluster.endpoint import ADDRESS
from raysft.cluster.named import state_folder
from raysft.cluster.pools.catalogue import pools_of
from raysft.cluster.power import BY_HAND, power_of
from raysft.config import Cluster
from raysft.config.cluster import CLOUDS
from raysft.config.labels import MARKET, POOL
from raysft.errors import RaysftError

HEAD = "head"  # in place of a pool


def facts(cluster: Cluster, state: str, nodes: Sequence[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """The document. state: up, down, or what Kubernetes calls it. nodes: None where they were not asked for."""
    config = cluster.config
    kept = state_folder(config.name) / ADDRESS
    address = config.address or (kept.read_text(encoding="utf-8").strip() if kept.is_file() else None)
    known = {"name": config.name, "kind": config.kind, "state": state, "address": address}
    return {"schema": "raysft.cluster/1", **known, **more, "nodes": None if nodes is None else list(nodes)}


def status_facts(cluster: Cluster) -> dict[str, Any]:
    """Asked now. Raises what `status` for people raises, and RaysftError where the answer is none."""
    kind = cluster.config.kind
    if kind in BY_HAND:
        power_of(cluster).status(cluster)  # says what to do instead
    if kind == "local":
        return _local(cluster)
    return _cloud(cluster) if kind in CLOUDS else _kubernetes(cluster)


def words(found: dict[str, Any]) -> str:
    """The document for people."""
    lines = [f"{found['name']} is {found['state']}: {found['address']}"]
    for node in found["nodes"]:
        gpus = f", {node['gpus']:g} GPUs" if node["gpus"] else ""
        lines.append(f"  {' '.join(filter(None, (node['pool'], node['market'])))}: {node['cpus']:g} CPUs{gpus}")
    return "\n".join(lines)


def _local(cluster: Cluster) -> dict[str, Any]:
    from raysft.cluster import local

    running = local.status(cluster)
    nodes = [
        _node(f"node-{index}", each["labels"].get(POOL, ""), each["labels"].get(MARKET, ""), each["cpus"], each["gpus"])
        for index, each in enumerate(running.nodes)
    ]
    return facts(cluster, "up", nodes, since_s=running.since)


def _cloud(cluster: Cluster) -> dict[str, Any]:
    """As the head has them, which Ray's command asks: no tunnel is needed."""
    said = clouds.ask(cluster, f"ray list nodes --format json --limit 10000 --address {clouds.DASHBOARD}")
    found = _json(said, "[")
    nodes = []
    for each in found:
        labels, has = each.get("labels") or {}, each.get("resources_total") or {}
        pool = HEAD if each.get("is_head_node") else labels.get(POOL, "")
        if each["state"] == "ALIVE":
            nodes.append(_node(each["node_name"], pool, labels.get(MARKET, ""), has.get("CPU", 0), has.get("GPU", 0)))
    return facts(cluster, "up", nodes)


def _kubernetes(cluster: Cluster) -> dict[str, Any]:
    """As Kubernetes has them: pods are nodes, also those that are not there yet."""
    name = cluster.config.name
    said = kubectl.ask(cluster, "get", "raycluster", name, "--ignore-not-found", "--output=json")
    if not said.strip():
        return facts(cluster, "down", [])
    state = _json(said, "{").get("status", {}).get("state") or "starting"
    pods = _json(kubectl.ask(cluster, "get", "pods", f"--selector=ray.io/cluster={name}", "--output=json"), "{")
    sizes = {pool.name: pool for pool in pools_of(cluster)}
    nodes = []
    for pod in pods["items"]:
        pool = sizes.get(pod["metadata"].get("labels", {}).get(POOL, ""))
        size = (pool.name, pool.market, pool.cpus, pool.gpus) if pool else (HEAD, "", 0, 0)
        nodes.append(_node(pod["metadata"]["name"], *size, state=pod["status"]["phase"].lower()))
    return facts(cluster, str(state).lower(), nodes)


def _json(said: str, begins: str) -> Any:
    """What a program said as JSON, from a line on that begins so; programs say other things before.

    Raises RaysftError where there is none.
    """
    lines = said.splitlines()
    for index, line in enumerate(lines):
        if line.startswith(begins):
            with suppress(ValueError):
                return json.JSONDecoder().raw_decode("\n".join(lines[index:]))[0]
    last = (said.strip().splitlines() or ["nothing"])[-1].strip()[:200]
    raise RaysftError(f"the cluster did not say how it is: {last}", "Without --json more is shown.")


def _node(name: str, pool: str, market: str, cpus: float, gpus: float, state: str = "alive") -> dict[str, Any]:
    return {"name": name, "pool": pool, "market": market, "state": state, "cpus": cpus, "gpus": gpus}
