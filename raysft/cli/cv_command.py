"""raysft cv"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("cv")
@job_argument
@set_option
@json_option
def command(job: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Cross-validate the settings of JOB: each fold is scored by a model trained on the others.

    \b
    Examples:
      raysft cv jobs/quickstart.yaml
      raysft cv jobs/quickstart.yaml --set folds.k=10
    """
    from raysft.cli.sweep_answer import answer
    from raysft.pipeline import cv

    answer(cv, job, overrides, as_json)
