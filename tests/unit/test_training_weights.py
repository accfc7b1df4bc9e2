"""Weights of labels: those of scikit-learn, and what cannot be is refused with what to write instead."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from raysft.errors import DataError, JobFileError
from raysft.training.weights import label_weights, require_weight

LABELS = ("account", "delivery", "refund")


def test_balanced_is_that_of_scikit_learn() -> None:
    rows = np.repeat([0, 1, 2], [50, 5, 1])
    found = label_weights("balanced", LABELS, np.bincount(rows))
    # Rounded to float32, in which the device computes.
    np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.arange(3), y=rows), rtol=1e-7)
    assert found[rows].sum() == pytest.approx(56, rel=1e-6)


def test_balanced_leaves_out_a_label_without_rows() -> None:
    assert label_weights("balanced", LABELS, np.array([3, 0, 1])).tolist() == pytest.approx([2 / 3, 1, 2], rel=1e-6)


def test_labels_that_are_not_named_weigh_one() -> None:
    counts = np.array([1, 2, 3])
    assert label_weights({"refund": 2, "account": 0}, LABELS, counts).tolist() == [0, 1, 2]
    assert label_weights(None, LABELS, counts).tolist() == [1, 1, 1]


def test_every_wrong_entry_is_named_at_once() -> None:
    with pytest.raises(JobFileError) as error:
        label_weights({"refnd": 2, "account": -1, "delivery": float("nan"), "zzz": 1}, LABELS, np.ones(3))
    said = [str(problem) for problem in error.value.problems]
    assert said == [
        "train.class_weights: no training row has the label 'refnd'; did you mean 'refund'?",
        "train.class_weights: the weight of 'account' must be a number from 0 on, found -1",
        "train.class_weights: the weight of 'delivery' must be a number from 0 on, found nan",
        "train.class_weights: no training row has the label 'zzz'; the labels are: account, delivery, refund",
    ]
    assert pickle.loads(pickle.dumps(error.value)).problems == error.value.problems  # noqa: S301  # workers return it


def test_nothing_to_learn_is_an_error() -> None:
    require_weight(1e-9)
    for total in (0.0, float("nan")):
        with pytest.raises(DataError, match="weight 0"):
            require_weight(total)
