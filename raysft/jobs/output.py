"""Where a job on a cluster writes: on the storage that all nodes see, whatever its file says relative to itself."""

from __future__ import annotations

from pathlib import Path

from raysft.config import Cluster
from raysft.config import Job as JobFile
from raysft.errors import UsageError
from raysft.jobs.package import is_on
from raysft.storage.layout import home_path


def is_local(cluster: Cluster | None) -> bool:
    """Whether jobs run on this machine, where relative paths mean what they mean here."""
    return cluster is not None and cluster.config.kind == "local"


def output_on(cluster: Cluster | None, job: JobFile) -> str:
    """Where results go, absolute. cluster: None where only an address is known.

    Raises UsageError where the cluster would lose them.
    """
    if "://" in job.config.output:
        raise UsageError(
            f"{job.where('output')}: output: {job.config.output} is a remote URI; results go to a folder",
            "Name one that all nodes see: a relative one is taken to be on the storage of the cluster.",
        )
    written = home_path(job.config.output)
    if is_local(cluster):
        return str(written.absolute())
    storage = None if cluster is None else cluster.config.storage
    if written.is_absolute():
        if storage is not None and not is_on(written, storage):
            raise UsageError(
                f"{job.where('output')}: output: {written} is not on the storage of the cluster ({storage})",
                "Name a folder there, or a relative one, which is taken to be there.",
            )
        return str(written)
    if storage is None:
        raise UsageError(
            "output: an address alone does not tell where the cluster keeps files",
            "Name the cluster with --cluster, whose file has `storage`; or --set output=/FOLDER/THAT/ALL/NODES/SEE.",
        )
    if not is_on(Path(storage) / written, storage):
        raise UsageError(
            f"{job.where('output')}: output: {written} leads out of the storage of the cluster ({storage})",
            "Name a folder below it.",
        )
    return str(Path(storage) / written)
