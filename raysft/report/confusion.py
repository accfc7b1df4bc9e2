"""Which class is taken for which: a table for few classes, an image for many, and the commonest confusions."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np

from raysft.evaluation.evaluation import Scores
from raysft.report.numbers import percent

LARGEST_TABLE = 30  # classes; a table of more cells is no longer read cell by cell
MOST_FREQUENT = 20
HIT, MISS = (58, 120, 194), (217, 119, 44)  # readable on light and on dark


class Cell(NamedTuple):
    """One cell of the table; `strength` is 0 to 1 for the colour, `title` what hovering says."""

    n: int
    strength: float
    hit: bool
    title: str


class HeatRow(NamedTuple):
    """One true class."""

    label: str
    rows: int
    cells: list[Cell]


class Confusion(NamedTuple):
    """`n` rows of `label` were predicted as `predicted`; `share` of that label's rows."""

    label: str
    predicted: str
    n: int
    share: float


def most_frequent(scores: Scores, labels: list[str]) -> list[Confusion]:
    """The commonest wrong answers, most rows first."""
    found = []
    for true, row in enumerate(scores.confusion):
        total = sum(row)
        found += [
            Confusion(labels[true], labels[predicted], count, count / total)
            for predicted, count in enumerate(row)
            if count and predicted != true
        ]
    return sorted(found, key=lambda each: (-each.n, -each.share, each.label, each.predicted))[:MOST_FREQUENT]


def heat_rows(scores: Scores, labels: list[str]) -> list[HeatRow]:
    """The table, one line a true class; empty when there are too many classes for a table."""
    if len(labels) > LARGEST_TABLE:
        return []
    return [_heat_row(true, row, labels) for true, row in enumerate(scores.confusion)]


def _heat_row(true: int, row: list[int], labels: list[str]) -> HeatRow:
    total = sum(row)
    cells = []
    for predicted, count in enumerate(row):
        share = count / total if total else 0.0
        title = f"{labels[true]} → {labels[predicted]}: {count} of {total} ({percent(share)})" if count else ""
        cells.append(Cell(count, round(share, 3), predicted == true, title))
    return HeatRow(labels[true], total, cells)


def heat_image(scores: Scores, labels: list[str]) -> str:
    """A PNG as data URI, one pixel a cell, transparent where no row fell; "" when the table is small enough."""
    if len(labels) <= LARGEST_TABLE:
        return ""
    from matplotlib.image import imsave

    counts = np.asarray(scores.confusion, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    buffer = io.BytesIO()
    imsave(buffer, _pixels(share), format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pixels(share: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """RGBA bytes; the faintest colour is still visible, since one wrong row in a thousand matters here."""
    pixels = np.empty((*share.shape, 4), dtype=np.uint8)
    pixels[..., :3] = MISS
    pixels[np.diag_indices(len(share))] = (*HIT, 0)
    pixels[..., 3] = np.where(share > 0, 255 * (0.3 + 0.7 * np.sqrt(share)), 0)
    return pixels
