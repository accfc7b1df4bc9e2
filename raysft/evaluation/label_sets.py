"""Scores where a row may have several labels: each label of each row is right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.corpus.rows import where
from raysft.corpus.targets import compact, labels_of
from raysft.evaluation.baselines import commonest_set, tfidf_svms
from raysft.evaluation.evaluation import WORST, ClassScore, LabelSetBaseline, Mistake, Scores
from raysft.metrics.label_sets import (
    given_labels,
    label_estimates,
    label_set_difference,
    label_set_estimates,
    log_sigmoid,
)

Array = np.ndarray[Any, Any]
NONE = "(no label)"


@dataclass(frozen=True)
class LabelSets:
    """Corpora have `label`, a JSON list, and `unit`; logits (n, C) stand in the order of their rows and of `labels`.

    threshold: the probability from which a label is given.
    """

    labels: tuple[str, ...]
    threshold: float

    def probabilities(self, logits: Array) -> Array:
        """Of each label, (n, C); they do not add up to 1."""
        return np.exp(log_sigmoid(logits))

    def decide(self, logits: Array) -> list[tuple[str, float]]:
        """The labels of each row as a JSON list, and the probability of the least sure decision about it."""
        given = given_labels(logits, self.threshold)
        sure = _sure(logits, given).min(axis=1, initial=1.0)
        return [(compact(self.names(row)), float(each)) for row, each in zip(given, sure, strict=True)]

    def score(self, corpus: pa.Table, logits: Array) -> Scores:
        """Scores of one part."""
        true, units = self._true(corpus), corpus.column("unit").to_numpy()
        given = given_labels(logits, self.threshold)
        return Scores(
            metrics=label_set_estimates(true, logits, self.threshold, units),
            classes=self._class_scores(true, given, units),
            confusion=[],
            worst=self._worst(corpus, true, given, logits),
        )

    def baselines(self, train: pa.Table, part: pa.Table, logits: Array) -> dict[str, LabelSetBaseline]:
        """The commonest set of labels, and TF-IDF + a linear SVM a label, trained on the same rows."""
        true, learnt, units = self._true(part), self._true(train), part.column("unit").to_numpy()
        ours = given_labels(logits, self.threshold)
        guesses = {
            "majority": commonest_set(learnt, len(true)),
            "tfidf_svm": tfidf_svms(train.column("text").to_pylist(), learnt, part.column("text").to_pylist()),
        }
        found = {}
        for name, guess in guesses.items():
            metrics = label_set_estimates(true, np.where(guess, 100.0, -100.0), 0.5, units)
            gain = label_set_difference(true, ours, guess, units)
            found[name] = LabelSetBaseline(metrics["accuracy"], metrics["f1_macro"], metrics["f1_micro"], gain)
        return found

    def predictions(self, corpus: pa.Table, part: str, logits: Array) -> pa.Table:
        """One line per row: where it stands, its labels, those it was given, and the probability of each label."""
        true, decided = self._true(corpus), self.decide(logits)
        columns = corpus.select(["row_id", "source", "line", "text", "label"])
        right = np.where(true, log_sigmoid(logits), log_sigmoid(-logits))
        extra = {
            "part": pa.array([part] * corpus.num_rows, pa.string()),
            "predicted": pa.array([labels for labels, _ in decided], pa.string()),
            "confidence": pa.array([confidence for _, confidence in decided], pa.float64()),
            "log_probability_of_label": pa.array(right.sum(axis=1)),  # of having just these labels
            "probabilities": pa.array(list(self.probabilities(logits)), pa.list_(pa.float64())),
        }
        for name, column in extra.items():
            columns = columns.append_column(name, column)
        return columns

    def names(self, given: Array) -> list[str]:
        """The labels of one row, from bool (C,)."""
        return [self.labels[c] for c in np.flatnonzero(given)]

    def _true(self, corpus: pa.Table) -> Array:
        """Which labels the rows have, bool (n, C)."""
        number = {label: index for index, label in enumerate(self.labels)}
        true = np.zeros((corpus.num_rows, len(self.labels)), bool)
        for row, label in enumerate(corpus.column("label").to_pylist()):
            true[row, [number[name] for name in labels_of(label)]] = True
        return true

    def _class_scores(self, true: Array, given: Array, units: Array) -> list[ClassScore]:
        f1 = label_estimates(true, given, units)
        hits, of_true, of_given = ((true & given).sum(axis=0), true.sum(axis=0), given.sum(axis=0))
        precision, recall = hits / np.maximum(of_given, 1), hits / np.maximum(of_true, 1)
        return [
            ClassScore(label, float(precision[c]), float(recall[c]), f1[c], int(of_given[c]))
            for c, label in enumerate(self.labels)
        ]

    def _worst(self, corpus: pa.Table, true: Array, given: Array, logits: Array) -> list[Mistake]:
        """Rows by the wrong decision that the model was most sure of."""
        surety = np.where(true != given, _sure(logits, given), 0.0).max(axis=1, initial=0.0)
        wrong = np.flatnonzero((true != given).any(axis=1))
        order = wrong[np.argsort(-surety[wrong], kind="stable")][:WORST]
        return [
            Mistake(
                where(row["source"], row["line"]),
                row["text"],
                ", ".join(self.names(true[i])) or NONE,
                ", ".join(self.names(given[i])) or NONE,
                float(surety[i]),
            )
            for i, row in zip(order, corpus.take(order).to_pylist(), strict=True)
        ]


def _sure(logits: Array, given: Array) -> Array:
    """The probability of each decision, (n, C)."""
    return np.exp(np.where(given, log_sigmoid(logits), log_sigmoid(-logits)))
