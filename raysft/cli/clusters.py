"""How commands on jobs name their cluster, and speak to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from raysft.config import Cluster
    from raysft.jobs.client import Client

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """--cluster, --address, --insecure."""
    function = click.option("--insecure", is_flag=True, help="Send the token over plain http to another machine.")(
        function
    )
    function = click.option("--address", metavar="URL", help="Of a cluster's dashboard, where it has no file here.")(
        function
    )
    return click.option(
        "--cluster",
        "name",
        metavar="NAME",
        help="A cluster file, or a cluster's name; else RAYSFT_CLUSTER, else the one that is up here.",
    )(function)


def find(name: str | None, address: str | None, insecure: bool, up: bool = True) -> tuple[Cluster | None, Client]:
    """The cluster that is meant, None where only its address is known, and who speaks to it. up: see endpoint_of.

    Raises UsageError, NotFound, JobFileError, NotAllowed.
    """
    from raysft.cluster.endpoint import endpoint_at, endpoint_of
    from raysft.cluster.named import find_cluster, only_cluster
    from raysft.errors import UsageError
    from raysft.jobs.client import Client

    if name and address:
        raise UsageError("--cluster and --address both say where", "Leave one of them out.")
    flags = _flags(name, address, insecure)
    if address:
        return None, Client(endpoint_at(address, None, insecure), flags)
    cluster = find_cluster(name or only_cluster())
    refuse_slurm(cluster)
    return cluster, Client(endpoint_of(cluster, insecure, up), flags)


def refuse_slurm(cluster: Cluster) -> None:
    """Raises UsageError for a cluster that has no Ray of its own to ask."""
    import shlex

    from raysft.errors import UsageError

    if cluster.config.kind == "slurm":
        render = shlex.join(["raysft", "cluster", "render", str(cluster.path)])
        raise UsageError(
            f"cluster {cluster.config.name} is Slurm's: each batch job has a Ray of its own, and there is none to ask",
            f"`{render} --to FOLDER`, then there: sbatch FOLDER/job.sbatch train JOB.",
        )


def _flags(name: str | None, address: str | None, insecure: bool) -> str:
    """What a command that is proposed needs so as to mean the same cluster."""
    import shlex

    given = ["--cluster", name] if name else ["--address", address] if address else []
    given += ["--insecure"] if insecure else []
    return "".join(f" {shlex.quote(word)}" for word in given)
