"""raysft init"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import json_option


@click.command("init")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--job", type=click.Path(path_type=Path), help="Where to write the job file; default: beside the data.")
@json_option
def command(data: Path, job: Path | None, as_json: bool) -> None:
    """Look at DATA (CSV, TSV, JSON Lines), guess its columns and write a job file that runs.

    \b
    Example:
      raysft init tickets.csv && raysft train tickets.yaml
    """
    from rich.markup import escape

    from raysft.cli.console import print_json, stdout
    from raysft.cli.tables import guess_table
    from raysft.initialise import init

    result = init(data, job)
    if as_json:
        print_json(result.to_json())
        return
    console, path = stdout(), escape(str(result.path))
    console.print(guess_table(result.guess))
    console.print(f"wrote [bold]{path}[/]   next: [bold]raysft check {path}[/]", soft_wrap=True)
