"""Which measures a run takes on its validation part, by name, so that `train.select` can be checked beforehand."""

from __future__ import annotations

from raysft.config.sections import JobConfig
from raysft.metrics import label_sets, scores, tags

LOSSES = {"loss", "ece"}  # the lower the better


def measures_of(config: JobConfig) -> tuple[str, ...]:
    """The names that train.select may have for this job; every task measures its loss."""
    if config.task == "token-classification":
        return tags.NAMES
    if config.task != "classification":
        return ("loss",)  # perplexity is its exponential
    return label_sets.NAMES if config.data.multi_label else scores.NAMES


def is_loss(name: str) -> bool:
    """Whether a lower value is the better one."""
    return name in LOSSES
