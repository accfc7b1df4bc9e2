"""What an audit found, for the terminal: books, findings, likely wrong labels, parts. audit.html holds the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from raysft.report import audit_blocks as blocks
from raysft.report.numbers import count, percent, plural

SUSPECTS = 10
TEXT, LABEL = 120, 60  # characters shown
STYLES = {"warning": "yellow", "note": "cyan"}


def audit_table(audit: Mapping[str, Any]) -> Group:
    """The audit in a form that reads well from 60 columns on, with and without colour.

    audit: see raysft.report.audit_blocks for the keys that are read.
    """
    sentence, style = blocks.verdict(audit)
    pieces: list[RenderableType] = [Text("data audit", style="bold"), _books(audit), *_findings(audit)]
    pieces += [*_suspects(audit), Text(), *_parts(audit), Text(sentence, style="yellow" if style == "bad" else "green")]
    return Group(*pieces)


def _books(audit: Mapping[str, Any]) -> Text:
    rows = audit["rows"]
    said = f"rows: {count(rows['read'])} read = {count(rows['kept'])} kept"
    for style in ("quarantined", "rejected"):
        left = [each for each in blocks.slices(audit) if each.style == style]
        if left:
            reasons = ", ".join(f"{each.name} {count(each.rows)}" for each in left)
            said += f" + {count(sum(each.rows for each in left))} {style} ({reasons})"
    return Text(said)


def _findings(audit: Mapping[str, Any]) -> list[RenderableType]:
    found = blocks.findings(audit)
    shown = [each for each in found if each["level"] != "fine"]
    quiet = len(found) - len(shown)
    more: list[RenderableType] = []
    if quiet:
        more.append(Text(f"{plural(quiet, 'more check', 'more checks')} with nothing to do", style="dim"))
    if not shown:
        return more
    table = _table("", "found", "finding, what was done, what to do")
    for each in shown:
        unit = each["unit"][:-1] if each["found"] == 1 else each["unit"]
        done = f" ({escape(each['done'])})" if each["done"] else ""
        # The word, not only its colour, says how grave it is.
        table.add_row(
            f"[{STYLES.get(each['level'], 'none')}]{each['level']}[/]",
            f"{count(each['found'])} {unit}",
            f"{escape(each['title'])}{done}\n[dim]{escape(each['explanation'])}[/]",
        )
    return [Text(), table, *more]


def _suspects(audit: Mapping[str, Any]) -> list[RenderableType]:
    found = blocks.suspects(audit)
    if not found:
        return []
    shown = found[:SUSPECTS]
    more = f", the first {len(shown)} of {count(len(found))}" if len(found) > SUSPECTS else ""
    table = _table("", f"likely wrong labels{more}")
    for number, each in enumerate(shown, 1):
        sure = f" {percent(each['probability'])}" if each["probability"] is not None else ""
        labels = f"{escape(_cut(each['label'], LABEL))} -> {escape(_cut(each['suggested'], LABEL))}{sure}"
        table.add_row(str(number), f"{escape(_cut(each['text'], TEXT))}\n{labels}  [dim]{escape(each['where'])}[/]")
    return [Text(), table]


def _parts(audit: Mapping[str, Any]) -> list[RenderableType]:
    parts = "; ".join(f"{name}: {count(rows)}" for name, rows in blocks.rows_of_parts(audit).items())
    lines: list[RenderableType] = [Text(f"parts: {parts}")] if parts else []
    crossing = blocks.crossings(audit)
    for each in crossing:
        note = f" ({each['note']})" if each["note"] else ""
        lines.append(
            Text(f"leak: {each['what']}: {count(each['crossing'])} of {count(each['checked'])}{note}", style="red")
        )
    if audit.get("proof") and not crossing:
        what = ", ".join(f"{count(each['checked'])} {each['what']}" for each in audit["proof"])
        lines.append(Text(f"leaks: none, counted over {what}"))
    return lines


def _cut(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _table(*columns: str) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        last = index == len(columns) - 1
        table.add_column(column, overflow="fold", justify="left" if last or not index else "right", no_wrap=not last)
    return table
