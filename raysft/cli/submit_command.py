"""raysft submit"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysft.cli.clusters import cluster_options
from raysft.cli.options import json_option, set_option
from raysft.jobs.verbs import VERBS

if TYPE_CHECKING:
    from raysft.config import Cluster
    from raysft.jobs.request import Request


@click.command("submit", context_settings={"ignore_unknown_options": False})
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
    from raysft.cli.clusters import find, flags
    from raysft.cli.console import print_json, stderr
    from raysft.cli.following import follow
    from raysft.jobs.follow import exit_code
    from raysft.jobs.request import make_request
    from raysft.jobs.submit import submit

    cluster, client = find(name, address, insecure)
    request = make_request(verb, job, cluster, overrides, arguments)
    if verb in {"train", "tune", "cv"} and cluster is not None:
        _refuse_too_large(job, cluster, overrides)
    if dry_run:
        _show(request, client.address, as_json)
        return
    sent, where = submit(client, request), flags(name, address)
    stderr().print(f"job {sent.id} on {client.address}", markup=False, highlight=False, soft_wrap=True)
    if detach:
        if as_json:
            print_json({"schema": "raysft.submit/1", "id": sent.id, "attempt": sent.attempt, "address": client.address})
        else:
            click.echo(f"follow  raysft jobs logs {sent.id} -f{where}\nstatus  raysft jobs status {sent.id}{where}")
        return
    ended = follow(client, sent.id, where, to=sys.stderr if as_json else None)
    if as_json:
        print_json({"schema": "raysft.submit/1", "id": sent.id, "attempt": sent.attempt, "status": ended.status})
    else:
        stderr().print(f"job {sent.id}: {ended.status.lower()}", markup=False, highlight=False, soft_wrap=True)
    if code := exit_code(ended):
        raise click.exceptions.Exit(code)


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
    files = {name: path.stat().st_size for name, path in sent.items()}
    body: dict[str, Any] = {"address": address, "request": request.to_json(1), "files": files}
    if as_json:
        print_json({"schema": "raysft.request/1", **body})
        return
    print_json(body["request"])
    for name, size in files.items():
        click.echo(f"sent  {size:>12,}  {name}")
    click.echo(
        f"to    {address}; {len(request.archive):,} bytes packed" if sent else f"to    {address}; no file is sent"
    )
