"""A job file and a cluster file turned into one RayJob: the job on a Ray cluster that is there for it alone."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from raysft.cluster.files.rayjob import rayjob
from raysft.cluster.pools.catalogue import pools_of
from raysft.config import Cluster, Job
from raysft.errors import NoCapacity, UsageError
from raysft.jobs.output import output_on


def job_manifest(cluster: Cluster, job: Job) -> tuple[str, str]:
    """Name of the file, and the manifest that trains `job`.

    A job file outside the storage is expected in its folder `jobs`, since pods see nothing else. Results go to the
    storage too: beside the job file, or in a pod, they would be gone with it, and each try would train from the start.

    Raises UsageError for a cluster that is not on Kubernetes, for names that it would not take and for an output that
    is not on its storage, NoCapacity where no pool holds the job, JobFileError where the cluster cannot be rendered.
    """
    if cluster.config.kind != "kubernetes":
        raise UsageError(
            f"{cluster.config.name} is a cluster of kind {cluster.config.kind}; manifests of jobs are for Kubernetes",
            "Use raysft submit.",
        )
    name = re.sub(r"[^a-z0-9]+", "-", job.config.name.lower()).strip("-")
    path = _seen_by_pods(cluster, job)
    command = ["raysft", "train", path, "--set", f"output={output_on(cluster, job)}", "--json"]
    comment = () if path == str(job.path) else (f"The job file, with its data beside it, has to lie at {path}.",)
    return f"{name}.yaml", _largest(cluster, job, name, command, comment)


def _largest(cluster: Cluster, job: Job, name: str, command: list[str], comments: tuple[str, ...]) -> str:
    """With as many workers as the job may have and a pool holds."""
    train = job.config.train
    has_gpus = any(pool.gpus for pool in pools_of(cluster))
    kinds = {"cpu": [0], "gpu": [1]}.get(train.device, [1, 0] if has_gpus else [0])
    refused: NoCapacity | None = None
    for gpus in kinds:
        for workers in range(train.most_workers, train.fewest_workers - 1, -1):
            try:
                return rayjob(cluster, name, command, workers, gpus, comments)
            except NoCapacity as error:
                refused = refused or error
    assert refused is not None
    raise refused


def _seen_by_pods(cluster: Cluster, job: Job) -> str:
    storage = PurePosixPath(str(cluster.config.storage))
    path = PurePosixPath(job.path)
    return str(path if path.is_relative_to(storage) else storage / "jobs" / path.name)
