"""Texts with their entities in colour: the true ones, and those that a tagger gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raysft.corpus.targets import Span
from raysft.report.facts import ReportFacts

SHOWN = 400  # characters around the first entity; the rest of a long text is left out
COLOURS = 8  # of the style sheet; types beyond share them


class Piece(NamedTuple):
    """A stretch of a text: within an entity, or between two."""

    text: str
    type: str  # "" outside
    colour: int


class Example(NamedTuple):
    """One text that was tagged wrongly."""

    true: list[Piece]
    given: list[Piece]
    where: str
    confidence: float


def examples(facts: ReportFacts) -> list[Example]:
    """The texts with wrong entities of which the model was most sure; empty where no tokens are tagged."""
    if facts.scored is None or not facts.tagged:
        return []
    types = facts.evaluation.labels
    found = []
    for each in facts.scored.worst:
        window = _window(each.text, [*each.spans, *each.predicted_spans])
        true, given = (pieces(each.text, spans, types, window) for spans in (each.spans, each.predicted_spans))
        found.append(Example(true, given, each.where, each.confidence))
    return found


def pieces(
    text: str, spans: Sequence[Span], types: Sequence[str], window: tuple[int, int] | None = None
) -> list[Piece]:
    """The stretches of a text, or of a part of it, in order. spans: sorted, none of which overlaps another."""
    at, end = window or (0, len(text))
    found = [Piece("… ", "", 0)] if at > 0 else []
    for first, last, name in spans:
        if last <= at or first >= end:
            continue
        found += [Piece(text[at:first], "", 0)] if first > at else []
        found.append(Piece(text[max(first, at) : min(last, end)], name, types.index(name) % COLOURS))
        at = last
    found += [Piece(text[at:end], "", 0)] if at < end else []
    return [*found, Piece(" …", "", 0)] if end < len(text) else found


def _window(text: str, spans: Sequence[Span]) -> tuple[int, int]:
    """Which part of a text is shown."""
    start = max(0, min((first for first, _, _ in spans), default=0) - SHOWN // 4)
    start = start if len(text) > SHOWN else 0
    return start, min(len(text), start + SHOWN)
