"""raysft cluster"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
def render_command(file: str, folder: Path | None, replace: bool, job: Path | None) -> None:
    """Print the files that make the cluster of FILE, or write them.

    \b
    Example:
      raysft cluster render cluster/aws/cluster.yaml --to aws
      raysft cluster render cluster/kubernetes/cluster.yaml --job jobs/x.yaml
    """
    from raysft.cluster.named import find_cluster
    from raysft.cluster.render import render

    cluster = find_cluster(file)
    files = render(cluster) if job is None else _of_job(cluster, job)
    if folder is not None:
        _write(files, folder, replace)
    elif files:
        for name, text in files.items():
            click.echo(f"# --- {name}\n{text.rstrip()}\n")
    else:
        click.echo(f"{cluster.config.name}: a cluster on this machine needs no files: raysft cluster up {file}")


@command.command("check")
@click.argument("file")
@json_option
def check_command(file: str, as_json: bool) -> None:
    """Say everything that is wrong with FILE and with the files that it makes. Asks no cloud.

    \b
    Example:
      raysft cluster check cluster/aws/cluster.yaml
    """
    from raysft.cli.console import print_json, stderr
    from raysft.cluster.named import find_cluster
    from raysft.cluster.render import render
    from raysft.cluster.rules.lint import lint, not_checked

    cluster = find_cluster(file)
    files = render(cluster)
    found = lint(cluster, files)
    left_out = not_checked(cluster)
    if as_json:
        facts = {"name": cluster.config.name, "kind": cluster.config.kind, "files": list(files)}
        findings = [vars(finding) for finding in found]
        print_json({"schema": "raysft.cluster-check/1", **facts, "findings": findings, "not_checked": left_out})
    for what in left_out:
        stderr().print(f"not checked: {what}", markup=False, highlight=False, soft_wrap=True)
    _refuse(found)
    if not as_json:
        click.echo(f"{cluster.config.name} ({cluster.config.kind}): {len(files)} files, nothing to mend")


@command.command("up")
@click.argument("cluster")
@click.option("--restart", is_flag=True, help="In a cloud: start Ray on a head that is up anew, which ends all jobs.")
def up_command(cluster: str, restart: bool) -> None:
    """Bring CLUSTER up: `local`, a cluster file, or the name of one. Its files are checked before anything is made.

    \b
    Example:
      raysft cluster up local
    """
    from raysft.cli.console import Watch
    from raysft.cluster.named import find_cluster
    from raysft.cluster.power import bring_up
    from raysft.cluster.render import render
    from raysft.cluster.rules.lint import lint

    found = find_cluster(cluster)
    files = render(found)
    _refuse(lint(found, files))
    with Watch() as watch:
        bring_up(found, files, watch, restart)


@command.command("down")
@click.argument("cluster")
def down_command(cluster: str) -> None:
    """Take CLUSTER down, with all its nodes.

    \b
    Example:
      raysft cluster down local
    """
    from raysft.cli.console import Watch
    from raysft.cluster.named import find_cluster
    from raysft.cluster.power import power_of

    found = find_cluster(cluster)
    with Watch() as watch:
        power_of(found).down(found, watch)


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
    from raysft.cluster.named import find_cluster
    from raysft.cluster.power import power_of
    from raysft.errors import UsageError

    found = find_cluster(cluster)
    facts = power_of(found).status(found)
    if facts is not None and as_json:
        print_json(facts)
    elif facts is not None:
        click.echo(f"{facts['name']} is {facts['state']}: {facts['address']}")
        for node in facts["nodes"]:
            where = " ".join(node["labels"].values())
            click.echo(f"  {where}: {node['cpus']} CPUs" + (f", {node['gpus']} GPUs" if node["gpus"] else ""))
    elif as_json:
        raise UsageError(f"--json: the status of {found.config.kind} clusters is text", "Leave --json out.")


@command.command("doctor")
@click.argument("cluster")
@json_option
def doctor_command(cluster: str, as_json: bool) -> None:
    """Look for what will go wrong on CLUSTER: whether it answers, its token, its version of Ray, its nodes.

    \b
    Example:
      raysft cluster doctor local
    """
    from raysft.cli.console import print_json
    from raysft.cluster.named import find_cluster
    from raysft.jobs.doctor import NOT_LOOKED_AT, doctor

    found = find_cluster(cluster)
    findings = doctor(found)
    if as_json:
        facts = [vars(finding) for finding in findings]
        print_json({"schema": "raysft.cluster-doctor/1", "name": found.config.name, "findings": facts})
    _refuse(findings)
    if not as_json:
        click.echo(f"{found.config.name}: nothing to mend ({NOT_LOOKED_AT})")


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

    others = [name for name, text in files.items() if _says_something_else(folder / name, text)]
    if others and not replace:
        raise OutputError(
            f"{folder} has other files of these names: {', '.join(others)}",
            "--replace overwrites them; --to names another folder.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            click.echo(folder / name)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}", "Name another folder by --to.") from None


def _says_something_else(path: Path, text: str) -> bool:
    if path.is_dir():
        return True
    return path.exists() and path.read_bytes() != text.encode()
