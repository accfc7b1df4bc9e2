"""The manifest of one job on a Ray cluster that is made for it, on Kubernetes with the KubeRay operator."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from raysft.cluster.files.kubernetes import checked, common, head_group, worker_groups
from raysft.cluster.files.kubernetes_access import metadata
from raysft.cluster.files.kubernetes_pods import submitter_template
from raysft.cluster.files.kueue import PRIORITY, QUEUE, priority_name
from raysft.cluster.files.manifest import as_manifests
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.errors import NoCapacity, UsageError

JOB_NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")  # KubeRay makes names of pods from it
KEPT_S = 600  # seconds that the pods of a finished job stay, for a look at their logs
RETRIES = 2  # clusters that are made anew after a job failed; each goes on from the newest checkpoint
LIMIT_S = 7 * 24 * 3600  # of a job from start to end: what hangs is ended, so that it costs no more
# In which the pods of a job must be there: nodes that came wait for those that do not come, and cost money. KubeRay
# counts from when a job is admitted, so that its wait in a queue does not count.
START_S = 3600


def rayjob(
    cluster: Cluster, job_name: str, command: Sequence[str], workers: int, gpus: int, comments: Sequence[str] = ()
) -> str:
    """Manifest of one job on a Ray cluster that is made for it and gone after it.

    command: such as ["raysft", "train", "/mnt/raysft/jobs/x.yaml", "--json"], with paths as pods see them.
    workers: of training; each gets `gpus` GPUs, and where that is 0 a node for itself. comments: lines at its top.
    With a queue all nodes are admitted together or none; without one the autoscaler brings them one by one, from the
    first pool that holds the job, and from those behind it with GPUs of the same kind.

    Raises UsageError for a name that Kubernetes would not take, NoCapacity where no pool is large enough, and
    JobFileError as `render` does.
    """
    section = checked(cluster)
    if not JOB_NAME.fullmatch(job_name):
        raise UsageError(
            f"{job_name!r} cannot name a RayJob: small letters, digits and dashes, a letter first, at most 47",
            "Choose another name.",
        )
    pools = _pools_for(cluster, workers, gpus)
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
        "preRunningDeadlineSeconds": START_S,
        "rayClusterSpec": _cluster_of_job(cluster, pools),
    }
    document = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": meta, "spec": spec}
    return as_manifests([document], cluster.path.name, *comments)


def _cluster_of_job(cluster: Cluster, pools: Sequence[Pool]) -> dict[str, Any]:
    """With a queue of a fixed size, since Kueue admits what is asked for at the start and no more.

    pools: those that hold the job, each with as many nodes as it takes.
    """
    gang = checked(cluster).queue is not None
    used = [replace(pools[0], fewest=pools[0].most)] if gang else [replace(pool, fewest=0) for pool in pools]
    return {
        **common(cluster, autoscaled=not gang),
        "headGroupSpec": head_group(cluster, () if gang else used),
        "workerGroupSpecs": worker_groups(cluster, used),
    }


def _pools_for(cluster: Cluster, workers: int, gpus: int) -> list[Pool]:
    """The first pool that holds so many workers, and those behind it that stand in for it where it has no node.

    `most` of each is how many of its nodes the workers take.
    """
    pools = pools_of(cluster)
    holding = [replace(pool, most=nodes) for pool in pools if 0 < (nodes := _nodes(pool, workers, gpus)) <= pool.most]
    if not holding:
        wanted = f"{workers} worker(s) with {gpus} GPU(s) each"
        sizes = ", ".join(f"{pool.name}: {pool.most} x {pool.gpus} GPU" for pool in pools)
        raise NoCapacity(
            f"no pool of {cluster.config.name} holds {wanted} ({sizes})",
            "Use fewer workers, or raise `most` of a pool.",
        )
    return [pool for pool in holding if pool.gpu == holding[0].gpu]


def _nodes(pool: Pool, workers: int, gpus: int) -> int:
    """Of a pool that so many workers take; 0 where it is not for them."""
    if gpus:
        return math.ceil(workers / (pool.gpus // gpus)) if gpus <= pool.gpus else 0
    return 0 if pool.gpus else workers
