"""How long the texts are in tokens, how many are cut at `model.max_length`, and which are a single word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysft.audit.finding import EXAMPLES, Example, Finding
from raysft.audit.language import NO_SPACES

Array = np.ndarray[Any, Any]

CUT_SHARE = 0.02  # of cut texts, above which a warning is due
SHORT_SHARE = 0.05  # of texts of one word, above which a note is due
AIM = 0.01  # share of cut texts that a better max_length would leave
BINS = 40
MOST_LETTERS = 60  # of a word


def count_lengths(lengths: Array) -> Counter[int]:
    """Texts by their number of tokens, special tokens included and before any cut. Counts of batches add up."""
    values, counts = np.unique(np.asarray(lengths), return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def lengths_section(counts: Mapping[int, int], max_length: int) -> dict[str, Any]:
    """The `lengths` of audit.json; quantiles and `max` in tokens, `cut` in texts."""
    values, weights = _sorted(counts)
    total = int(weights.sum())
    cut = int(weights[values > max_length].sum())
    return {
        "unit": "tokens",
        "texts": total,
        "mean": round(float(values @ weights) / max(1, total), 1),
        **{f"p{q}": quantile(counts, q / 100) for q in (50, 90, 99)},
        "max": int(values[-1]) if total else 0,
        "cut": cut,
        "cut_share": round(cut / max(1, total), 4),
        "max_length": max_length,
        "enough": quantile(counts, 1 - AIM),  # the least max_length that cuts at most 1%
        "histogram": histogram(counts),
    }


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The least length that at least `share` of the texts do not exceed; 0 without a text."""
    values, weights = _sorted(counts)
    if not len(values):
        return 0
    below = np.cumsum(weights)
    return int(values[np.searchsorted(below, share * below[-1] - 1e-9)])


def histogram(counts: Mapping[int, int]) -> dict[str, list[int]]:
    """{"edges", "counts"}: counts[i] texts have edges[i] <= tokens < edges[i + 1]; at most BINS bins.

    Bins are equally wide up to one and a half times the 99% quantile; the last one holds all longer texts.
    """
    values, weights = _sorted(counts)
    if not len(values):
        return {"edges": [0, 1], "counts": [0]}
    longest = int(values[-1])
    top = min(longest, quantile(counts, 0.99) * 3 // 2) + 1
    width = -(-top // BINS)
    edges = list(range(0, top, width))
    edges.append(max(edges[-1] + width, longest + 1))
    found, _ = np.histogram(values, bins=edges, weights=weights)
    return {"edges": edges, "counts": found.astype(int).tolist()}


def cut_finding(section: Mapping[str, Any], examples: Sequence[Example] = ()) -> Finding:
    """Texts longer than `model.max_length`. section: what `lengths_section` gives; examples: some of the longest."""
    cut, share, limit = section["cut"], section["cut_share"], section["max_length"]
    explanation = f"Every text fits model.max_length, {limit} tokens."
    if cut:
        shown = f"{share:.1%} of the texts lose" if share >= 0.001 else f"{cut} of {section['texts']} texts lose"
        explanation = f"{shown} what stands after {limit} tokens."
    if share > AIM:
        explanation += f" model.max_length: {section['enough']} would cut at most {AIM:.0%}."
    return Finding(
        name="cut",
        title="Texts cut at max_length",
        found=cut,
        unit="rows",
        action="",
        level="warning" if share > CUT_SHARE else "note" if cut else "fine",
        explanation=explanation,
        examples=tuple(examples[:EXAMPLES]),
    )


def in_pieces(section: Mapping[str, Any], pieces: int, learnt: int) -> dict[str, Any]:
    """`lengths` where long texts are not cut but learnt in pieces. learnt: texts that gave a piece."""
    left = {"pieces": pieces, "split": section["cut"], "unlearnable": section["texts"] - learnt}
    return {**section, "cut": 0, "cut_share": 0.0, **left}


def pieces_finding(section: Mapping[str, Any]) -> Finding:
    """Texts longer than `model.max_length`, all of which is learnt. section: what `in_pieces` gives."""
    split, bare, limit = section["split"], section["unlearnable"], section["max_length"]
    said = f"Every text fits model.max_length, {limit} tokens."
    if split:
        said = f"They are learnt whole, in pieces of at most {limit} tokens: {section['pieces']} pieces in all."
    if bare:
        said += f" {bare} texts have no token to learn and are left out of training and scores."
    return Finding(
        name="pieces",
        title="Texts longer than max_length",
        found=split,
        unit="rows",
        action="",
        level="note" if bare else "fine",
        explanation=said,
    )


def one_word(texts: Sequence[str]) -> list[int]:
    """Rows of a batch whose text is a single word, in writing that puts spaces between words."""
    rows = [row for row, text in enumerate(texts) if len(text) <= MOST_LETTERS and " " not in text.strip()]
    return [row for row in rows if not NO_SPACES.search(texts[row])]


def short_finding(found: int, rows: int, examples: Sequence[Example] = ()) -> Finding:
    """Texts of one word. found: of `rows`."""
    share = found / max(1, rows)
    return Finding(
        name="one_word",
        title="Texts of one word",
        found=found,
        unit="rows",
        action="",
        level="note" if share > SHORT_SHARE else "fine",
        explanation=(
            f"{share:.1%} of the texts say little about their label; look whether they are real."
            if share > SHORT_SHARE
            else f"{share:.1%} of the texts, which is few."
        ),
        examples=tuple(examples[:EXAMPLES]),
    )


def _sorted(counts: Mapping[int, int]) -> tuple[Array, Array]:
    """(lengths, texts of each), int64, shortest first."""
    values = np.array(sorted(counts), np.int64)
    return values, np.array([counts[value] for value in values.tolist()], np.int64)
