"""Jobs as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from raysft.cli.console import stdout
from raysft.duration import span
from raysft.jobs.view import View

COLOURS = {"RUNNING": "cyan", "WAITING": "yellow", "PENDING": "yellow", "SUCCEEDED": "green", "FAILED": "red"}
WIDE = 250  # columns: as wide as a line may be, so that nothing is cut where it is read by programs


def show(table: Table) -> None:
    """On stdout."""
    stdout(WIDE).print(table)


def jobs_table(views: Sequence[View]) -> Table:
    """A line a job."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "STATUS", "STAGE", "PROGRESS", "LOSS", "ROWS/S", "LEFT", "GPUS", "COST", "AGE"):
        left = name in {"ID", "STATUS", "STAGE"}
        # An id that is cut would be no use.
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "ID", overflow="fold")
    for view in views:
        table.add_row(
            Text(view.id),
            Text(view.status, COLOURS.get(view.status, "")),
            Text(view.stage),
            _percent(view),
            _number(view.loss, "{:.3f}"),
            _number(view.rows_per_s, "{:,.0f}"),
            _span(view.left_s),
            _number(view.gpus, "{:g}"),
            _cost(view),
            _span(view.age_s),
        )
    return table


def job_table(view: View, facts: Mapping[str, Any]) -> Table:
    """One job, a line a fact."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    rows = {
        "job": view.id,
        "status": Text(view.status, COLOURS.get(view.status, "")),
        "reason": view.reason,
        "to do": view.next,
        "stage": view.stage,
        "progress": f"{view.step:,} of {view.total:,} ({view.percent} %)"
        if view.total and view.step is not None
        else "",
        "loss": _number(view.loss, "{:.4f}"),
        "rate": _number(view.rows_per_s, "{:,.0f} rows/s"),
        "left": _span(view.left_s),
        "ran for": _span(view.ran_s),
        "GPUs": _number(view.gpus, "{:g}"),
        "cost so far": _number(view.cost_dollars, "${:,.2f}"),
        "with attempts before": _cost(view) if view.run_cost_dollars != view.cost_dollars else "",
        "verb": facts.get("verb", ""),
        "output": facts.get("output", ""),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(str(value)))  # no markup of Rich's
    return table


def _span(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds)


def _cost(view: View) -> str:
    """Of the run so far; at least that of this attempt, where those before are not known."""
    if view.run_cost_dollars is None and view.cost_dollars is not None:
        return f"≥ ${view.cost_dollars:,.2f}"
    return _number(view.run_cost_dollars, "${:,.2f}")


def _percent(view: View) -> str:
    return "" if view.percent is None else f"{view.percent:.0f}%"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
