"""Kueue's side of a cluster: what its pools hold as quotas, and the queue that jobs wait in for all of their nodes."""

from __future__ import annotations

import math
from typing import Any

from raysft.cluster.files.kubernetes_access import metadata
from raysft.cluster.files.kubernetes_pods import CLUSTER, GPU, HEAD_CPUS, HEAD_GIB, taints
from raysft.cluster.files.manifest import Manifest
from raysft.cluster.pools.catalogue import Pool, pod_size, pools_of
from raysft.config import Cluster

API = "kueue.x-k8s.io/v1beta2"
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
PRIORITIES = {"batch": (100, "Jobs that may wait."), "urgent": (1000, "Jobs that others are stopped for.")}
SUBMITTER_CPUS, SUBMITTER_GIB = 1, 1
COVERED = ("cpu", "memory", GPU)


def kueue(cluster: Cluster) -> list[Manifest]:
    """A flavor for each pool and one for heads, a cluster queue with their quotas, the local queue, priorities."""
    config, section = cluster.config, cluster.config.kubernetes
    assert section is not None and section.queue is not None
    pools = pools_of(cluster)
    return [
        _flavor(cluster, f"{config.name}-head", {}),
        *(_flavor(cluster, flavor_name(cluster, pool), _nodes(cluster, pool)) for pool in pools),
        _cluster_queue(cluster, pools),
        {
            "apiVersion": API,
            "kind": "LocalQueue",
            "metadata": metadata(cluster, section.queue),
            "spec": {"clusterQueue": config.name},
        },
        *(
            {
                "apiVersion": API,
                "kind": "WorkloadPriorityClass",
                "metadata": _cluster_wide(cluster, priority_name(cluster, name)),
                "value": value,
                "description": words,
            }
            for name, (value, words) in PRIORITIES.items()
        ),
    ]


def flavor_name(cluster: Cluster, pool: Pool) -> str:
    """Flavors belong to no namespace, so that their names begin with the cluster's."""
    return f"{cluster.config.name}-{pool.name}"


def priority_name(cluster: Cluster, name: str) -> str:
    """name: one of PRIORITIES."""
    return f"{cluster.config.name}-{name}"


def _cluster_wide(cluster: Cluster, name: str) -> dict[str, Any]:
    return {"name": name, "labels": {"app.kubernetes.io/part-of": "raysft", CLUSTER: cluster.config.name}}


def _flavor(cluster: Cluster, name: str, spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": API, "kind": "ResourceFlavor", "metadata": _cluster_wide(cluster, name), "spec": spec}


def _nodes(cluster: Cluster, pool: Pool) -> dict[str, Any]:
    """Which nodes a flavor stands for: pods that do not tolerate their taints, as heads, never count on it."""
    section = cluster.config.kubernetes
    assert section is not None
    spec: dict[str, Any] = {}
    if labels := section.node_labels.get(pool.name):
        spec["nodeLabels"] = dict(labels)
    if found := taints(cluster, pool):
        spec["nodeTaints"] = found
    return spec


def _cluster_queue(cluster: Cluster, pools: tuple[Pool, ...]) -> Manifest:
    section = cluster.config.kubernetes
    assert section is not None
    heads = sum(pool.most for pool in pools)  # each job has a head and a node at least
    flavors = [
        _quota(
            f"{cluster.config.name}-head", heads * (HEAD_CPUS + SUBMITTER_CPUS), heads * (HEAD_GIB + SUBMITTER_GIB), 0
        )
    ]
    for pool in pools:
        cpus, gib = pod_size(cluster, pool)
        flavors.append(_quota(flavor_name(cluster, pool), cpus * pool.most, gib * pool.most, pool.gpus * pool.most))
    return {
        "apiVersion": API,
        "kind": "ClusterQueue",
        "metadata": _cluster_wide(cluster, cluster.config.name),
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": section.namespace}},
            "queueingStrategy": "BestEffortFIFO",
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [{"coveredResources": list(COVERED), "flavors": flavors}],
        },
    }


def _quota(flavor: str, cpus: int, gib: float, gpus: int) -> dict[str, Any]:
    """Rounded up, since of a little less the last pod would wait for ever."""
    amounts = (str(cpus), f"{math.ceil(gib)}Gi", str(gpus))
    return {
        "name": flavor,
        "resources": [{"name": name, "nominalQuota": each} for name, each in zip(COVERED, amounts, strict=True)],
    }
