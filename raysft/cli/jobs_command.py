"""raysft jobs"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from raysft.cli.clusters import cluster_options, find
from raysft.cli.options import json_option

if TYPE_CHECKING:
    from raysft.config import Cluster
    from raysft.jobs.client import Client, Job
    from raysft.jobs.view import Prices, View

DAY_S = 86400
TRAINED = {"evaluate", "report"}  # stages before which all that was learnt is on storage


@click.group("jobs")
def command() -> None:
    """Jobs on a cluster: how far they are, what they print, why they wait; stop them, try them again.

    A job is named by its id, or by the name of its run.

    \b
    Example:
      raysft jobs list --cluster local
    """


@command.command("list")
@cluster_options
@click.option("--all", "every", is_flag=True, help="Also those that are over for more than a day.")
@json_option
def list_command(name: str | None, address: str | None, insecure: bool, every: bool, as_json: bool) -> None:
    """All jobs, the newest first, with progress, time left, GPUs and cost, and why each waits or failed.

    \b
    Example:
      raysft jobs list --cluster local --json
    """
    from raysft.cli.console import print_json
    from raysft.cli.jobs_table import jobs_table, show

    cluster, client = find(name, address, insecure)
    jobs, day = client.jobs(), time.time() - DAY_S
    shown = [job for job in jobs if every or not job.over or (job.ended or 0) > day]
    views = _views(client, cluster, shown, jobs)
    if as_json:
        print_json({"schema": "raysft.jobs/1", "jobs": [view.to_json() for view in views]})
    elif views:
        show(jobs_table(views))
        for view in views:
            if view.reason:
                click.echo(f"{view.id}: {view.reason}" + (f" → {view.next}" if view.next else ""))
    else:
        click.echo(f"no jobs on {client.address}")


@command.command("status")
@click.argument("job")
@cluster_options
@json_option
def status_command(job: str, name: str | None, address: str | None, insecure: bool, as_json: bool) -> None:
    """One JOB: stage, progress, loss, rate, time left, GPUs, cost, and why it waits or failed.

    \b
    Example:
      raysft jobs status quickstart --cluster local
    """
    from raysft.cli.console import print_json
    from raysft.cli.jobs_table import job_table, show
    from raysft.jobs.runs import facts_of

    cluster, client = find(name, address, insecure)
    found = _find(client, job)
    if as_json:
        print_json(_document(client, cluster, found))
    else:
        show(job_table(_view(client, cluster, found), facts_of(found)))


@command.command("logs")
@click.argument("job")
@cluster_options
@click.option("--follow", "-f", "following", is_flag=True, help="Until it is over; ends with the job's exit code.")
@click.option("--tail", type=click.IntRange(min=1), help="The last lines alone; with -f: and what comes after them.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="With -f: seconds without an answer, after which the cluster is taken to be gone.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON object a line on stdout: time_s, stream, and line or event."
)
def logs_command(
    job: str,
    name: str | None,
    address: str | None,
    insecure: bool,
    following: bool,
    tail: int | None,
    patience: float,
    as_json: bool,
) -> None:
    """What JOB has printed. Ctrl-C stops following, not the job.

    \b
    Example:
      raysft jobs logs quickstart -f
      raysft jobs logs quickstart --json | jq -r 'select(.stream == "log").line'
    """
    from raysft.cli.following import Printer, follow
    from raysft.jobs.follow import exit_code
    from raysft.jobs.tail import reach

    _, client = find(name, address, insecure)
    found = _find(client, job)
    last = None if tail is None else reach(lambda lines: client.log(found, lines), tail)
    if following:
        ended = follow(client, found.id, patience_s=patience, as_json=as_json, last=last)
        if code := exit_code(ended):
            raise click.exceptions.Exit(code)
        return
    Printer(sys.stdout, as_json).lines(client.lines(found, last))


@command.command("stop")
@click.argument("job")
@cluster_options
@click.option("--save", is_flag=True, help="Fail unless a checkpoint was saved before it ended.")
@json_option
def stop_command(job: str, name: str | None, address: str | None, insecure: bool, save: bool, as_json: bool) -> None:
    """End JOB. One that trains saves the step at hand first; `retry` or the same `submit` goes on from there.

    \b
    Example:
      raysft jobs stop quickstart --save
    """
    from raysft.cli.console import print_json, stderr
    from raysft.jobs.submit import stop

    cluster, client = find(name, address, insecure)
    found = _find(client, job)
    if not found.over:
        asked = f"{found.id} is asked to save and to end"
        stderr().print(asked, markup=False, highlight=False, soft_wrap=True)
    ended = found if found.over else stop(client, found)
    said = _said_at_end(client, ended, save and not found.over)
    if as_json:
        print_json(_document(client, cluster, ended))
    elif found.over:
        click.echo(f"{found.id} is over: {found.status.lower()}")
    else:
        again = "" if ended.status == "SUCCEEDED" else f"\ngo on  raysft jobs retry {found.id}{client.flags}"
        click.echo(f"{found.id}: {said or ended.status.lower()}{again}")


@command.command("retry")
@click.argument("job")
@cluster_options
@click.option("--detach", "-d", is_flag=True, help="Return when the cluster has the job.")
@json_option
def retry_command(job: str, name: str | None, address: str | None, insecure: bool, detach: bool, as_json: bool) -> None:
    """Run JOB once more: it goes on where it left off.

    \b
    Example:
      raysft jobs retry quickstart
    """
    from raysft.cli.following import answer
    from raysft.jobs.submit import retry

    _, client = find(name, address, insecure)
    answer(client, retry(client, _find(client, job)), detach, as_json)


@command.command("events")
@click.argument("job")
@cluster_options
@json_option
def events_command(job: str, name: str | None, address: str | None, insecure: bool, as_json: bool) -> None:
    """What happened to JOB and when: stages, nodes that came and went, what it waited for, checkpoints, its end.

    \b
    Example:
      raysft jobs events quickstart
    """
    from raysft.cli.console import print_json
    from raysft.jobs.told import events_in, history
    from raysft.jobs.view import for_people, words

    _, client = find(name, address, insecure)
    found = _find(client, job)
    events = history(events_in(client.lines(found)))
    if as_json:
        print_json({"schema": "raysft.events/1", "id": found.id, "events": events})
        return
    for event in for_people(events):
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event['t']))}  {words(event)}")


def _find(client: Client, job: str) -> Job:
    from raysft.jobs.runs import find_job

    return find_job(client, job)


def _document(client: Client, cluster: Cluster | None, job: Job) -> dict[str, Any]:
    """One job for programs."""
    from raysft.jobs.runs import facts_of

    return {"schema": "raysft.job/1", **_view(client, cluster, job).to_json(), "submitted": facts_of(job)}


def _view(client: Client, cluster: Cluster | None, job: Job) -> View:
    return _views(client, cluster, [job], client.jobs())[0]


def _views(client: Client, cluster: Cluster | None, shown: Sequence[Job], known: Sequence[Job]) -> list[View]:
    from raysft.jobs.look import look

    return look(client, shown, known, time.time(), _prices(cluster))


def _prices(cluster: Cluster | None) -> Prices | None:
    """Of a node of each pool; None where the cluster has no pools."""
    from raysft.cluster.pools.catalogue import pools_of

    return None if cluster is None else {pool.name: pool.price for pool in pools_of(cluster)} or None


def _said_at_end(client: Client, ended: Job, must_save: bool) -> str:
    """What the job said last. Raises TrainingFailed where it must have saved a checkpoint, and did not say so."""
    from raysft.errors import TrainingFailed
    from raysft.jobs.look import state_of
    from raysft.jobs.runs import facts_of
    from raysft.jobs.state import State

    state = state_of(client, ended) or State()
    trains = facts_of(ended).get("verb", "train") == "train"  # others keep what they have done as they go
    saved = state.kept or state.stage in TRAINED
    if must_save and trains and ended.status != "SUCCEEDED" and not saved:
        raise TrainingFailed(
            f"{ended.id} ended, and did not say that it saved a checkpoint"
            + (f": {state.error}" if state.error else ""),
            "It may not have begun to train, or the cluster gives jobs too little time to end "
            "(RAY_JOB_STOP_WAIT_TIME_S of the head; ours have 120 s). The newest checkpoint before that is kept.",
        )
    return state.error
