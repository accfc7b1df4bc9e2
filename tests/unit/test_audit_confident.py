"""Confident learning, by hand: how many labels are wrong, and which are given for which."""

from __future__ import annotations

import numpy as np
import pytest

from raysft.audit.confident import PRIOR, Joint, confident_joint


def test_the_confident_joint_by_hand() -> None:
    """Means of the labels' own probabilities: (0.9 + 0.8 + 0.1 + 0.6) / 4 = 0.6 and (0.7 + 0.9) / 2 = 0.8.

    Rows 0, 1 and 3 are confidently label 0; row 2, given as 0, is confidently 1; row 4 reaches neither mean; row 5 is
    confidently 1. Of label 0 one in four is wrong: 4 * 1 / 4; of label 1 none.
    """
    first = np.array([0.9, 0.8, 0.1, 0.6, 0.3, 0.1])
    probabilities = np.stack([first, 1 - first], axis=1).astype(np.float64)
    assert confident_joint(probabilities, np.array([0, 0, 0, 0, 1, 1])).wrong == 1


def test_counts_are_scaled_up_to_the_rows_that_reach_no_mean() -> None:
    """Label 0: mean 0.5 over 8 rows; three rows reach it, one row is confidently 1, four are neither: 8 * 1 / 4 = 2."""
    own = np.array([0.9, 0.9, 0.9, 0.1, 0.3, 0.3, 0.3, 0.3])
    other = np.array([0.0, 0.0, 0.0, 0.9, 0.3, 0.3, 0.3, 0.3])
    probabilities = np.stack([own, other, 1 - own - other], axis=1)
    probabilities = np.vstack([probabilities, [0.1, 0.8, 0.1]])
    assert confident_joint(probabilities, np.array([0] * 8 + [1])).wrong == 2


def test_pairs_are_the_labels_that_are_mixed_up() -> None:
    """Of four rows given as 0 one is confidently 1; the label has a row that reaches no mean, so one counts 4 / 3."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.0, 1.0], [0.3, 0.7], [0.2, 0.8]])
    joint = confident_joint(probabilities, np.array([0, 0, 0, 0, 1]))
    assert joint.pairs.tolist() == [0 * 2 + 1]
    assert joint.rows.tolist() == pytest.approx([4 / 3])


def test_a_habit_is_more_than_the_average_pair() -> None:
    joint = Joint(3, np.array([1, 5]), np.array([10.0, 2.0]))
    given, meant = np.array([0, 1, 2]), np.array([1, 2, 0])
    average = 12 / 6
    expected = np.log((np.array([10.0, 2.0, 0.0]) + PRIOR) / (average + PRIOR))
    assert joint.habit(given, meant).tolist() == pytest.approx(expected.tolist())
    assert joint.habit(given, meant)[1] == 0, "as often as the average"
    assert Joint(3, np.zeros(0, np.int64), np.zeros(0)).habit(given, meant).tolist() == [0, 0, 0]
