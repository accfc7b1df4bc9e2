"""What one evaluation of a model found: its scores, and what each text contributed to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from raysft.metrics import influence
from raysft.metrics.label_sets import given_labels, log_sigmoid
from raysft.metrics.label_sets import point_metrics as label_set_metrics
from raysft.metrics.scores import Array, Decided, decided_metrics
from raysft.metrics.tags import Counts, tag_metrics


@dataclass(frozen=True)
class Judged:
    """n texts. Empty where there is no validation part."""

    scores: dict[str, float] = field(default_factory=dict)
    row_id: Array = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,)
    influence: dict[str, Array] = field(default_factory=dict)  # on measures, (n,): metrics/influence.py
    found: dict[str, Array] = field(default_factory=dict)  # what was decided about each text, (n, ...), by kind of task


def judge_one_label(row_id: Array, labels: Array, logits: Array) -> Judged:
    """Of a classifier with one label a row. labels (n,), logits (n, C).

    found: predicted, int32 (n,); confidence and log_p (of the label), float32 (n,).
    """
    decided = Decided.of(labels, logits)
    return Judged(
        scores=decided_metrics(decided),
        row_id=row_id,
        influence={
            "f1_macro": influence.of_f1_macro(labels, decided.predicted, decided.classes),
            "accuracy": influence.of_mean(decided.predicted == labels),
            "loss": influence.of_mean(decided.losses),
        },
        found={
            "predicted": decided.predicted.astype(np.int32),
            "confidence": decided.confidence.astype(np.float32),
            "log_p": -decided.losses.astype(np.float32),
        },
    )


def judge_label_sets(row_id: Array, targets: Array, logits: Array, threshold: float) -> Judged:
    """Of a classifier with several labels a row. targets bool (n, C), logits (n, C).

    found: as judge_counts, with rows as their own units; given, bool (n, C).
    """
    given = given_labels(logits, threshold)
    losses = -np.where(targets, log_sigmoid(logits), log_sigmoid(-logits)).mean(axis=1)
    counts = Counts(targets & given, targets, given, losses, np.ones(len(targets), np.int64))
    scores = {**label_set_metrics(targets, logits, threshold), "threshold": threshold}
    return _of_counts(row_id, counts, scores)


def judge_counts(row_id: Array, counts: Counts) -> Judged:
    """Of entities. found: hits, true and given, int32 (n, K); losses, float32, and units, int32 (n,)."""
    return _of_counts(row_id, counts, tag_metrics(counts))


def judge_losses(row_id: Array, sums: Array, tokens: Array, scores: dict[str, float]) -> Judged:
    """Of a language model: summed loss and number of tokens of each piece of a text, (n,).

    found: losses, float32, and units, int32 (n,).
    """
    found = {"losses": sums.astype(np.float32), "units": tokens.astype(np.int32)}
    return Judged(scores, row_id, {"loss": influence.of_ratio(sums, tokens.astype(np.float64))}, found)


def _of_counts(row_id: Array, counts: Counts, scores: dict[str, float]) -> Judged:
    hits, true, given = (each.astype(np.int32) for each in (counts.hits, counts.true, counts.given))
    right, there, said = (each.sum(axis=1).astype(np.float64) for each in (hits, true, given))
    return Judged(
        scores=scores,
        row_id=row_id,
        influence={
            "f1_macro": influence.of_f1_macro_counts(hits, true, given),
            "f1_micro": influence.of_f1_micro_counts(hits, true, given),
            "precision": influence.of_ratio(right, said),
            "recall": influence.of_ratio(right, there),
            "accuracy": influence.of_mean(counts.exact),
            "loss": influence.of_ratio(counts.losses, counts.units.astype(np.float64)),
        },
        found={
            "hits": hits,
            "true": true,
            "given": given,
            "losses": counts.losses.astype(np.float32),
            "units": counts.units.astype(np.int32),
        },
    )
