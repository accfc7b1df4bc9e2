"""Jobs as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from raysft.jobs.view import View

COLOURS = {"RUNNING": "cyan", "WAITING": "yellow", "PENDING": "yellow", "SUCCEEDED": "green", "FAILED": "red"}


def jobs_table(views: Sequence[View]) -> Table:
    """A line a job."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "STATUS", "STAGE", "PROGRESS", "LOSS", "ROWS/S", "LEFT", "GPUS", "COST", "AGE"):
        table.add_column(name, justify="left" if name in {"ID", "STATUS", "STAGE"} else "right", no_wrap=True)
    for view in views:
        table.add_row(
            Text(view.id),
            Text(view.status, COLOURS.get(view.status, "")),
            Text(view.stage),
            _percent(view),
            _number(view.loss, "{:.3f}"),
            _number(view.rate, "{:,.0f}"),
            span(view.left_s),
            _number(view.gpus, "{}"),
            _number(view.cost, "${:,.2f}"),
            span(view.age_s),
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
        "rate": _number(view.rate, "{:,.0f} rows/s"),
        "left": span(view.left_s),
        "ran for": span(view.seconds),
        "GPUs there": _number(view.gpus, "{}"),
        "cost so far": _number(view.cost, "${:,.2f}"),
        "verb": facts.get("verb", ""),
        "output": facts.get("output", ""),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(str(value)))  # no markup of Rich's
    return table


def span(seconds: float | None) -> str:
    """A time span in its largest two units; "" where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _percent(view: View) -> str:
    return "" if view.percent is None else f"{view.percent:.0f}%"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
