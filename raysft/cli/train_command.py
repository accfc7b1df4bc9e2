"""raysft train"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("train")
@job_argument
@set_option
@json_option
def command(job: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Run JOB from data to report. Interrupted? The same command goes on where it stopped.

    \b
    Examples:
      raysft train jobs/quickstart.yaml
      raysft train jobs/quickstart.yaml --set name=two-workers --set train.workers=2
    """
    from raysft.cli.console import Watch, print_json, stdout
    from raysft.cli.tables import result_table
    from raysft.pipeline import train

    with Watch() as watch:
        result = train(job, overrides, watch)
    if as_json:
        print_json(result.to_json())
    else:
        stdout().print(result_table(result))
        stdout().print(f"model   {result.artifact}\nreport  {result.report}", soft_wrap=True, highlight=False)
