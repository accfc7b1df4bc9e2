"""audit.html: what was found in a corpus, on one self-contained page without scripts; from audit.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup

from raysft.report import audit_blocks as blocks
from raysft.report import plots
from raysft.report.html import _environment, _style
from raysft.report.learnt import Lesson
from raysft.report.numbers import count

TASKS = {
    "classification": "texts with labels",
    "token-classification": "texts with tagged spans",
    "generation": "prompts with answers",
    "masked-lm": "texts without labels",
    "causal-lm": "texts without labels",
}


def audit_page(audit: Mapping[str, Any], name: str, lessons: Sequence[Lesson] = ()) -> str:
    """The page; the same audit gives the same text. audit: as audit_blocks describes it. name: of the job. lessons:
    conversations that show what is learnt of them."""
    sentence, style = blocks.verdict(audit)
    part_names, bars = blocks.label_bars(audit)
    language_parts, languages = blocks.language_columns(audit)
    page = {
        "name": name,
        "css": Markup(_style()),  # noqa: S704  # our own file
        "kind": _kind(audit),
        "verdict": sentence,
        "verdict_class": style,
        "books": blocks.books(audit),
        "rows": audit["rows"],
        "slices": blocks.slices(audit),
        "sources": audit.get("sources") or [],
        "findings": blocks.findings(audit),
        "wrong": audit.get("wrong_labels") or {},
        "wrong_finding": blocks.finding(audit, "wrong_labels"),
        "suspects": blocks.suspects(audit),
        "near": audit.get("near_duplicates") or {},
        "clusters": blocks.clusters(audit),
        "label_parts": part_names,
        "bars": bars,
        "lengths": audit.get("lengths") or {},
        # Drawn from numbers alone; no text of the person is in it.
        "length_plot": Markup(length_plot(audit.get("lengths") or {})),  # noqa: S704
        "scripts": blocks.shares(audit.get("scripts") or {}),
        "language": audit.get("language") or {},
        "language_parts": language_parts,
        "languages": languages,
        "lessons": lessons,
        "personal": blocks.finding(audit, "personal_data"),
        "drift": audit.get("drift") or {},
        "parts": blocks.part_rows(audit),
        "proof": audit.get("proof") or [],
        "crossings": blocks.crossings(audit),
        "rejected": blocks.rejected(audit),
        "settings": blocks.settings(audit),
    }
    return _environment().get_template("audit_page.html").render(page) + "\n"


def _kind(audit: Mapping[str, Any]) -> str:
    files = len(audit.get("sources") or [])
    labels = len(audit.get("labels") or {})
    said = [f"{count(audit['rows']['read'])} {TASKS.get(audit.get('task', ''), 'rows')}"]
    said += [f"{count(labels)} labels"] if labels else []
    said += [f"{files} file{'' if files == 1 else 's'}"] if files else []
    return "Data audit: " + ", ".join(said)


def length_plot(lengths: Mapping[str, Any]) -> str:
    """Texts by their tokens as an SVG element, what is cut in another colour; "" without a text."""
    histogram = lengths.get("histogram") or {"edges": [], "counts": []}
    edges, counts = histogram["edges"], histogram["counts"]
    if not sum(counts):
        return ""
    limit = lengths["max_length"]
    # The last bin holds all longer texts; it is drawn as wide as the others.
    width = edges[1] - edges[0]
    cut = [left >= limit for left in edges[:-1]]
    with mpl.rc_context(plots.STYLE):
        figure, axes = plots._figure((5.0, 1.9))
        colours = [plots.SECOND if each else plots.FIRST for each in cut]
        axes.bar(edges[:-1], counts, width=0.9 * width, align="edge", color=colours)
        last = edges[-2] + width
        if limit < last:
            axes.axvline(limit, color=plots.SECOND, linewidth=1.2, linestyle=(0, (4, 3)), label=f"cut at {limit}")
        plots._finish(axes, "texts")
        axes.set_xlabel("tokens" if edges[-1] <= last else f"tokens; the last bar: {count(edges[-2])} and more")
        axes.set_xlim(0, last)
        return plots._svg(figure, "lengths")
