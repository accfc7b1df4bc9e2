"""The manifests of a Ray cluster on Kubernetes with the KubeRay operator, and of one job on a cluster of its own."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from raysft.cluster.files.kubernetes_access import claim, disruption_budget, metadata, network_policies, service_account
from raysft.cluster.files.kubernetes_pods import (
    MARKET,
    POOL,
    autoscaler_options,
    head_template,
    submitter_template,
    worker_template,
)
from raysft.cluster.files.kueue import PRIORITY, QUEUE, kueue, priority_name
from raysft.cluster.files.manifest import Manifest, as_manifests
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import KubernetesSection
from raysft.errors import JobFileError, NoCapacity, Problem, UsageError

RAY_VERSION = "2.60.0"  # as constraints.txt has it; a test compares them
JOB_NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")  # KubeRay makes names of pods from it
KEPT_S = 600  # seconds that the pods of a finished job stay, for a look at their logs
RETRIES = 2  # clusters that are made anew after a job failed; each goes on from the newest checkpoint
LIMIT_S = 7 * 24 * 3600  # of a job from start to end: what hangs is ended, so that it costs no more
START_S = 3600  # in which the pods of a job must be there


def render(cluster: Cluster) -> dict[str, str]:
    """Name of each manifest -> its text.

    Raises JobFileError for names, labels, taints and sizes that Kubernetes would not take.
    """
    section = _checked(cluster)
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
        "pvc.yaml": as_manifests(
            [claim(cluster)], source, "Give it the storageClassName of a network disk that many nodes may write."
        ),
        "pdb.yaml": as_manifests([disruption_budget(cluster)], source),
    }
    if section.queue:
        files["kueue.yaml"] = as_manifests(kueue(cluster), source)
    return files


def rayjob(
    cluster: Cluster, job_name: str, command: Sequence[str], workers: int, gpus: int, comments: Sequence[str] = ()
) -> str:
    """Manifest of one job on a Ray cluster that is made for it and gone after it.

    command: such as ["raysft", "train", "/mnt/raysft/jobs/x.yaml", "--json"], with paths as pods see them.
    workers: of training; each gets `gpus` GPUs, and where that is 0 a node for itself. comments: lines at its top.
    With a queue all nodes are admitted together or none; without one the autoscaler brings them one by one.

    Raises UsageError for a name that Kubernetes would not take, NoCapacity where no pool is large enough, and
    JobFileError as `render` does.
    """
    section = _checked(cluster)
    if not JOB_NAME.fullmatch(job_name):
        raise UsageError(
            f"{job_name!r} cannot name a RayJob: small letters, digits and dashes, a letter first, at most 47",
            "Choose another name.",
        )
    pool, nodes = _pool_for(cluster, workers, gpus)
    meta = metadata(cluster, job_name)
    if section.queue:
        meta["labels"] |= {QUEUE: section.queue, PRIORITY: priority_name(cluster, "batch")}
    spec: dict[str, Any] = {
        "entrypoint": shlex.join(command),
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": submitter_template(cluster),
        "submitterConfig": {"backoffLimit": RETRIES},
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_S,
        "backoffLimit": RETRIES,
        "activeDeadlineSeconds": LIMIT_S,
    }
    if not section.queue:
        spec["preRunningDeadlineSeconds"] = START_S  # in a queue a job may wait for longer
    spec["rayClusterSpec"] = _cluster_of_job(cluster, pool, nodes)
    document = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": meta, "spec": spec}
    return as_manifests([document], cluster.path.name, *comments)


def _ray_cluster(cluster: Cluster) -> Manifest:
    section, pools = _checked(cluster), pools_of(cluster)
    spec = _common(cluster, autoscaled=True)
    if section.lost_head == "remembers":
        spec["gcsFaultToleranceOptions"] = {
            "backend": "rocksdb",
            "storage": {"claimName": section.claim, "subPath": f".ray-head/{cluster.config.name}"},
        }
    spec["headGroupSpec"] = _head(cluster, pools)
    # The first pool is asked first; where its pods stay pending, Ray asks the next after some minutes.
    spec["workerGroupSpecs"] = [
        _group(cluster, pool, pool.fewest, pool.most) | {"priority": len(pools) - place}
        for place, pool in enumerate(pools)
    ]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": metadata(cluster, cluster.config.name),
        "spec": spec,
    }


def _cluster_of_job(cluster: Cluster, pool: Pool, nodes: int) -> dict[str, Any]:
    """With a queue of a fixed size, since Kueue admits what is asked for at the start and no more."""
    section = _checked(cluster)
    gang = section.queue is not None
    return {
        **_common(cluster, autoscaled=not gang),
        "headGroupSpec": _head(cluster, () if gang else (replace(pool, most=nodes),)),
        "workerGroupSpecs": [_group(cluster, pool, nodes if gang else 0, nodes)],
    }


def _common(cluster: Cluster, autoscaled: bool) -> dict[str, Any]:
    section = _checked(cluster)
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": section.token_secret},
        "enableInTreeAutoscaling": autoscaled,
        **({"autoscalerOptions": autoscaler_options(cluster)} if autoscaled else {}),
    }


def _head(cluster: Cluster, growing: Sequence[Pool]) -> dict[str, Any]:
    """It runs no work: what a job loads must never end the process that knows of all jobs."""
    return {
        "serviceType": "ClusterIP",
        "rayStartParams": {"num-cpus": "0"},
        "template": head_template(cluster, growing),
    }


def _group(cluster: Cluster, pool: Pool, fewest: int, most: int) -> dict[str, Any]:
    return {
        "groupName": pool.name,
        "replicas": fewest,
        "minReplicas": fewest,
        "maxReplicas": most,
        "labels": {POOL: pool.name, MARKET: pool.market},
        "rayStartParams": {},
        "template": worker_template(cluster, pool),
    }


def _pool_for(cluster: Cluster, workers: int, gpus: int) -> tuple[Pool, int]:
    """The first pool that holds so many workers, and how many of its nodes they take."""
    pools = pools_of(cluster)
    for pool in pools:
        if gpus <= pool.gpus and not (gpus == 0 and pool.gpus):
            nodes = math.ceil(workers / (pool.gpus // gpus)) if gpus else workers
            if nodes <= pool.most:
                return pool, nodes
    wanted = f"{workers} worker(s) with {gpus} GPU(s) each"
    sizes = ", ".join(f"{pool.name}: {pool.most} x {pool.gpus} GPU" for pool in pools)
    raise NoCapacity(
        f"no pool of {cluster.config.name} holds {wanted} ({sizes})", "Use fewer workers, or raise `most` of a pool."
    )


def _checked(cluster: Cluster) -> KubernetesSection:
    """The section, where its names are those of Kubernetes and of its own pools."""
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
    if problems:
        raise JobFileError(problems)
    return section
