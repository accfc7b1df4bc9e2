"""Configurations as lines: what they scored, what became of them, and in which order."""

from __future__ import annotations

import json

import pytest

from raysft.tuning.race import Race
from raysft.tuning.results import Trial
from raysft.tuning.rows import ordered, status_of, trial_row, trial_rows
from tests.support.sweeps import TWO, race, trial


@pytest.fixture
def of() -> Race:
    """Two folds; a configuration of every kind, and of some a better and a worse one."""
    found = race(
        [
            trial(1, {0: 0.3}),  # stopped
            trial(2),  # waiting
            trial(3, {0: 0.7, 1: 0.6}),  # finished
            trial(4, {0: 0.8, 1: 0.7}),  # finished
            trial(5),  # running
            trial(6, {0: 0.5}),  # running
            trial(7),  # failed
            trial(8, {0: 0.65}),  # waiting
            trial(9, {0: 0.4}),  # stopped
            trial(10),  # waiting
        ],
        folds=2,
    )
    found.trials[1].stopped = found.trials[9].stopped = "behind"
    found.trials[7].failed = "no memory"
    found.start(5, 0)
    found.start(6, 1)
    return found


def test_finished_ones_come_first_then_those_in_the_race_then_the_others_the_best_first(of: Race) -> None:
    assert [each.number for each in ordered(of)] == [4, 3, 6, 5, 8, 2, 10, 9, 1, 7]
    assert [row["trial"] for row in trial_rows(of)] == [4, 3, 6, 5, 8, 2, 10, 9, 1, 7]


def test_what_became_of_each(of: Race) -> None:
    found = {row["trial"]: row["status"] for row in trial_rows(of)}
    assert found == {
        **dict.fromkeys((3, 4), "finished"),
        **dict.fromkeys((5, 6), "running"),
        **dict.fromkeys((2, 8, 10), "waiting"),
        **dict.fromkeys((1, 9), "stopped"),
        7: "failed",
    }
    assert {row["trial"]: row["why"] for row in trial_rows(of) if row["why"]} == {
        1: "behind",
        9: "behind",
        7: "no memory",
    }


def test_one_that_failed_after_all_else_is_told_as_such(of: Race) -> None:
    of.trials[3].failed = "no memory"
    assert status_of(of.trials[3], of) == "failed"


def test_without_a_fold_there_are_no_scores(of: Race) -> None:
    assert trial_row(of.trials[2], 2, of) == {
        "trial": 2,
        "settings": {"train.seed": 2},
        "status": "waiting",
        "folds_done": 0,
        "folds": 2,
        "why": "",
    }


def test_scores_are_means_over_folds_at_the_common_epoch_with_their_errors() -> None:
    found: Trial = trial(1, {1: [0.5, 0.8, 0.1], 0: [0.5, 0.6, 0.9]}, train_loss=[1.0, 0.5, 0.25], cost=(123, 1.0))
    row = trial_row(found, 3, race([found], folds=3))
    assert row["epoch"] == 2 and (row["folds_done"], row["folds"]) == (2, 3)
    assert row["f1_macro"] == {"value": pytest.approx(0.7), "se": pytest.approx(0.1)}
    assert row["loss"]["value"] == pytest.approx(0.3)
    assert row["by_fold"]["0"]["f1_macro"] == 0.6 and list(row["by_fold"]) == ["0", "1"]
    assert row["curves"]["f1_macro"] == pytest.approx([0.5, 0.7, 0.5])
    assert row["curves"]["train_loss"] == [1.0, 0.5, 0.25] and row["curves"].keys() == {*TWO, "train_loss"}
    assert (row["parameters"], row["seconds"]) == (123, 1.0)
    json.dumps(row)


def test_the_curve_of_the_loss_is_there_whatever_is_aimed_at() -> None:
    found = trial(1, {0: 0.5}, objectives={"f1_macro": "max"})
    assert trial_row(found, 1, race([found], folds=1))["curves"].keys() == {"f1_macro", "loss", "train_loss"}
