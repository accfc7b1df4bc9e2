"""What of a job file means nothing where texts alone, or entities, are learnt; and how long texts become pieces."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.config import Job, JobConfig
from raysft.config.sections import VOCABULARY_TASKS

CHUNK_BYTES = 256 * 2**20  # as model/chunks.py has it, which loads torch
WORDS = "words"
PACKED_TASKS = ("generation", "causal-lm")  # whose tokens see nothing that comes after them
MASKED_SHARE = 0.15  # of the positions, at which masked language models have logits
WORDS_SHARE = 0.25  # about, where labels are words: of the tokens of a text with its label


def refuse_labels_only(job: Job) -> None:
    """Raises JobFileError for a setting that only means something where labels are learnt."""
    config = job.config
    task, train = config.task, config.train
    if task not in VOCABULARY_TASKS:
        return
    if train.select != "loss":
        raise job.problem("train.select", f"loss (without labels there is no {train.select}), where task is {task}")
    for key, found, allowed in (
        ("train.loss", train.loss, "cross_entropy"),
        ("train.class_weights", train.class_weights, None),
        ("train.label_smoothing", train.label_smoothing, 0),
    ):
        if found != allowed:
            raise job.problem(key, f"belongs to labels, and task: {task} has none; leave it out")
    if config.model.pooler == "identity":
        raise job.problem("model.pooler", f"belongs to classifiers; leave it out, where task is {task}")


def refuse_packing(job: Job) -> None:
    """Raises JobFileError where rows would see each other: only where each token sees those before it are they cut."""
    if job.config.train.packing and job.config.language_task not in PACKED_TASKS:
        raise job.problem("train.packing", f"belongs to {' and '.join(PACKED_TASKS)}; leave it out")
    if job.config.train.packing and job.config.model.attention == "flash_attention_2":
        raise job.problem(
            "train.packing", "does not go with model.attention: flash_attention_2; use auto, or no packing"
        )


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


def kind_of_logits(config: JobConfig) -> str:
    """The task as the two functions below take it, or WORDS."""
    return WORDS if config.labels_are_words else config.task


def logits_at_once(task: str, positions: int, vocabulary: int) -> float:
    """Numbers of the logits that exist at once in training on so many positions."""
    return vocabulary * min(logits_share(task) * positions, max(1, CHUNK_BYTES // (4 * vocabulary)))


def logits_share(task: str) -> float:
    """At which share of the positions a model has logits over its whole vocabulary."""
    return {"masked-lm": MASKED_SHARE, "causal-lm": 1.0, "generation": 1.0, WORDS: WORDS_SHARE}.get(task, 0.0)
