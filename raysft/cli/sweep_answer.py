"""What `tune` and `cv` show while they run, and print when they are done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raysft.cli.console import Watch, print_json, stdout
from raysft.cli.sweep_table import sweep_tables
from raysft.tuning.outcome import SweepResult

Verb = Callable[[Path, tuple[str, ...], Watch], SweepResult]


def answer(verb: Verb, job: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Run a verb of raysft.pipeline that gives a sweep."""
    with Watch() as watch:
        result = verb(job, overrides, watch)
    if as_json:
        print_json(result.to_json())
        return
    for table in sweep_tables(result):
        stdout().print(table)
    if result.status != "done":
        stdout().print(f"ended   before it was through: {result.status}", soft_wrap=True, highlight=False)
    if result.artifact:
        stdout().print(f"model   {result.artifact}", soft_wrap=True, highlight=False)
    stdout().print(f"report  {result.report}", soft_wrap=True, highlight=False)
