"""Scores where each row has one label: the most probable class is right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from raysft.corpus.rows import where
from raysft.evaluation.baselines import majority, tfidf_svm
from raysft.evaluation.evaluation import WORST, Baseline, ClassScore, Mistake, Scores
from raysft.metrics.interval import class_estimates, difference, estimates
from raysft.metrics.scores import confusion, log_softmax

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OneLabel:
    """Corpora have `label_id` and `unit`; logits (n, C) stand in the order of their rows and of `labels`."""

    labels: tuple[str, ...]
    threshold: ClassVar[None] = None  # nothing to decide beyond the largest logit

    def probabilities(self, logits: Array) -> Array:
        """Of each class, (n, C)."""
        return np.exp(log_softmax(logits))

    def decide(self, logits: Array) -> list[tuple[str, float]]:
        """The most probable label of each row, and its probability."""
        return [(self.labels[int(row.argmax())], float(row.max())) for row in self.probabilities(logits)]

    def score(self, corpus: pa.Table, logits: Array) -> Scores:
        """Scores of one part."""
        true, units = corpus.column("label_id").to_numpy(), corpus.column("unit").to_numpy()
        log_p = log_softmax(logits)
        predicted = log_p.argmax(axis=1)
        counts = confusion(true, predicted, len(self.labels))
        return Scores(
            metrics=estimates(true, logits, units),
            classes=self._class_scores(true, predicted, units, counts),
            confusion=counts.tolist(),
            worst=self._worst(corpus, predicted, np.exp(log_p.max(axis=1))),
        )

    def baselines(self, train: pa.Table, part: pa.Table, logits: Array) -> dict[str, Baseline]:
        """Majority and TF-IDF + linear SVM, trained on the same training rows, scored on `part`."""
        true, units = part.column("label_id").to_numpy(), part.column("unit").to_numpy()
        ours, learnt, classes = logits.argmax(axis=1), train.column("label_id").to_numpy(), len(self.labels)
        guesses = {
            "majority": majority(learnt, len(true)),
            "tfidf_svm": tfidf_svm(train.column("text").to_pylist(), learnt, part.column("text").to_pylist()),
        }
        found = {}
        for name, guess in guesses.items():
            certain = np.eye(classes)[guess] * 100.0
            metrics = estimates(true, certain, units)
            found[name] = Baseline(
                metrics["accuracy"],
                metrics["f1_macro"],
                metrics["f1_weighted"],
                difference(true, ours, guess, units, classes),
            )
        return found

    def predictions(self, corpus: pa.Table, part: str, logits: Array) -> pa.Table:
        """One line per row: where it stands, its label, the prediction and its probability."""
        log_p, decided = log_softmax(logits), self.decide(logits)
        columns = corpus.select(["row_id", "source", "line", "text", "label"])
        extra = {
            "part": pa.array([part] * corpus.num_rows, pa.string()),
            "predicted": pa.array([label for label, _ in decided], pa.string()),
            "confidence": pa.array([confidence for _, confidence in decided], pa.float64()),
            "log_probability_of_label": pa.array(log_p[np.arange(len(log_p)), corpus.column("label_id").to_numpy()]),
        }
        for name, column in extra.items():
            columns = columns.append_column(name, column)
        return columns

    def _class_scores(self, true: Array, predicted: Array, units: Array, counts: Array) -> list[ClassScore]:
        f1 = class_estimates(true, predicted, units, len(self.labels))
        hits, of_true, of_predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
        precision, recall = hits / np.maximum(of_predicted, 1), hits / np.maximum(of_true, 1)
        return [
            ClassScore(label, float(precision[c]), float(recall[c]), f1[c], int(of_predicted[c]))
            for c, label in enumerate(self.labels)
        ]

    def _worst(self, corpus: pa.Table, predicted: Array, confidence: Array) -> list[Mistake]:
        wrong = np.flatnonzero(predicted != corpus.column("label_id").to_numpy())
        order = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
        rows = corpus.take(order).to_pylist()
        return [
            Mistake(
                where(row["source"], row["line"]),
                row["text"],
                row["label"],
                self.labels[predicted[i]],
                float(confidence[i]),
            )
            for i, row in zip(order, rows, strict=True)
        ]
