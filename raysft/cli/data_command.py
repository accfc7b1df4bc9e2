"""raysft data"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import job_argument, json_option, set_option


@click.command("data")
@job_argument
@set_option
@json_option
def command(job: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Read, audit, split and tokenize the data of JOB; prepared once, used by every run that shares it.

    \b
    Example:
      raysft data jobs/quickstart.yaml
    """
    from rich.markup import escape

    from raysft.cli.audit_table import audit_table
    from raysft.cli.console import Watch, print_json, stdout
    from raysft.pipeline import data

    with Watch() as watch:
        result = data(job, overrides, watch)
    if as_json:
        print_json(result.to_json())
    else:
        stdout().print(audit_table(result.audit))
        stdout().print(f"prepared in [bold]{escape(result.folder)}[/]", soft_wrap=True, highlight=False)
        stdout().print(f"to look at  [bold]{escape(result.page)}[/]", soft_wrap=True, highlight=False)
