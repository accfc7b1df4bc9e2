"""A sweep as tables: while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from raysft.tuning.outcome import SweepResult

SHOWN = 20  # configurations on a screen
STYLES = {"finished": "green", "running": "cyan", "waiting": "", "stopped": "dim", "failed": "red"}


def board_table(rows: Sequence[dict[str, Any]], text: str) -> Table:
    """The configurations of a sweep, the best first."""
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    names = {key: key.rpartition(".")[2] for key in keys}
    measures = _measures(rows)
    table = Table(title=escape(text), title_justify="left", title_style="bold", header_style="bold", box=None)
    for column in ("trial", *(escape(names[key]) for key in keys), "folds", *measures, "state"):
        table.add_column(column, justify="left" if column == "state" else "right")
    for row in rows[:SHOWN]:
        state = row["status"] + (f": {row['why']}" if row["why"] else "")
        table.add_row(
            str(row["trial"]),
            *(escape(shown(row["settings"].get(key, "-"))) for key in keys),
            f"{row['folds_done']}/{row['folds']}",
            *(_score(row.get(measure)) for measure in measures),
            escape(state),
            style=STYLES[row["status"]],
        )
    if len(rows) > SHOWN:
        table.caption = f"and {len(rows) - SHOWN} more"
    return table


def sweep_tables(result: SweepResult) -> list[Table]:
    """The configurations, then what was chosen and what it is worth."""
    what = "cross-validation" if len(result.trials) == 1 and not result.names else "configurations"
    tables = [board_table(result.trials, f"{result.name}: {what}, means over the folds ± standard errors")]
    chosen = result.chosen
    table = Table(
        title=escape(f"chosen: trial {chosen['trial']}, epoch {chosen['epoch']}; {chosen['why']}"),
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=None,
    )
    for column in ("", "value", "95% interval", "n"):
        table.add_column(column, justify="left" if not column else "right")
    for name in dict.fromkeys((*result.objectives, *chosen["out_of_fold"])):
        if name in chosen["out_of_fold"]:
            _estimate(table, f"{name}, out of fold", chosen["out_of_fold"][name])
    if chosen["ahead"] is not None:
        ahead = chosen["ahead"]
        _estimate(table, f"ahead of trial {chosen['runner_up']} (p = {ahead['p']:.2g})", ahead)
    for name, estimate in (result.nested or {}).get("metrics", {}).items():
        _estimate(table, f"{name}, nested", estimate)
    for name, estimate in (result.metrics.get("test") or {}).items():
        _estimate(table, f"{name} on test, all folds trained", estimate)
    diagnosis = result.diagnosis
    table.caption = escape(
        "\n".join([f"{diagnosis['kind']}: {'; '.join(diagnosis['findings'])}", *diagnosis["advice"], *chosen["edges"]])
    )
    table.caption_justify = "left"
    return [*tables, table]


def shown(value: Any) -> str:
    """A setting in a cell."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "null" if value is None else str(value)


def _measures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if _is_score(value)))


def _is_score(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "se"}


def _score(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['value']:.3f} ± {found['se']:.3f}"


def _estimate(table: Table, name: str, estimate: Mapping[str, Any]) -> None:
    rows = str(estimate["n"]) if "n" in estimate else ""
    table.add_row(
        escape(name), f"{estimate['value']:.3f}", escape(f"[{estimate['low']:.3f}, {estimate['high']:.3f}]"), rows
    )
