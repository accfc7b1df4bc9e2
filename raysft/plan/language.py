"""What of a job file means nothing where texts alone, or entities, are learnt; and how long texts become pieces."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.config import Job
from raysft.config.sections import VOCABULARY_TASKS

MASKED_SHARE = 0.15  # of the positions, at which masked language models have logits


def refuse_labels_only(job: Job) -> None:
    """Raises JobFileError for a setting that only means something where labels are learnt."""
    config = job.config
    task, train = config.task, config.train
    if task not in VOCABULARY_TASKS:
        return
    if train.select != "loss":
        raise job.problem("train.select", f"loss (without classes there is no {train.select}), where task is {task}")
    for key, found, allowed in (
        ("train.loss", train.loss, "cross_entropy"),
        ("train.class_weights", train.class_weights, None),
        ("train.label_smoothing", train.label_smoothing, 0),
    ):
        if found != allowed:
            raise job.problem(key, f"belongs to classes, and task: {task} has none; leave it out")
    if config.model.pooler == "identity":
        raise job.problem("model.pooler", f"belongs to classifiers; leave it out, where task is {task}")


def refuse_for_entities(job: Job) -> None:
    """Raises JobFileError for a setting of labels that means nothing where tokens are tagged."""
    data = job.config.data
    if job.config.task != "token-classification":
        return
    for key, found in (("data.multi_label", data.multi_label), ("data.label_separator", data.label_separator)):
        if found:
            raise job.problem(key, "belongs to texts with several labels; leave it out, where tokens are tagged")


def piece_lengths(lengths: np.ndarray[Any, Any], max_length: int, shared: int = 0) -> np.ndarray[Any, Any]:
    """About how long the pieces are that texts of these lengths are cut into. lengths: tokens, int (texts,). shared:
    tokens that a piece has in common with the next one."""
    short, long = lengths[lengths <= max_length], lengths[lengths > max_length]
    whole, rest = np.divmod(long - shared, max_length - shared)
    tails = rest[rest > 0] + shared
    return np.concatenate([short[short > 0], np.full(int(whole.sum()), max_length), tails])


def logits_share(task: str) -> float:
    """At which share of the positions a model has logits over its whole vocabulary."""
    return {"masked-lm": MASKED_SHARE, "causal-lm": 1.0, "generation": 1.0}.get(task, 0.0)
