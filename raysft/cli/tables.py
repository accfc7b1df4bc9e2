"""Answers as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from raysft.corpus.cells import shown
from raysft.corpus.guess import Guess
from raysft.plan.preflight import Check
from raysft.report.reasons import reason_name

SHOWN = 50  # predictions on a screen


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def guess_table(found: Guess) -> Table:
    """The columns of a file and what they were taken for."""
    table = _table(
        f"{escape(str(found.file))}: {found.rows} rows looked at",
        "column",
        "taken for",
        "distinct",
        "mean length",
    )
    if found.task == "generation":
        roles = {found.text: "prompt" if found.label else "messages", found.label: "answer", found.context: "context"}
    else:
        what = f"{len(found.labels)} {'classes' if found.task == 'classification' else 'types of entities'}"
        roles = {found.text: "text", found.label: f"label ({what})"}
    roles[found.group] = "group"
    for column in found.columns:
        role = roles.get(column.name, "-")
        table.add_row(escape(column.name), role, str(column.distinct), f"{column.mean_length:.0f}")
    return table


def rows_table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of named values; a column in which all rows agree on the first epoch is left out."""
    columns = [name for name in rows[0] if name != "from_epoch" or any(row[name] > 1 for row in rows)]
    table = _table(escape(title), *(name.replace("_", " ") for name in columns))
    for row in rows:
        table.add_row(*(escape(_cell(row, name)) for name in columns))
    return table


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if isinstance(value, str):
        return value
    trains = row.get("from_epoch", 1) > 0
    if not trains and name != "parameters":
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def check_table(found: Check) -> Table:
    """The plan of a valid job."""
    plan = found.plan
    table = _table(f"{escape(found.name)}: the job file is valid", "", "value", "why")
    table.columns[1].justify = table.columns[2].justify = "left"
    rows = found.rows
    rejected = ", ".join(f"{reason_name(reason)} {count}" for reason, count in rows["rejected"].items()) or "none"
    about, most = "about " if found.sampled else "", "at most " if plan.memory_at_most else ""
    lines = [
        ("files", "\n".join(found.files), ""),
        ("columns", "\n".join(_column(found, role) for role, name in found.columns.items() if name), ""),
        ("rows read", str(rows["read"]), "first rows of each file" if found.sampled else "all"),
        ("rows rejected", str(rows["read"] - rows["kept"]), rejected),
        (
            "labels",
            str(len(found.labels)),
            ", ".join(found.labels[:6]) + (", ..." if len(found.labels) > 6 else ""),
        ),
        ("parts", ", ".join(f"{about}{name} {count}" for name, count in plan.rows.items()), ""),
        ("steps", f"{plan.total_steps} ({plan.steps_per_epoch} an epoch)", plan.why["steps_per_epoch"]),
        ("micro-batch", f"{plan.micro_batch} rows", plan.why["micro_batch"]),
        ("tokens", f"{plan.tokens:,}", f"{plan.padding_share:.0%} of the computed positions are padding"),
        ("workers", f"{plan.workers}, {plan.strategy}", plan.why["strategy"]),
        ("memory", f"{most}{plan.memory_bytes / 2**30:.1f} GiB a worker", plan.why["memory_bytes"]),
        ("training", _duration(plan.train_s), plan.why["train_s"]),
        ("whole job", _duration(plan.total_s), plan.why["total_s"]),
    ]
    for name, value, why in lines:
        table.add_row(name, escape(value), f"[dim]{escape(why)}[/]")
    return table


def _column(found: Check, role: str) -> str:
    return f"{role} = {found.columns[role]}" + (" (found by its name)" if role in found.guessed else "")


def result_table(result: Any) -> Table:
    """The scores of a run beside the baselines."""
    part = "test" if result.metrics.get("test") else "validation"
    found = result.metrics.get(part)
    table = _table(f"{escape(result.name)}: scores on {part}", "", "value", "95% interval", "n")
    if not found:
        table.add_row("no validation and no test rows: nothing was measured", "", "", "")
        return table
    for measure, estimate in found.items():
        _score_row(table, measure, estimate)
    for name, baseline in result.baselines.items():
        measure = "f1_macro" if "f1_macro" in baseline else "token_f1"
        _score_row(table, f"{measure} of {name}", baseline[measure])
        _score_row(table, f"gain over {name}", baseline["gain"])
    return table


def evaluation_tables(evaluation: Any) -> list[Table]:
    """One table a part, then the classes of the part that the headline is about."""
    tables = []
    for part in ("validation", "test"):
        scores = getattr(evaluation, part)
        if scores is not None:
            table = _table(f"scores on {part}", "", "value", "95% interval", "n")
            for measure, estimate in scores.metrics.items():
                _score_row(table, measure, vars(estimate))
            tables.append(table)
    scores = evaluation.test or evaluation.validation
    if scores is not None and scores.classes:
        table = _table("by class, weakest first", "label", "precision", "recall", "f1", "95% interval", "n")
        for each in sorted(scores.classes, key=lambda c: c.f1.value):
            interval = f"[{each.f1.low:.3f}, {each.f1.high:.3f}]"
            table.add_row(
                escape(each.label),
                f"{each.precision:.3f}",
                f"{each.recall:.3f}",
                f"{each.f1.value:.3f}",
                escape(interval),
                str(each.f1.n),
            )
        tables.append(table)
    return tables


def prediction_table(found: Sequence[Any]) -> Table:
    """The first predictions."""
    more = f", the first {SHOWN} shown (--output FILE.csv writes all)" if len(found) > SHOWN else ""
    table = _table(f"{len(found)} predictions{more}", "label", "confidence", "text")
    table.columns[2].justify = "left"
    for each in found[:SHOWN]:
        table.add_row(escape(each.label), f"{each.confidence:.3f}", escape(shown(each.text[:200])))
    return table


def _score_row(table: Table, name: str, estimate: dict[str, Any]) -> None:
    interval = f"[{estimate['low']:.3f}, {estimate['high']:.3f}]"
    table.add_row(name, f"{estimate['value']:.3f}", escape(interval), str(estimate["n"]))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not predicted"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
