"""How unlike two parts are: the labels, the words and the lengths of train against test.

A model that is trained on one part and measured on another that differs is measured on other work than it learnt.
Rows of one unit (a group, near-duplicates) resemble each other: what chance alone would show is found by dividing
whole units anew (`chance`), never from the number of rows. Words stand in `drift_words`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raysft.audit.chance import by_chance, p_value
from raysft.audit.finding import Example, Finding

Array = np.ndarray[Any, Any]

NOTE_AUC, WARN_AUC = 0.6, 0.7
NOTE_LABELS, WARN_LABELS = 0.05, 0.15  # total variation beyond chance
NOTE_LENGTHS, WARN_LENGTHS = 0.1, 0.2  # Kolmogorov-Smirnov distance
RARE = 0.001  # p-value from which a difference is no chance
SHOWN = 12  # labels


class Side(NamedTuple):
    """One part: a number and a unit for each of its rows, both int, shape (rows,)."""

    values: Array  # label numbers, a row with several labels standing there several times; or lengths
    units: Array  # rows that share one belong together, on either side


def label_drift(first: Side, second: Side, names: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Shares of labels on both sides. names: of the label numbers.

    {"n": [rows, rows], "distance": total variation, "by_chance": what two samples of the same would show on average,
    "p_value": how often chance shows as much or more, "most": the labels that differ most}
    """
    values, side, units = _joined(first, second)
    counts = np.stack([np.bincount(each.values, minlength=len(names)) for each in (first, second)]).astype(float)
    n = [len(first.values), len(second.values)]
    if not all(n):
        return {"n": n, "distance": 0.0, "by_chance": 0.0, "p_value": 1.0, "most": []}
    distance = float(_total_variation(counts[:1], counts[1:])[0])
    chance = by_chance(values, side, units, len(names), _total_variation, seed)
    shares = counts / counts.sum(axis=1, keepdims=True)
    gap = shares[0] - shares[1]
    return {
        "n": n,
        "distance": round(distance, 4),
        "by_chance": round(float(chance.mean()), 4),
        "p_value": p_value(distance, chance),
        "most": [
            {"label": names[i], "first": round(float(shares[0, i]), 4), "second": round(float(shares[1, i]), 4)}
            for i in np.argsort(-np.abs(gap), kind="stable")[:SHOWN].tolist()
            if gap[i]
        ],
    }


def _joined(first: Side, second: Side) -> tuple[Array, Array, Array]:
    """(values, side, units) of the rows of both."""
    side = np.repeat([0, 1], [len(first.values), len(second.values)])
    return np.concatenate([first.values, second.values]), side, np.concatenate([first.units, second.units])


def _shares(counts: Array) -> Array:
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _total_variation(first: Array, second: Array) -> Array:
    return np.asarray(np.abs(_shares(first) - _shares(second)).sum(axis=1) / 2)


def _kolmogorov_smirnov(first: Array, second: Array) -> Array:
    """The largest gap between two cumulative shares."""
    return np.asarray(np.abs((_shares(first) - _shares(second)).cumsum(axis=1)).max(axis=1))


def length_drift(first: Side, second: Side, seed: int = 0, unit: str = "words") -> dict[str, Any]:
    """{"n", "unit", "medians", "distance": Kolmogorov-Smirnov, "by_chance": what 1 of 1,000 pairs alike exceed}."""
    values, side, units = _joined(first, second)
    n = [len(first.values), len(second.values)]
    if not all(n):
        return {"n": n, "unit": unit, "medians": [0, 0], "distance": 0.0, "by_chance": 0.0}
    lengths, values = np.unique(values, return_inverse=True)
    counts = [np.bincount(values[side == which], minlength=len(lengths))[None] for which in (0, 1)]
    chance = by_chance(values, side, units, len(lengths), _kolmogorov_smirnov, seed)
    return {
        "n": n,
        "unit": unit,
        "medians": [int(np.percentile(each.values, 50, method="inverted_cdf")) for each in (first, second)],
        "distance": round(float(_kolmogorov_smirnov(*counts)[0]), 4),
        "by_chance": round(float(np.quantile(chance, 1 - RARE)), 4),
    }


def drift_finding(section: Mapping[str, Any], action: str) -> Finding:
    """The finding `drift`.

    section: the `drift` of audit.json: {"between": [name, name], "labels": of label_drift or None, "words": of
    word_drift or None, "lengths": of length_drift or None}
    """
    seen = [found for found in map(_judged, ("labels", "words", "lengths"), [section] * 3) if found]
    levels = [level for level, _ in seen]
    first, second = section["between"]
    return Finding(
        name="drift",
        title=f"{second.capitalize()} unlike {first}",
        found=len(seen),
        unit="differences",
        action=action,
        level="warning" if "warning" in levels else "note" if seen else "fine",
        explanation=(
            f"{_sentence(said for _, said in seen)}. Scores on {second} speak of other rows than those of {first}."
            if seen
            else f"Labels, words and lengths of {second} look like those of {first}."
        ),
        examples=_telling_examples(section),
    )


def _sentence(said: Iterable[str]) -> str:
    text = "; ".join(said)
    return text[0].upper() + text[1:]


def _judged(name: str, section: Mapping[str, Any]) -> tuple[str, str] | None:
    """(level, words) of one difference; None where it is small, or may be chance."""
    found = section.get(name)
    if not found:
        return None
    if name == "words":
        at_all, far = found["low"] > 0.5 and found["auc"] > NOTE_AUC, found["auc"] > WARN_AUC
        said = f"words tell the parts apart (AUC {found['auc']:.2f}, {found['low']:.2f} to {found['high']:.2f})"
    elif name == "labels":
        beyond = found["distance"] - found["by_chance"]
        at_all, far = found["p_value"] < RARE and beyond > NOTE_LABELS, beyond > WARN_LABELS
        said = f"shares of labels differ by {found['distance']:.0%} ({found['by_chance']:.0%} by chance)"
    else:
        distance = found["distance"]
        at_all, far = distance > max(NOTE_LENGTHS, found["by_chance"]), distance > WARN_LENGTHS
        said = f"lengths differ (medians {found['medians'][0]} and {found['medians'][1]} {found['unit']})"
    return ("warning" if far else "note", said) if at_all else None


def _telling_examples(section: Mapping[str, Any]) -> tuple[Example, ...]:
    words = section.get("words") or {"first": [], "second": [], "n": [0, 0]}
    return tuple(
        Example("", text=each["word"], detail=f"in {each['first']} texts of {first}, in {each['second']} of {second}")
        for first, second in [section["between"]]
        for side in ("first", "second")
        for each in words[side][:8]
    )
