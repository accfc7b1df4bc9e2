"""raysft submit"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysft.cli.clusters import cluster_options
from raysft.cli.options import json_option, set_option
from raysft.jobs.verbs import VERBS

if TYPE_CHECKING:
    from raysft.config import Cluster
    from raysft.jobs.request import Request


@click.command("submit")
@click.argument("verb", type=click.Choice(VERBS))
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENTS]...")
@set_option
@cluster_options
@click.option("--detach", "-d", is_flag=True, help="Return when the cluster has the job.")
@click.option("--dry-run", is_flag=True, help="Print the request, and send nothing.")
@json_option
def command(
    verb: str,
    job: Path,
    arguments: tuple[str, ...],
    overrides: tuple[str, ...],
    name: str | None,
    address: str | None,
    insecure: bool,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run JOB on a cluster, and follow it. The same command resumes; two jobs never write the same run.

    Sent are the job file and the files that it names beside itself, unless they lie on the cluster's storage. Results
    go to the cluster's storage. Ctrl-C stops following, not the job. Arguments of VERB follow `--`.

    \b
    Examples:
      raysft submit train jobs/quickstart.yaml --cluster local
      raysft submit tune jobs/sweep.yaml --cluster gpu --detach
      raysft submit predict jobs/quickstart.yaml --cluster local -- --text "where is my parcel?"
    """
    from raysft.cli.clusters import find
    from raysft.cli.following import answer
    from raysft.jobs.request import make_request, with_settings_first
    from raysft.jobs.submit import submit

    _refuse_arguments(verb, job, arguments)
    overrides, arguments = with_settings_first(overrides, arguments)
    cluster, client = find(name, address, insecure, up=not dry_run)
    request = make_request(verb, job, cluster, overrides, arguments)
    if verb in {"train", "tune", "cv"} and cluster is not None:
        _refuse_too_large(job, cluster, overrides)
    if dry_run:
        _show(request, client.address, as_json)
        return
    answer(client, submit(client, request), detach, as_json)


def _refuse_arguments(verb: str, job: Path, arguments: tuple[str, ...]) -> None:
    """What the command would refuse on the cluster. Raises click's UsageError."""
    command: click.Command = importlib.import_module(f"raysft.cli.{verb}_command").command
    with command.make_context(verb, [str(job), *arguments], parent=click.get_current_context().find_root()):
        pass


def _refuse_too_large(job: Path, cluster: Cluster, overrides: tuple[str, ...]) -> None:
    """What no pool can ever hold would wait for ever. Raises NoCapacity."""
    from raysft.cluster.pools.catalogue import pools_of
    from raysft.cluster.pools.holding import check_on_cluster
    from raysft.config import load_job
    from raysft.jobs.needed import can_be_measured

    if pools_of(cluster) and can_be_measured(load_job(job, overrides), cluster.config.storage):
        check_on_cluster(job, cluster, overrides)


def _show(request: Request, address: str, as_json: bool) -> None:
    from raysft.cli.console import print_json

    sent = {} if request.package is None else dict(sorted(request.package.files.items()))
    files = [{"name": name, "size_bytes": path.stat().st_size} for name, path in sent.items()]
    packed = len(request.archive)
    body = request.to_json(1)
    if as_json:
        facts = {"schema": "raysft.request/1", "address": address, "files": files, "packed_bytes": packed}
        print_json({**facts, "request": body})
        return
    print_json(body)
    for file in files:
        click.echo(f"sent  {file['size_bytes']:>12,}  {file['name']}")
    click.echo(f"to    {address}; {packed:,} bytes packed" if sent else f"to    {address}; no file is sent")
