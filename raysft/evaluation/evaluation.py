"""The scores of a finished model on labelled rows: every measure, every class, the mistakes, beside two baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raysft.corpus.rows import where
from raysft.corpus.tokens import TokenizedRows
from raysft.evaluation.baselines import majority, tfidf_svm
from raysft.metrics.interval import Estimate, class_estimates, difference, estimates
from raysft.metrics.scores import confusion, log_softmax
from raysft.training.forward import predict_logits
from raysft.training.precision import Precision

WORST = 25
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassScore:
    """One class: its rows, and precision, recall and F1 with an interval."""

    label: str
    precision: float
    recall: float
    f1: Estimate


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction the model was sure of: often a wrong label."""

    where: str
    text: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Scores:
    """All that is known of a model on one set of rows."""

    metrics: dict[str, Estimate]
    classes: list[ClassScore]
    confusion: list[list[int]]
    worst: list[Mistake]


@dataclass(frozen=True)
class Baseline:
    """A simple model on the same rows; `gain` is ours minus its macro-F1, paired."""

    accuracy: Estimate
    f1_macro: Estimate
    f1_weighted: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Evaluation:
    """A finished run's scores. `scored_on` says which part the headline and the baselines belong to."""

    labels: list[str]
    test: Scores | None
    validation: Scores | None
    baselines: dict[str, Baseline]
    scored_on: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Model:
    """A loaded classifier on the device at hand."""

    def __init__(self, model: nn.Module) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self.device)

    def logits(self, rows: TokenizedRows) -> Array:
        """Shape (rows, classes), float32; padding id as the model says."""
        pad = getattr(self._model.config, "pad_token_id", None)
        return predict_logits(self._model, rows, int(pad) if pad is not None else 0, Precision.plain(self.device))


def score(corpus: pa.Table, logits: Array, labels: Sequence[str]) -> Scores:
    """Scores of one part. corpus: its rows, with label_id and unit; logits (n, C) in the same order."""
    true, units = corpus.column("label_id").to_numpy(), corpus.column("unit").to_numpy()
    log_p = log_softmax(logits)
    predicted = log_p.argmax(axis=1)
    counts = confusion(true, predicted, len(labels))
    return Scores(
        metrics=estimates(true, logits, units),
        classes=_class_scores(true, predicted, units, counts, labels),
        confusion=counts.tolist(),
        worst=_worst(corpus, predicted, np.exp(log_p.max(axis=1)), labels),
    )


def _class_scores(
    true: Array, predicted: Array, units: Array, counts: Array, labels: Sequence[str]
) -> list[ClassScore]:
    f1 = class_estimates(true, predicted, units, len(labels))
    hits = np.diagonal(counts)
    precision = hits / np.maximum(counts.sum(axis=0), 1)
    recall = hits / np.maximum(counts.sum(axis=1), 1)
    return [ClassScore(label, float(precision[c]), float(recall[c]), f1[c]) for c, label in enumerate(labels)]


def _worst(corpus: pa.Table, predicted: Array, confidence: Array, labels: Sequence[str]) -> list[Mistake]:
    wrong = np.flatnonzero(predicted != corpus.column("label_id").to_numpy())
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
    rows = corpus.take(order).to_pylist()
    return [
        Mistake(
            where(row["source"], row["line"]),
            row["text"],
            row["label"],
            labels[predicted[i]],
            float(confidence[i]),
        )
        for i, row in zip(order, rows, strict=True)
    ]


def baselines(train: pa.Table, part: pa.Table, logits: Array, classes: int) -> dict[str, Baseline]:
    """Majority and TF-IDF + linear SVM, trained on the same training rows, scored on `part`."""
    true, units = part.column("label_id").to_numpy(), part.column("unit").to_numpy()
    ours, learnt = logits.argmax(axis=1), train.column("label_id").to_numpy()
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


def predictions_table(corpus: pa.Table, part: str, logits: Array, labels: Sequence[str]) -> pa.Table:
    """One line per row: where it stands, its label, the prediction and its probability."""
    log_p = log_softmax(logits)
    predicted = log_p.argmax(axis=1)
    columns = corpus.select(["row_id", "source", "line", "text", "label"])
    extra = {
        "part": pa.array([part] * corpus.num_rows, pa.string()),
        "predicted": pa.array([labels[each] for each in predicted], pa.string()),
        "confidence": pa.array(np.exp(log_p.max(axis=1)), pa.float64()),
        "log_probability_of_label": pa.array(log_p[np.arange(len(log_p)), corpus.column("label_id").to_numpy()]),
    }
    for name, column in extra.items():
        columns = columns.append_column(name, column)
    return columns


def model_labels(folder: Path) -> list[str]:
    """The labels of an artifact in the order of its logits."""
    names = json.loads((folder / "config.json").read_bytes())["id2label"]
    return [names[str(index)] for index in range(len(names))]
