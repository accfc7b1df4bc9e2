"""raysft cluster"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysft.cli.options import json_option

if TYPE_CHECKING:
    from raysft.cluster.rules.finding import Finding
    from raysft.config import Cluster


@click.group("cluster")
def command() -> None:
    """Clusters: the files that make them, and what is wrong with these; up, down and how they are.

    A cluster is described by a short file, like those in cluster/. `local` is one on this machine and needs no file.

    \b
    Example:
      raysft cluster up local
      raysft cluster check cluster/aws/cluster.yaml
    """


@command.command("render")
@click.argument("file")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write them into this folder.")
@click.option("--replace", is_flag=True, help="With --to: overwrite files of the same names that say something else.")
@click.option(
    "--job",
    type=click.Path(path_type=Path),
    help="On Kubernetes: the manifest of this job on a cluster of its own, instead.",
)
@json_option
def render_command(file: str, folder: Path | None, replace: bool, job: Path | None, as_json: bool) -> None:
    """Print the files that make the cluster of FILE, or write them.

    \b
    Example:
      raysft cluster render cluster/aws/cluster.yaml --to aws
      raysft cluster render cluster/kubernetes/cluster.yaml --job jobs/x.yaml
    """
    from raysft.cli.console import print_json
    from raysft.cluster.named import find_cluster
    from raysft.cluster.render import render

    cluster = find_cluster(file)
    files = render(cluster) if job is None else _of_job(cluster, job)
    if folder is not None and files:
        _write(files, folder, replace)
    if as_json:
        where = {name: None if folder is None else str(folder / name) for name in files}
        found = [{"name": name, "path": where[name], "text": text} for name, text in files.items()]
        print_json({"schema": "raysft.cluster-files/1", **_named(cluster), "files": found})
    elif not files:
        click.echo(f"{cluster.config.name}: a cluster on this machine needs no files: raysft cluster up {file}")
    elif folder is not None:
        for name in files:
            click.echo(folder / name)
    else:
        for name, text in files.items():
            click.echo(f"# --- {name}\n{text.rstrip()}\n")


@command.command("check")
@click.argument("file")
@json_option
def check_command(file: str, as_json: bool) -> None:
    """Say everything that is wrong with FILE and with the files that it makes. Asks no cloud.

    \b
    Example:
      raysft cluster check cluster/aws/cluster.yaml
    """
    from raysft.cli.console import print_json
    from raysft.cluster.named import find_cluster
    from raysft.cluster.render import render
    from raysft.cluster.rules.lint import lint, not_checked

    cluster = find_cluster(file)
    files = render(cluster)
    found, left_out = lint(cluster, files), not_checked(cluster)
    if as_json:
        facts = {**_named(cluster), "files": list(files), "findings": [vars(each) for each in found]}
        print_json({"schema": "raysft.cluster-check/1", **facts, "not_checked": left_out})
    _say(f"not checked: {what}" for what in left_out)
    _refuse(found)
    if not as_json:
        click.echo(f"{cluster.config.name} ({cluster.config.kind}): {len(files)} files, nothing to mend")


@command.command("up")
@click.argument("cluster")
@click.option("--restart", is_flag=True, help="In a cloud: start Ray on a head that is up anew, which ends all jobs.")
@json_option
def up_command(cluster: str, restart: bool, as_json: bool) -> None:
    """Bring CLUSTER up: `local`, a cluster file, or the name of one. Its files are checked before anything is made.

    \b
    Example:
      raysft cluster up local
    """
    from raysft.cli.console import Watch, print_json
    from raysft.cluster.facts import facts, status_facts
    from raysft.cluster.named import find_cluster, state_folder
    from raysft.cluster.power import bring_up
    from raysft.cluster.render import render
    from raysft.cluster.rules.lint import lint

    found = find_cluster(cluster)
    files = render(found)
    _refuse(lint(found, files))
    with Watch() as watch:
        bring_up(found, files, watch, restart)
    if as_json and found.config.kind == "local":
        print_json(status_facts(found))
    elif as_json:
        # Nodes come with jobs, and pods when Kubernetes has room.
        state = "starting" if found.config.kind == "kubernetes" else "up"
        print_json(facts(found, state, folder=str(state_folder(found.config.name))))


@command.command("down")
@click.argument("cluster")
@json_option
def down_command(cluster: str, as_json: bool) -> None:
    """Take CLUSTER down, with all its nodes.

    \b
    Example:
      raysft cluster down local
    """
    from raysft.cli.console import Watch, print_json
    from raysft.cluster.facts import facts
    from raysft.cluster.named import find_cluster
    from raysft.cluster.power import power_of

    found = find_cluster(cluster)
    with Watch() as watch:
        power_of(found).down(found, watch)
    if as_json:
        print_json(facts(found, "down", []))


@command.command("status")
@click.argument("cluster")
@json_option
def status_command(cluster: str, as_json: bool) -> None:
    """Say how CLUSTER is: its nodes, and what waits for them.

    \b
    Example:
      raysft cluster status local
    """
    from raysft.cli.console import print_json
    from raysft.cluster.facts import status_facts
    from raysft.cluster.named import find_cluster
    from raysft.cluster.power import power_of

    found = find_cluster(cluster)
    if as_json:
        print_json(status_facts(found))
    else:
        click.echo(power_of(found).status(found).rstrip("\n"))


@command.command("doctor")
@click.argument("cluster")
@click.option(
    "--limit",
    type=click.FloatRange(min=5),
    default=120.0,
    show_default=True,
    help="Seconds that a small job may take on the cluster, which tries the storage and looks at the nodes.",
)
@json_option
def doctor_command(cluster: str, limit: float, as_json: bool) -> None:
    """Look for what will go wrong on CLUSTER: whether it answers, its token, its version of Ray, its nodes; whether all
    of them can write, read, rename and delete on the storage; what there is room for.

    \b
    Example:
      raysft cluster doctor local
    """
    from raysft.cli.clusters import refuse_slurm
    from raysft.cli.console import print_json
    from raysft.cluster.named import find_cluster
    from raysft.jobs.doctor import doctor

    found = find_cluster(cluster)
    refuse_slurm(found)
    diagnosis = doctor(found, limit)
    if as_json:
        print_json({"schema": "raysft.cluster-doctor/1", **_named(found), **diagnosis.to_json()})
    else:
        click.echo(f"{found.config.name}: {'; '.join(diagnosis.well) or 'not looked at'}")
    _say(f"{found.config.name}: {each}" for each in diagnosis.troubles)
    if diagnosis.troubles:
        raise click.exceptions.Exit(diagnosis.troubles[0].exit_code)
    if not as_json:
        click.echo(f"{found.config.name}: nothing to mend")


@command.command("probe", hidden=True)
@click.argument("storage", required=False)
@click.option("--node-seconds", type=float, default=30.0)
def probe_command(storage: str | None, node_seconds: float) -> None:
    """What `raysft cluster doctor` runs on a cluster."""
    from raysft.jobs.probe import probe

    probe(storage, node_seconds)


def _named(cluster: Cluster) -> dict[str, Any]:
    """How every document about a cluster begins."""
    return {"name": cluster.config.name, "kind": cluster.config.kind}


def _say(lines: Iterable[str]) -> None:
    """On stderr, a line each."""
    from raysft.cli.console import stderr

    for line in lines:
        stderr().print(line, markup=False, highlight=False, soft_wrap=True)


def _of_job(cluster: Cluster, job: Path) -> dict[str, str]:
    from raysft.config import load_job
    from raysft.jobs.job_manifest import job_manifest

    return dict([job_manifest(cluster, load_job(job))])


def _refuse(findings: list[Finding]) -> None:
    """Raises JobFileError with all findings, where there are any."""
    from raysft.errors import JobFileError, Problem

    if findings:
        raise JobFileError([Problem(each.file, each.key, f"{each.what}. {each.fix}") for each in findings])


def _write(files: dict[str, str], folder: Path, replace: bool) -> None:
    """Raises OutputError where a file of that name says something else, or cannot be written."""
    from raysft.errors import OutputError

    try:
        others = [name for name, text in files.items() if _says_something_else(folder / name, text)]
        if others and not replace:
            raise OutputError(
                f"{folder} has other files of these names: {', '.join(others)}",
                "--replace overwrites them; --to names another folder.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}", "Name another folder by --to.") from None


def _says_something_else(path: Path, text: str) -> bool:
    if path.is_dir():
        return True
    return path.exists() and path.read_bytes() != text.encode()
