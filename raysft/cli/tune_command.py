"""raysft tune"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("tune")
@job_argument
@set_option
@json_option
def command(job: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Search the settings of JOB by cross-validation, and train the best. Interrupted? The same command goes on.

    \b
    Examples:
      raysft tune jobs/sweep.yaml
      raysft tune jobs/sweep.yaml --set tune.hours=2
    """
    from raysft.cli.console import Watch, print_json, stdout
    from raysft.cli.sweep_table import sweep_tables
    from raysft.pipeline import tune

    with Watch() as watch:
        result = tune(job, overrides, watch)
    if as_json:
        print_json(result.to_json())
        return
    for table in sweep_tables(result):
        stdout().print(table)
    if result.artifact:
        stdout().print(f"model   {result.artifact}", soft_wrap=True, highlight=False)
    stdout().print(f"report  {result.report}", soft_wrap=True, highlight=False)
