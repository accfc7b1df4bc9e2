"""The scores of a finished model on labelled rows: every measure, every class, the mistakes, beside two baselines.

OneLabel and LabelSets fill these in, by what a row may have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.corpus.messages import Turn
from raysft.corpus.targets import Span
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.interval import Estimate
from raysft.model.padding import pad_id
from raysft.training.forward import predict_logits
from raysft.training.precision import Precision

WORST = 25
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassScore:
    """One class: precision, recall and F1 with an interval, whose n is the rows that have it."""

    label: str
    precision: float
    recall: float
    f1: Estimate
    predicted: int  # rows that were given it


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction the model was sure of: often a wrong label."""

    where: str
    text: str
    label: str
    predicted: str
    confidence: float
    spans: Sequence[Span] = ()  # where tokens are tagged: the entities of the text, and those it was given
    predicted_spans: Sequence[Span] = ()


@dataclass(frozen=True)
class Scores:
    """All that is known of a model on one set of rows."""

    metrics: dict[str, Estimate]
    classes: list[ClassScore]
    confusion: list[list[int]]  # (C, C), true class by predicted one; empty where a row may have several labels
    worst: list[Mistake]


@dataclass(frozen=True)
class AnsweredRow:
    """One row that was answered, beside the answer it has."""

    where: str
    turns: list[Turn]  # before the answer
    reference: str
    answer: str
    exact_match: bool
    token_f1: float
    ended: str  # see raysft.evaluation.decoding
    confidence: float


@dataclass(frozen=True)
class AnswerScores(Scores):
    """The same where answers are written: how many of them ended why, and some of them, right and wrong, to read."""

    ended: dict[str, int] = field(default_factory=dict)  # see raysft.evaluation.decoding
    samples: list[AnsweredRow] = field(default_factory=list)


@dataclass(frozen=True)
class Baseline:
    """A simple model on the same rows; `gain` is ours minus its macro-F1, paired."""

    accuracy: Estimate
    f1_macro: Estimate
    f1_weighted: Estimate
    gain: Estimate


@dataclass(frozen=True)
class LabelSetBaseline:
    """The same where a row may have several labels, or entities; accuracy: all of a row's are right."""

    accuracy: Estimate
    f1_macro: Estimate
    f1_micro: Estimate
    gain: Estimate


@dataclass(frozen=True)
class AnswerBaseline:
    """The same where answers are written; `gain` is ours minus its token F1, paired."""

    exact_match: Estimate
    token_f1: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Evaluation:
    """A finished run's scores. `scored_on` says which part the headline and the baselines belong to."""

    labels: list[str]
    test: Scores | None
    validation: Scores | None
    baselines: Mapping[str, Baseline | LabelSetBaseline | AnswerBaseline]
    scored_on: str
    threshold: float | None = None  # where a row may have several labels: the probability from which one is given

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Model:
    """A loaded classifier on the device at hand."""

    def __init__(self, model: nn.Module) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self.device)

    def logits(self, rows: TokenizedRows) -> Array:
        """Shape (rows, classes), float32; padding id as the model says."""
        return predict_logits(self._model, rows, pad_id(self._model), Precision.plain(self.device))


def model_labels(folder: Path) -> list[str]:
    """The labels of an artifact in the order of its logits."""
    names = json.loads((folder / "config.json").read_bytes())["id2label"]
    return [names[str(index)] for index in range(len(names))]
