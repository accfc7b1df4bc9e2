"""raysft check"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("check")
@job_argument
@set_option
@click.option(
    "--cluster",
    metavar="NAME|FILE",
    help="Also say which pools of this cluster can hold the job, with how many nodes, for how long and how much.",
)
@json_option
def command(job: Path, overrides: tuple[str, ...], cluster: str | None, as_json: bool) -> None:
    """Validate JOB, read a sample of its data and print the plan: rows, steps, tokens, time, memory.

    Takes a few seconds and does not start Ray. Every problem of the job file is reported at once, with its line.

    \b
    Example:
      raysft check jobs/quickstart.yaml --set train.epochs=3
      raysft check jobs/quickstart.yaml --cluster cluster/aws/cluster.yaml
    """
    from raysft.cli.console import print_json, stdout
    from raysft.cli.tables import check_table, rows_table
    from raysft.pipeline import check

    if cluster is not None:
        from raysft.cli.cluster_table import holding_table
        from raysft.cluster.named import find_cluster
        from raysft.cluster.pools.holding import check_on_cluster

        found, holding = check_on_cluster(job, find_cluster(cluster), overrides)
        section = {"cluster": holding.to_json()}
    else:
        found, holding, section = check(job, overrides), None, {}
    if as_json:
        print_json({"schema": "raysft.check/1", **found.to_json(), **section})
        return
    stdout().print(check_table(found))
    if found.groups:
        stdout().print(rows_table("what trains", found.groups))
    if holding is not None:
        stdout().print(holding_table(holding))
