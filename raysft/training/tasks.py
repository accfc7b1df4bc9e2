"""Which objective a job is taught with, and what else about training depends on its task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config import JobConfig
from raysft.corpus.encode import tag_names
from raysft.corpus.tokens import TokenizedRows
from raysft.errors import UsageError
from raysft.metrics.label_sets import DEFAULT_THRESHOLD
from raysft.model.classifier import ONE_LABEL, SEVERAL_LABELS, build_classifier
from raysft.model.language import build_language_model, keeps_rows_apart
from raysft.model.padding import pad_id
from raysft.model.tagger import build_tagger
from raysft.plan.plan import choose_packing
from raysft.preparation.answering import words_of
from raysft.storage.pretrained import Base
from raysft.training.classification import Classification
from raysft.training.language import Language
from raysft.training.lessons import Lesson
from raysft.training.multilabel import MultiLabel
from raysft.training.objective import Objective
from raysft.training.tagging import Tagging
from raysft.training.words import LabelScorer, Words


def build_objective(
    config: JobConfig,
    labels: tuple[str, ...],
    train: TokenizedRows,
    validation: TokenizedRows,
    pad_id: int,
    device: torch.device,
    lesson: Lesson | None = None,
    packed: int | None = None,
    sums: bool = False,
    scorer: LabelScorer | None = None,
) -> Objective:
    """The objective of this job. Raises JobFileError, DataError: see the objectives. lesson, packed, sums: see
    Language, where the head is one over the vocabulary. scorer: where labels are words."""
    if lesson is not None:
        language = Language(lesson, train, validation, config.train.seed, pad_id, device, packed, sums)
        return language if scorer is None else Words(language, validation, scorer)
    if config.task == "token-classification":
        return Tagging(train, validation, config.train, pad_id, device, tag_names(labels))
    kind = MultiLabel if config.data.multi_label else Classification
    return kind(train, validation, config.train, pad_id, device, labels)


def build_model(config: JobConfig, base: Base, labels: tuple[str, ...]) -> nn.Module:
    """The base with the head that this task needs. Raises UsageError."""
    if config.language_task is not None:
        return build_language_model(base, config.model, config.language_task, config.train.seed)
    if config.task == "token-classification":
        return build_tagger(base, config.model, tag_names(labels), config.train.seed)
    return build_classifier(base, config.model, labels, config.train.seed, problem_type(config))


def packing_of(config: JobConfig, model: nn.Module, lengths: np.ndarray[Any, Any]) -> int | None:
    """Tokens of a sequence that holds several rows; None: each row has its own.

    Raises UsageError where the job asks for it and the model would look from one row into another.
    """
    size = choose_packing(config, lengths)
    if size is not None and not keeps_rows_apart(model):
        raise UsageError(
            f"train.packing: {type(model).__name__} does not keep the rows of one sequence apart",
            "Use --set train.packing=false.",
        )
    return size


def problem_type(config: JobConfig) -> str:
    """What transformers calls this kind of classification."""
    return SEVERAL_LABELS if config.data.multi_label else ONE_LABEL


def scorer_of(
    config: JobConfig, base: Base, labels: tuple[str, ...], model: nn.Module, device: torch.device
) -> LabelScorer | None:
    """The LabelScorer of a job whose labels are words; None of any other."""
    words = words_of(config, base, labels)
    if words is None:
        return None
    return LabelScorer.of(model, words.answers, words.max_length, pad_id(model), device)


def decision_facts(config: JobConfig, best: dict[str, float], objective: Objective | None = None) -> dict[str, Any]:
    """What raysft.json says of how the best checkpoint decides: where a row may have several labels, the probability
    from which a label is given; where tokens are tagged, what has one tag. best: its scores on the validation part,
    empty where there is none."""
    if isinstance(objective, Tagging):
        return {"units": objective.units}
    if not config.data.multi_label:
        return {}
    return {"threshold": best["threshold"] if best else config.train.threshold or DEFAULT_THRESHOLD}
