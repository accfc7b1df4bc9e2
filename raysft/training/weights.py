"""`train.class_weights` as numbers: how much the rows of each label count, as if they were repeated."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysft.errors import DataError, JobFileError, Problem

KEY = "train.class_weights"
Array = np.ndarray[Any, Any]


def label_weights(asked: str | Mapping[str, float] | None, labels: Sequence[str], counts: Array) -> Array:
    """The weight of each label, float64 (C,). counts: how often the training part carries each, int (C,).

    balanced: n / (labels * n_label) with n the sum of `counts` and only labels that occur counted, so that all of them
    weigh the same together and the mean weight is 1 (as scikit-learn's class_weight="balanced").
    Raises JobFileError: a label that the training part does not have, a weight that is negative or not finite.
    """
    if asked is None:
        return np.ones(len(counts))
    if isinstance(asked, str):
        return _balanced(counts)
    problems = [text for label, weight in asked.items() if (text := _wrong(label, weight, labels))]
    if problems:
        raise JobFileError([Problem("", KEY, text) for text in problems])
    weights = np.array([asked.get(label, 1.0) for label in labels], np.float32)
    return weights.astype(np.float64)


def require_weight(total: float) -> None:
    """Refuse to train on nothing. Raises DataError when all targets of the training part together weigh 0."""
    if not total > 0:
        raise DataError(
            "nothing to learn from: all targets of the training part have the weight 0",
            f"Give a label of the training part a weight above 0 in {KEY}, or remove the key.",
        )


def _balanced(counts: Array) -> Array:
    there = counts > 0
    weights = np.ones(len(counts))
    weights[there] = counts.sum() / (there.sum() * counts[there])
    # Rounded as the device holds them, so that the sum of weights and the weighted losses agree to the last bit.
    return weights.astype(np.float32).astype(np.float64)


def _wrong(label: str, weight: float, labels: Sequence[str]) -> str:
    """What is wrong with one entry; "" when nothing is."""
    if label not in labels:
        near = difflib.get_close_matches(label, labels, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the labels are: {', '.join(labels[:20])}"
        return f"no training row has the label {label!r}; {hint}"
    if not (math.isfinite(weight) and weight >= 0):
        return f"the weight of {label!r} must be a number from 0 on, found {weight}"
    return ""
