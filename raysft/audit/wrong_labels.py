"""Rows whose label is probably wrong: a probe that has not seen a row finds its label very unlikely.

The probe is a multinomial logistic regression on frozen embeddings. What it says about each row comes from a fold the
row is not in. Confident learning (Northcutt, Jiang, Chuang: Confident Learning, JAIR 70, 2021, sections 3.1 and 3.2)
turns that into an estimate of how many labels are wrong, and the rows that disagree most are named. Written from the
paper, because the package cleanlab is AGPL-3.0 and raysft is Apache-2.0.

Measured by benchmarks/wrong_labels.py on Banking77 with a tenth of the labels changed.

Shapes: R rows, D numbers a point, C labels.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysft.audit.finding import EXAMPLES, Example, Finding
from raysft.folds.assign import assign
from raysft.folds.strata import Strata

Array = np.ndarray[Any, Any]

STRENGTH = 5.0  # inverse L2 penalty of the probe, for points of unit length; from 1 to 10 little changes
STEPS = 40  # of L-BFGS; on Banking77 it has converged by then
FLOOR = 1e-12  # below any probability that matters
LEARNT = 2  # rows of a label from which the probe can learn it: one row is no evidence against another
PAIRS = 20  # kept of the labels that are mixed up
SERIOUS = 0.05  # share of flagged rows that makes the finding a warning


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
    judged: Array  # (R,) bool: the probe has learnt the row's label from other rows
    accuracy: float  # share of the judged rows that the probe labels as given; 0.0 without any
    baseline: float  # the same for always saying the most frequent label

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The labels that are mixed up most among the flagged rows, the most frequent first."""
        labels = zip(self.given[self.flagged].tolist(), self.suggested[self.flagged].tolist(), strict=True)
        ranked = sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))
        return tuple(Pair(given, suggested, count) for (given, suggested), count in ranked[:PAIRS])


def find_suspects(embeddings: Array, labels: Array, units: Array, k: int = 5, seed: int = 0) -> Suspects:
    """Judge each row by a probe that was fitted without it and without the other rows of its unit.

    embeddings: float, (R, D), of unit length; labels: int, (R,); units: int, (R,): rows that must stay together.
    k: folds, at least 2. The result does not depend on the order of the rows.

    A row is judged when the other folds have its label LEARNT times. No row is flagged when the probe is no better
    than always saying the most frequent label: then it knows nothing.
    """
    if not len(embeddings) == len(labels) == len(units):
        raise ValueError(f"lengths differ: {len(embeddings)} embeddings, {len(labels)} labels, {len(units)} units")
    if k < 2:
        raise ValueError(f"k must be at least 2, but is {k}")
    names, codes = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    if len(names) < 2:
        return _nothing(np.asarray(labels, np.int64))
    points = np.ascontiguousarray(embeddings, np.float32)
    keys = _keys(points, codes, seed)
    order = _order(keys, units)
    points, codes = points[order], codes[order]
    folds = assign(Strata.one(codes), units[order], keys[order], k, test=0.0)
    found = _judge(*_out_of_fold(points, codes, folds, len(names)), codes)
    return _as_given(found, order, names)


def _nothing(labels: Array) -> Suspects:
    """No row is judged, because there are not two labels to tell apart."""
    zeros = np.zeros(len(labels), np.float32)
    return Suspects(np.zeros(0, np.int64), labels, labels, zeros, zeros, np.zeros(len(labels), bool), 0.0, 0.0)


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
        judged=found.judged[back],
    )


def _keys(points: Array, codes: Array, seed: int) -> Array:
    """A stable random number per row, uint64 (R,): the hash of its point and label under this seed."""
    salt = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    rows = zip(points, codes, strict=True)
    digests = (hashlib.blake2b(point.tobytes() + code.tobytes(), digest_size=8, key=salt) for point, code in rows)
    return np.frombuffer(b"".join(digest.digest() for digest in digests), "<u8").astype(np.uint64)


def _order(keys: Array, units: Array) -> Array:
    """Positions by key, equal rows by their unit's sum of keys: the same order wherever the rows come from."""
    _, unit = np.unique(units, return_inverse=True)
    sums = np.zeros(unit.max() + 1, np.uint64)
    np.add.at(sums, unit, keys)
    return np.lexsort((sums[unit], keys))


def _out_of_fold(points: Array, codes: Array, folds: Array, labels: int) -> tuple[Array, Array]:
    """Probabilities (R, C) of each row from the other folds, and whether these teach the row's label, (R,) bool."""
    probabilities = np.zeros((len(codes), labels), np.float32)
    known = np.zeros(len(codes), bool)
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():  # one unit holds every row
            break
        probabilities[held] = _fit_predict(points[~held], codes[~held], points[held], labels)
        known[held] = np.bincount(codes[~held], minlength=labels)[codes[held]] >= LEARNT
    return probabilities, known


def _fit_predict(points: Array, codes: Array, held: Array, labels: int) -> Array:
    """Probabilities of the points `held`, one column a label, by a probe fitted on `points`; unseen labels get 0."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    seen = np.unique(codes)
    found = np.zeros((len(held), labels), np.float32)
    if len(seen) == 1:
        found[:, seen] = 1.0
        return found
    # One BLAS thread: the products are small, a second thread gains little on an idle machine and waits busily on a
    # shared one (15 times the CPU time, measured on two cores with four busy processes).
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(C=STRENGTH, max_iter=STEPS).fit(points, codes)
        found[:, seen] = probe.predict_proba(held)
    return found


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
    wrong = expected_wrong(probabilities[judged], codes[judged]) if accuracy > baseline else 0
    worst = np.argsort(-score, kind="stable")[:wrong]
    flagged = worst[score[worst] > 0]
    return Suspects(flagged, codes, others.argmax(axis=1), best, score, judged, accuracy, baseline)


def expected_wrong(probabilities: Array, codes: Array) -> int:
    """How many of the labels are wrong, by the confident joint calibrated to the counts of the labels.

    probabilities: out of fold, (R, C); codes: given labels below C, (R,). A row counts with confidence for a label
    when it reaches the mean probability of that label among the rows that carry it; where it does for several, the
    most probable one counts.
    """
    labels = probabilities.shape[1]
    counts = np.bincount(codes, minlength=labels)
    own = probabilities[np.arange(len(codes)), codes]
    means = np.bincount(codes, weights=own, minlength=labels) / np.maximum(counts, 1)
    threshold = np.where(counts > 0, means, np.inf).astype(np.float32)
    confident = np.where(probabilities >= threshold, probabilities, -1.0)
    meant = confident.argmax(axis=1)
    counted = confident.max(axis=1) > 0
    agree = np.bincount(codes[counted & (meant == codes)], minlength=labels)
    differ = np.bincount(codes[counted & (meant != codes)], minlength=labels)
    return round(float((counts * differ / np.maximum(agree + differ, 1)).sum()))


def finding(
    suspects: Suspects, wheres: Sequence[str], texts: Sequence[str], label_names: Sequence[str], action: str
) -> Finding:
    """The flagged rows as a finding; the worst are its examples.

    wheres, texts: per row; label_names: per label number. A warning from SERIOUS of the judged rows on.
    """
    found, judged = len(suspects.flagged), int(suspects.judged.sum())
    level = "warning" if found and found >= SERIOUS * judged else "note" if found else "fine"
    examples = tuple(
        Example(
            wheres[row],
            texts[row],
            label_names[suspects.given[row]],
            f"suggested: {label_names[suspects.suggested[row]]} ({suspects.probability[row]:.2f})",
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
    if len(suspects.flagged) == 0:
        return f"None stands out: {agrees}."
    return f"Read them and mend the labels that are wrong: {agrees} and finds another label more likely for these."
