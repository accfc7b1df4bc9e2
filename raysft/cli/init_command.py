"""raysft init"""

from __future__ import annotations

from pathlib import Path

import click

from raysft.cli.options import json_option

TASKS = {"classes": "classification", "tokens": "token-classification", "chat": "generation"}


@click.command("init")
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--job", type=click.Path(path_type=Path), help="Where to write the job file; default: beside DATA.")
@click.option(
    "--task",
    type=click.Choice(sorted(TASKS)),
    help="What is learnt: a class of each text, tokens that are entities, or answers; default: as the columns say.",
)
@json_option
def command(data: Path | None, job: Path | None, task: str | None, as_json: bool) -> None:
    """Look at DATA (CSV, TSV, JSON Lines, CoNLL), guess its columns and write a job file that runs. Without DATA,
    write one for a small corpus that ships, and copy the corpus beside it.

    \b
    Examples:
      raysft init tickets.csv && raysft train tickets.yaml
      raysft init --task tokens letters.jsonl
      raysft init --task chat && raysft train chat.yaml
    """
    from shlex import quote

    from rich.markup import escape

    from raysft.cli.console import print_json, stdout
    from raysft.cli.tables import guess_table
    from raysft.initialise import init

    result = init(data, job, TASKS[task] if task else None)
    if as_json:
        print_json(result.to_json())
        return
    console, path = stdout(), escape(str(result.path))
    console.print(guess_table(result.guess))
    console.print(
        f"wrote [bold]{path}[/]   next: [bold]raysft check {escape(quote(str(result.path)))}[/]", soft_wrap=True
    )
