"""The manifests of a Ray cluster on Kubernetes with the KubeRay operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysft.cluster.files.kubernetes_access import claim, disruption_budget, metadata, network_policies, service_account
from raysft.cluster.files.kubernetes_pods import autoscaler_options, head_template, token_secret, worker_template
from raysft.cluster.files.kueue import kueue
from raysft.cluster.files.manifest import Manifest, as_manifests
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import KubernetesSection
from raysft.config.labels import MARKET, POOL
from raysft.errors import JobFileError, Problem

RAY_VERSION = "2.60.0"  # as constraints.txt has it; a test compares them


def render(cluster: Cluster) -> dict[str, str]:
    """Name of each manifest -> its text.

    A claim that is there already has no file, since its size and class cannot be changed by applying another.

    Raises JobFileError for names, labels, taints and sizes that Kubernetes would not take, and without `api_cidr`.
    """
    section = checked(cluster)
    source = cluster.path.name
    files = {
        "raycluster.yaml": as_manifests([_ray_cluster(cluster)], source),
        "networkpolicy.yaml": as_manifests(
            network_policies(cluster), source, "Jobs that fetch models or data need a policy more: docs/operations.md."
        ),
        "rbac.yaml": as_manifests(
            [service_account(cluster)],
            source,
            "No role is bound to it. What the autoscaler needs, KubeRay makes itself.",
        ),
        "pdb.yaml": as_manifests([disruption_budget(cluster)], source),
    }
    if section.storage_gib is not None:
        files["pvc.yaml"] = as_manifests([claim(cluster)], source, "It stays when the cluster is taken down.")
    if section.queue:
        files["kueue.yaml"] = as_manifests(kueue(cluster), source)
    return files


def _ray_cluster(cluster: Cluster) -> Manifest:
    section, pools = checked(cluster), pools_of(cluster)
    spec = common(cluster, autoscaled=True)
    if section.lost_head == "remembers":
        spec["gcsFaultToleranceOptions"] = {
            "backend": "rocksdb",
            "storage": {"claimName": section.claim, "subPath": f".ray-head/{cluster.config.name}"},
        }
    spec["headGroupSpec"] = head_group(cluster, pools)
    spec["workerGroupSpecs"] = worker_groups(cluster, pools)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": metadata(cluster, cluster.config.name),
        "spec": spec,
    }


def common(cluster: Cluster, autoscaled: bool) -> dict[str, Any]:
    """What every spec of a Ray cluster begins with. Raises JobFileError as `checked` does."""
    checked(cluster)
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": token_secret(cluster)},
        "enableInTreeAutoscaling": autoscaled,
        **({"autoscalerOptions": autoscaler_options(cluster)} if autoscaled else {}),
    }


def head_group(cluster: Cluster, growing: Sequence[Pool]) -> dict[str, Any]:
    """It runs no work: what a job loads must never end the process that knows of all jobs."""
    return {
        "serviceType": "ClusterIP",
        "rayStartParams": {"num-cpus": "0"},
        "template": head_template(cluster, growing),
    }


def worker_groups(cluster: Cluster, pools: Sequence[Pool]) -> list[dict[str, Any]]:
    """Pods of each pool, `fewest` at the start. Raises JobFileError as `worker_template` does.

    The first pool is asked first; where its pods stay pending, Ray asks the next after some minutes.
    """
    return [
        {
            "groupName": pool.name,
            "replicas": pool.fewest,
            "minReplicas": pool.fewest,
            "maxReplicas": pool.most,
            "labels": {POOL: pool.name, MARKET: pool.market},
            "rayStartParams": {},
            "template": worker_template(cluster, pool),
            "priority": len(pools) - place,
        }
        for place, pool in enumerate(pools)
    ]


def checked(cluster: Cluster) -> KubernetesSection:
    """The section, where its names are those of Kubernetes and of its own pools. Raises JobFileError elsewhere."""
    config, section = cluster.config, cluster.config.kubernetes
    assert section is not None
    problems = []
    if config.name[0].isdigit():
        text = f"must begin with a letter on Kubernetes; found {config.name!r}"
        problems.append(Problem(cluster.where("name"), "name", text))
    names = [pool.name for pool in config.pools]
    for unknown in sorted(set(section.node_labels) - set(names)):
        text = f"no pool is called so; pools are {', '.join(names)}"
        key = f"kubernetes.node_labels.{unknown}"
        problems.append(Problem(cluster.where("kubernetes", "node_labels", unknown), key, text))
    if section.service_account == config.name:
        text = f"{config.name} is the account that KubeRay makes for the autoscaler and lets scale; name another one"
        problems.append(Problem(cluster.where("kubernetes", "service_account"), "kubernetes.service_account", text))
    if section.storage_class is not None and section.storage_gib is None:
        text = "takes no effect without storage_gib: a claim that is there already is left as it is"
        problems.append(Problem(cluster.where("kubernetes", "storage_class"), "kubernetes.storage_class", text))
    if problems:
        raise JobFileError(problems)
    return section
