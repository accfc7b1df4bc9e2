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
    from raysft.cli.sweep_answer import answer
    from raysft.pipeline import tune

    answer(tune, job, overrides, as_json)
