"""Rows whose label is probably wrong: a probe that has not seen a row finds its label very unlikely.

What the probe says about each row comes from a fold the row is not in (`probe`). Confident learning (`confident`)
turns that into an estimate of how many labels are wrong and of which labels are given for which others; as many rows
are named, those first of which both together are surest.

Labels that overlap look like labels that are wrong: where the probe is often, but seldom surely, of another mind, only
what is far more likely is named. Measured by benchmarks/wrong_labels.py on Banking77 with labels changed on purpose.

Shapes: R rows, D numbers a point, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysft.audit.confident import confident_joint
from raysft.audit.finding import EXAMPLES, Example, Finding
from raysft.audit.personal import excerpt
from raysft.audit.pieces import spread
from raysft.audit.probe import out_of_fold
from raysft.folds.assign import assign
from raysft.folds.strata import Strata

Array = np.ndarray[Any, Any]

FLOOR = 1e-12  # below any probability that matters
PAIRS = 20  # kept of the labels that are mixed up
SERIOUS = 0.05  # share of flagged rows that makes the finding a warning
LEAST_ODDS = 2.0  # of a wrong label against a right one, from which a row is named
SURE_ODDS = 9.0  # the same where labels overlap
BETWEEN = 0.15  # share of rows of small doubt from which labels overlap
SKILL = 0.75  # of the way from saying the most frequent label to being always right; below, labels may overlap


@dataclass(frozen=True)
class Pair:
    """Two labels that are mixed up, and how many flagged rows carry the one and look like the other."""

    given: int
    suggested: int
    count: int


@dataclass(frozen=True)
class Suspects:
    """What the probe says about every row, and the rows whose label is probably wrong."""

    flagged: Array  # (F,) int64 positions of rows, the worst first
    given: Array  # (R,) int64: the labels as they came
    suggested: Array  # (R,) int64: the most probable other label
    probability: Array  # (R,) float32: of the suggested label
    score: Array  # (R,) float32: log of p(suggested) / p(given); above 0 the probe disagrees; 0 where not judged
    doubt: Array  # (R,) float32: the score, and how often these two labels are mixed up: what rows are ranked by
    judged: Array  # (R,) bool: the probe has learnt the row's label from other rows
    accuracy: float  # share of the judged rows that the probe labels as given; 0.0 without any
    baseline: float  # the same for always saying the most frequent label
    estimated: int  # wrong labels among the rows with which the probe disagrees; 0 where it knows nothing
    overlap: bool  # the probe is often of another mind, and seldom sure of it

    @property
    def ranked(self) -> Array:
        """Every row with which the probe disagrees, the most doubtful first: positions, int64. Begins with flagged."""
        return _ranked(self.score, self.doubt)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The labels that are mixed up most among the flagged rows, the most frequent first."""
        labels = zip(self.given[self.flagged].tolist(), self.suggested[self.flagged].tolist(), strict=True)
        ranked = sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))
        return tuple(Pair(given, suggested, count) for (given, suggested), count in ranked[:PAIRS])


def row_keys(texts: Array, labels: Array, seed: int) -> Array:
    """A stable random number per row, uint64 (R,): from what it says, its label and the seed.

    texts, labels: integers (R,) that stand for each text and label wherever they come from, as hashes do.
    """
    salt = spread(np.full(1, seed, np.uint64))
    return spread(texts.astype(np.uint64) ^ spread(labels.astype(np.uint64) ^ salt))


def find_suspects(embeddings: Array, labels: Array, units: Array, keys: Array, k: int = 5) -> Suspects:
    """Judge each row by a probe that was fitted without it and without the other rows of its unit.

    embeddings: float, (R, D), of unit length; labels: int, (R,); units: int, (R,): rows that must stay together.
    keys: uint64, (R,), see row_keys: the folds are drawn by them, so that the rounding of embeddings moves no row.
    k: folds, at least 2. The result does not depend on the order of the rows.

    Raises ValueError where lengths differ or k is below 2.

    A row is judged when the other folds have its label LEARNT times. As many rows are flagged as labels are estimated
    to be wrong, but none whose odds are below LEAST_ODDS (SURE_ODDS where labels overlap), and none when the probe is
    no better than always saying the most frequent label: then it knows nothing.
    """
    if not len(embeddings) == len(labels) == len(units) == len(keys):
        raise ValueError(
            f"lengths differ: {len(embeddings)} embeddings, {len(labels)} labels, {len(units)} units, {len(keys)} keys"
        )
    if k < 2:
        raise ValueError(f"k must be at least 2, but is {k}")
    names, codes = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    if len(names) < 2:
        return _nothing(np.asarray(labels, np.int64))
    points = np.ascontiguousarray(embeddings, np.float32)
    order = _order(keys, units, points)
    points, codes = points[order], codes[order]
    folds = assign(Strata.one(codes), units[order], keys[order], k, test=0.0)
    found = _judge(*out_of_fold(points, codes, folds, len(names)), codes)
    return _as_given(found, order, names)


def _nothing(labels: Array) -> Suspects:
    """No row is judged, because there are not two labels to tell apart."""
    zeros = np.zeros(len(labels), np.float32)
    none, nowhere = np.zeros(0, np.int64), np.zeros(len(labels), bool)
    return Suspects(none, labels, labels, zeros, zeros, zeros, nowhere, 0.0, 0.0, 0, False)


def _as_given(found: Suspects, order: Array, names: Array) -> Suspects:
    """The same with the rows where the caller has them (row i of `found` is row order[i]) and the caller's labels."""
    back = np.argsort(order)
    return replace(
        found,
        flagged=order[found.flagged],
        given=names[found.given][back],
        suggested=names[found.suggested][back],
        probability=found.probability[back],
        score=found.score[back],
        doubt=found.doubt[back],
        judged=found.judged[back],
    )


def _order(keys: Array, units: Array, points: Array) -> Array:
    """Positions by key, equal rows by their unit's sum of keys: the same order wherever the rows come from.

    Texts that differ in case or spacing only have one key. At last their points tell them apart, which moves no row to
    another fold as long as they are of one unit.
    """
    _, unit = np.unique(units, return_inverse=True)
    sums = np.zeros(unit.max() + 1, np.uint64)
    np.add.at(sums, unit, keys)
    whole = points.view(np.dtype((np.void, points.shape[1] * points.itemsize))).ravel()
    return np.lexsort((np.unique(whole, return_inverse=True)[1], sums[unit], keys))


def _judge(probabilities: Array, judged: Array, codes: Array) -> Suspects:
    """Turn out-of-fold probabilities (R, C) into suspects. codes: (R,), the given labels, below C."""
    rows = np.arange(len(codes))
    own = probabilities[rows, codes]
    others = probabilities.copy()
    others[rows, codes] = -1.0
    best = np.maximum(others.max(axis=1), 0.0)
    score = np.where(judged, np.log(best + FLOOR) - np.log(own + FLOOR), 0.0).astype(np.float32)
    number = max(1, int(judged.sum()))
    accuracy = float((score[judged] < 0).sum() / number)
    baseline = float(np.bincount(codes[judged], minlength=1).max() / number)
    suggested = others.argmax(axis=1)
    joint = confident_joint(probabilities[judged], codes[judged])
    doubt = (score + np.where(judged, joint.habit(codes, suggested), 0.0)).astype(np.float32)
    wrong = min(joint.wrong, int((score > 0).sum())) if accuracy > baseline else 0
    overlap = wrong > 0 and _overlap(score[judged], accuracy, baseline)
    worst = _ranked(score, doubt)[:wrong]
    flagged = worst[doubt[worst] > np.log(SURE_ODDS if overlap else LEAST_ODDS)]
    return Suspects(flagged, codes, suggested, best, score, doubt, judged, accuracy, baseline, wrong, overlap)


def _ranked(score: Array, doubt: Array) -> Array:
    """Rows of another mind, the most doubtful first; equal ones in their order."""
    disagrees = np.flatnonzero(score > 0)
    return disagrees[np.argsort(-doubt[disagrees], kind="stable")]


def _overlap(score: Array, accuracy: float, baseline: float) -> bool:
    """Whether labels overlap, or the base cannot tell them apart. score: of the judged rows.

    Both make the probe be often of another mind. Labels that are only wrong make it as sure of that as of the rest;
    labels that overlap leave rows of every doubt, a quarter of them below half of what is usual.
    """
    skill = (accuracy - baseline) / max(1.0 - baseline, FLOOR)
    if skill >= SKILL:
        return False
    sure = (score > np.log(SURE_ODDS)).sum() >= 0.5 * (score > 0).sum()
    between = (np.abs(score) < np.median(np.abs(score)) / 2).mean() >= BETWEEN
    return bool(between and not sure)


def finding(
    suspects: Suspects, wheres: Sequence[str], texts: Sequence[str], label_names: Sequence[str], action: str
) -> Finding:
    """The flagged rows as a finding; the worst are its examples.

    wheres, texts: per row; label_names: per label number. A warning from SERIOUS of the judged rows on, but never
    where labels overlap: most of the rows may be right.
    """
    found, judged = len(suspects.flagged), int(suspects.judged.sum())
    serious = found >= SERIOUS * judged and not suspects.overlap
    level = "fine" if not found else "warning" if serious else "note"
    examples = tuple(
        Example(
            wheres[row],
            excerpt(texts[row]),
            excerpt(label_names[suspects.given[row]]),
            f"suggested: {excerpt(label_names[suspects.suggested[row]])} ({suspects.probability[row]:.2f})",
        )
        for row in suspects.flagged[:EXAMPLES].tolist()
    )
    explanation = _explanation(suspects, judged)
    return Finding("wrong_labels", "Probably wrong labels", found, "rows", action, level, explanation, examples)


def _explanation(suspects: Suspects, judged: int) -> str:
    if judged == 0:
        return "Not looked at: there are too few rows a label to learn from."
    agrees = f"a probe trained on the other rows agrees with {suspects.accuracy:.0%} of the labels"
    if suspects.accuracy <= suspects.baseline:
        return f"Cannot be told: {agrees}, no more than always saying the most frequent label would."
    found, disagrees = len(suspects.flagged), len(suspects.ranked)
    amount = f"of {disagrees:,} with which it disagrees, {suspects.estimated:,} are estimated to be wrong"
    if suspects.overlap:
        named = f"the {found:,} surest are named" if found else "none is sure enough to be named"
        return f"The labels overlap, or the base cannot tell them apart: {agrees}; {amount}, and {named}."
    if not found:
        return f"None stands out: {agrees}."
    return f"Read them and mend the labels that are wrong: {agrees}; {amount}."
