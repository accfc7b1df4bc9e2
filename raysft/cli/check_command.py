"""raysft check"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("check")
@job_argument
@set_option
@json_option
def command(job: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Validate JOB, read a sample of its data and print the plan: rows, steps, tokens, time, memory.

    Takes a few seconds and does not start Ray. Every problem of the job file is reported at once, with its line.

    \b
    Example:
      raysft check jobs/quickstart.yaml --set train.epochs=3
    """
    from raysft.cli.console import print_json, stdout
    from raysft.cli.tables import check_table, rows_table
    from raysft.pipeline import check

    found = check(job, overrides)
    if as_json:
        print_json({"schema": "raysft.check/1", **found.to_json()})
    else:
        stdout().print(check_table(found))
        if found.groups:
            stdout().print(rows_table("what trains", found.groups))
