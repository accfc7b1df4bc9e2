"""raysft jobs"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from raysft.cli.clusters import cluster_options, find, flags
from raysft.cli.options import json_option

if TYPE_CHECKING:
    from raysft.config import Cluster
    from raysft.jobs.client import Client, Job
    from raysft.jobs.view import View


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
    from raysft.cli.console import print_json, stdout
    from raysft.cli.jobs_table import jobs_table

    cluster, client = find(name, address, insecure)
    day = time.time() - 86400
    jobs = [job for job in client.jobs() if every or not job.over or (job.ended or 0) > day]
    views = [_view(client, cluster, job) for job in jobs]
    if as_json:
        print_json({"schema": "raysft.jobs/1", "jobs": [view.to_json() for view in views]})
    elif views:
        stdout().print(jobs_table(views))
        _reasons(views)
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
    from raysft.cli.console import print_json, stdout
    from raysft.cli.jobs_table import job_table
    from raysft.jobs.submit import facts_of

    cluster, client = find(name, address, insecure)
    found = _find(client, job)
    view = _view(client, cluster, found)
    if as_json:
        print_json({"schema": "raysft.job/1", **view.to_json(), "submitted": facts_of(found)})
    else:
        stdout().print(job_table(view, facts_of(found)))


@command.command("logs")
@click.argument("job")
@cluster_options
@click.option("--follow", "-f", "following", is_flag=True, help="Until it is over; ends with the job's exit code.")
@click.option("--tail", type=click.IntRange(min=1), help="The last lines alone.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="With -f: seconds without an answer, after which the cluster is taken to be gone.",
)
def logs_command(
    job: str, name: str | None, address: str | None, insecure: bool, following: bool, tail: int | None, patience: float
) -> None:
    """What JOB has printed. Ctrl-C stops following, not the job.

    \b
    Example:
      raysft jobs logs quickstart -f
    """
    from raysft.cli.following import follow
    from raysft.jobs.follow import exit_code
    from raysft.jobs.told import lines_of, without_events

    _, client = find(name, address, insecure)
    found = _find(client, job)
    if following:
        if code := exit_code(follow(client, found.id, flags(name, address), patience)):
            raise click.exceptions.Exit(code)
        return
    lines = lines_of(without_events(client.log(found.id)))
    for line in lines[-tail:] if tail else lines:
        click.echo(line)


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
    from raysft.cli.console import print_json
    from raysft.errors import TrainingFailed
    from raysft.jobs.submit import facts_of, stop
    from raysft.jobs.told import events_in

    cluster, client = find(name, address, insecure)
    found = _find(client, job)
    if found.over:
        if as_json:
            print_json({"schema": "raysft.job/1", **_view(client, cluster, found).to_json()})
        else:
            click.echo(f"{found.id} is over: {found.status.lower()}")
        return
    ended = stop(client, found)
    errors = [event for event in events_in(client.log(found.id)) if event["kind"] == "error"]
    last = errors[-1] if errors else {}
    said = str(last.get("text", ""))
    trains = facts_of(found).get("verb", "train") == "train"  # others keep what they have done as they go
    if save and trains and ended.status != "SUCCEEDED" and not last.get("kept"):
        raise TrainingFailed(
            f"{found.id} ended, and did not say that it saved a checkpoint" + (f": {said}" if said else ""),
            "It may not have begun to train, or the cluster gives jobs too little time to end "
            "(RAY_JOB_STOP_WAIT_TIME_S of the head; ours have 120 s). The newest checkpoint before that is kept.",
        )
    if as_json:
        print_json({"schema": "raysft.job/1", **_view(client, cluster, ended).to_json()})
    else:
        click.echo(
            f"{found.id}: {said or ended.status.lower()}\ngo on  raysft jobs retry {found.id}{flags(name, address)}"
        )


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
    from raysft.cli.console import print_json, stderr
    from raysft.cli.following import follow
    from raysft.jobs.follow import exit_code
    from raysft.jobs.submit import retry

    _, client = find(name, address, insecure)
    sent, where = retry(client, _find(client, job)), flags(name, address)
    stderr().print(f"job {sent.id} on {client.address}", markup=False, highlight=False, soft_wrap=True)
    facts = {"schema": "raysft.submit/1", "id": sent.id, "attempt": sent.attempt}
    if detach:
        if as_json:
            print_json({**facts, "address": client.address})
        return
    ended = follow(client, sent.id, where, to=sys.stderr if as_json else None)
    if as_json:
        print_json({**facts, "status": ended.status})
    if code := exit_code(ended):
        raise click.exceptions.Exit(code)


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
    from raysft.jobs.told import events_in
    from raysft.jobs.view import words

    _, client = find(name, address, insecure)
    events = events_in(client.log(_find(client, job).id))
    if as_json:
        print_json({"schema": "raysft.events/1", "events": events})
        return
    for event in events:
        if event["kind"] != "progress" or event["done"] == event["total"]:
            click.echo(f"{time.strftime('%H:%M:%S', time.localtime(event['t']))}  {words(event)}")


def _find(client: Client, job: str) -> Job:
    from raysft.jobs.submit import find_job

    return find_job(client, job)


def _view(client: Client, cluster: Cluster | None, job: Job) -> View:
    from raysft.errors import NotFound
    from raysft.jobs.client import Failing, Unreachable
    from raysft.jobs.told import events_in
    from raysft.jobs.view import view_of

    try:
        log = client.log(job.id)
    except Unreachable:
        raise
    except (NotFound, Failing):  # the node that had it is gone; what else is known of the job still stands
        log = ""
    return view_of(job, events_in(log), time.time(), _prices(cluster))


def _prices(cluster: Cluster | None) -> dict[str, float | None] | None:
    """Of a node of each pool; None where the cluster has no pools."""
    from raysft.cluster.pools.catalogue import pools_of

    prices: dict[str, Any] = {} if cluster is None else {pool.name: pool.price for pool in pools_of(cluster)}
    return prices or None


def _reasons(views: list[View]) -> None:
    for view in views:
        if view.reason:
            click.echo(f"{view.id}: {view.reason}" + (f" → {view.next}" if view.next else ""))
