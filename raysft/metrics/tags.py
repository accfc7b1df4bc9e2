"""Scores of entities: an entity is right where its edges and its type are, all else is wrong (as conlleval and seqeval
count).

n texts, U units of a text (words, or pieces of words), K types of entities, C = 2 K + 1 tags: O is 0, B of type k is
2 k + 1, I of type k is 2 k + 2. R resamples. The loss is in nats a unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from raysft.metrics.interval import Estimate, bounded, resamples
from raysft.metrics.label_sets import f1_of, macro_of
from raysft.metrics.scores import Array

NAMES = ("f1_micro", "f1_macro", "precision", "recall", "accuracy", "loss")
AT_ONCE = 10**6  # tags of units that are decoded together, 4 bytes each; or those of one text

Entity = tuple[int, int, int]  # first unit, unit after the last, type


@dataclass(frozen=True)
class Counts:
    """What there is to count in each text."""

    hits: Array  # int64 (n, K): entities that are true and given
    true: Array  # int64 (n, K)
    given: Array  # int64 (n, K)
    losses: Array  # float64 (n,), summed over units
    units: Array  # int64 (n,)

    @property
    def exact(self) -> Array:
        """Texts all of whose entities are given, and no others: bool (n,)."""
        return np.asarray(((self.hits == self.true) & (self.hits == self.given)).all(axis=1))


def count(
    true: Sequence[Iterable[Entity]],
    given: Sequence[Iterable[Entity]],
    types: int,
    losses: Array | None = None,
    units: Array | None = None,
) -> Counts:
    """Count the entities of each text, true and given ones; any offsets will do, if both have the same."""
    found = np.zeros((3, len(true), types), np.int64)
    for row, (mine, theirs) in enumerate(zip(map(set, true), map(set, given), strict=True)):
        for kind, entities in enumerate((mine & theirs, mine, theirs)):
            for _, _, name in entities:
                found[kind, row, name] += 1
    none = np.zeros(len(true))
    return Counts(
        hits=found[0],
        true=found[1],
        given=found[2],
        losses=none if losses is None else losses,
        units=none.astype(np.int64) if units is None else units,
    )


def best_tags(log_p: Sequence[Array]) -> list[Array]:
    """The most probable tags of each text among those in which every I follows a B or an I of its type.

    log_p: log-probability of each tag, float (U, C) of each text. By dynamic programming (Viterbi 1967).
    """
    found: list[Array] = [np.zeros(0, np.int64)] * len(log_p)
    order = sorted((row for row in range(len(log_p)) if len(log_p[row])), key=lambda row: -len(log_p[row]))
    start = 0
    while start < len(order):
        rows = order[start : start + max(1, AT_ONCE // log_p[order[start]].size)]
        for row, tags in zip(rows, _paths([log_p[row] for row in rows]), strict=True):
            found[row] = tags
        start += len(rows)
    return found


def _paths(log_p: list[Array]) -> list[Array]:
    """Of texts from the longest down."""
    lengths = np.array([len(each) for each in log_p])
    tags = log_p[0].shape[1]
    begin, inside = np.arange(1, tags, 2), np.arange(2, tags, 2)
    best = np.stack([each[0] for each in log_p]).astype(np.float64)
    best[:, inside] = -np.inf
    back = np.zeros((lengths[0], len(log_p), tags), np.int32)
    for at in range(1, lengths[0]):
        alive = int((lengths > at).sum())
        before = best[:alive]
        came = np.repeat(before.argmax(axis=1)[:, None], tags, axis=1)
        came[:, inside] = np.where(before[:, inside] > before[:, begin], inside, begin)
        back[at, :alive] = came
        here = np.stack([each[at] for each in log_p[:alive]])
        best[:alive] = np.take_along_axis(before, came, axis=1) + here
    found = []
    for row, length in enumerate(lengths.tolist()):
        path = np.zeros(length, np.int64)
        path[-1] = best[row].argmax()
        for at in range(length - 1, 0, -1):
            path[at - 1] = back[at, row, path[at]]
        found.append(path)
    return found


def entities_of(tags: Array) -> list[Entity]:
    """The entities of tags in which every I follows a B or an I of its type."""
    starts = np.flatnonzero(tags % 2 == 1)
    stops = np.append(np.flatnonzero((tags % 2 == 1) | (tags == 0)), len(tags))  # where an entity before would end
    ends = stops[np.searchsorted(stops, starts, side="right")]
    return list(zip(starts.tolist(), ends.tolist(), (tags[starts] // 2).tolist(), strict=True))


def tag_metrics(counts: Counts) -> dict[str, float]:
    """All of NAMES as single numbers; see `tag_estimates`."""
    return {name: float(values[0]) for name, values in _measures(counts, np.ones((1, len(counts.exact)))).items()}


def tag_estimates(counts: Counts, units: Array, seed: int = 0) -> dict[str, Estimate]:
    """Every measure with its interval over texts, resampled by `units`, int (n,).

    f1_micro, precision, recall: over all entities. f1_macro: mean F1 of the types that are true or given somewhere.
    accuracy: share of texts with exactly the right entities. loss: mean cross-entropy of the units.
    """
    values = tag_metrics(counts)
    draws = [_measures(counts, weights) for weights in resamples(units, seed)]
    return {
        name: bounded(values[name], np.concatenate([each[name] for each in draws]), len(units), units, name)
        for name in NAMES
    }


def type_estimates(counts: Counts, units: Array, seed: int = 0) -> list[Estimate]:
    """F1 of each type with its interval; n is the true entities of the type."""
    values = f1_of(counts.hits.sum(axis=0), counts.true.sum(axis=0), counts.given.sum(axis=0))
    draws = []
    for weights in resamples(units, seed):
        hits, true, given = (weights @ each for each in (counts.hits, counts.true, counts.given))
        draws.append(np.where(true + given > 0, f1_of(hits, true, given), np.nan))
    drawn = np.concatenate(draws)
    return [
        bounded(float(values[k]), drawn[:, k], int(counts.true[:, k].sum()), units[counts.true[:, k] > 0], "f1")
        for k in range(counts.true.shape[1])
    ]


def tag_difference(first: Counts, second: Counts, units: Array, seed: int = 0) -> Estimate:
    """Macro-F1 of the entities `first` gives minus that of `second`, on the same texts, resampled together (paired)."""

    def gain(weights: Array) -> Array:
        one, other = (
            macro_of(*(weights @ each for each in (counts.hits, counts.true, counts.given)))
            for counts in (first, second)
        )
        return np.asarray(one - other)

    value = float(gain(np.ones((1, len(units))))[0])
    draws = np.concatenate([gain(weights) for weights in resamples(units, seed)])
    return bounded(value, draws, len(units), units, "difference")


def _measures(counts: Counts, weights: Array) -> dict[str, Array]:
    """Each measure per resample, (R,). weights: how often each text is drawn, (R, n)."""
    hits, true, given = (weights @ each for each in (counts.hits, counts.true, counts.given))
    right, there, said = (each.sum(axis=1) for each in (hits, true, given))
    return {
        "f1_micro": f1_of(right, there, said),
        "f1_macro": macro_of(hits, true, given),
        "precision": _share(right, said),
        "recall": _share(right, there),
        "accuracy": weights @ counts.exact.astype(np.float64) / np.maximum(1, weights.sum(axis=1)),
        "loss": _share(weights @ counts.losses, weights @ counts.units),
    }


def _share(some: Array, of: Array) -> Array:
    """0 where there is nothing of which to be a share."""
    return np.asarray(np.where(of > 0, some / np.maximum(of, 1), 0.0))
