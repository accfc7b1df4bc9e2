"""raysft evaluate"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("evaluate")
@job_argument
@click.option(
    "--data",
    "files",
    multiple=True,
    metavar="FILE",
    help="Labelled rows to score instead, read as the data section of JOB says. Repeatable.",
)
@set_option
@json_option
def command(job: Path, files: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Score the finished run of JOB again, on its own test part or on other labelled files.

    \b
    Examples:
      raysft evaluate jobs/quickstart.yaml
      raysft evaluate jobs/quickstart.yaml --data last_week.csv --json
    """
    from raysft.cli.console import Watch, print_json, stdout
    from raysft.cli.tables import evaluation_tables
    from raysft.pipeline import evaluate

    with Watch() as watch:
        evaluation = evaluate(job, overrides, files, watch)
    if as_json:
        print_json({"schema": "raysft.evaluation/1", **evaluation.to_json()})
    else:
        for table in evaluation_tables(evaluation):
            stdout().print(table)
