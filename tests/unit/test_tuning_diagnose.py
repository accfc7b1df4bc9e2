"""Too much or too little is learnt only where the rows of the folds say so."""

from __future__ import annotations

from typing import Any

import pytest

from raysft.tuning.diagnose import diagnose, edges
from raysft.tuning.parameter import Parameter
from raysft.tuning.results import Trial, between_epochs
from tests.support.sweeps import DIFFERS, trial
from tests.unit.test_tuning_space import of

Curve = list[float]


def learnt(f1: Curve, loss: Curve, train_loss: Curve, error: float = 0.0, **more: Any) -> Trial:
    """Two folds alike. error: standard error of the difference of any two epochs of a fold."""
    found = trial(1, {0: f1, 1: f1}, {0: loss, 1: loss}, train_loss=train_loss, error=0.0, **more)
    for fold in found.folds.values():
        for epoch in range(len(f1)):
            fold.influence["f1_macro"][epoch, epoch] = error / DIFFERS
    return found


FLAT = [0.5, 0.6, 0.7, 0.7, 0.7]
FALLING = [1.0, 0.8, 0.6, 0.5, 0.5]


def test_scores_that_fall_again_are_too_much() -> None:
    found = diagnose(learnt([0.5, 0.7, 0.6, 0.55, 0.5], FALLING, [1.0, 0.7, 0.5, 0.3, 0.1], error=0.05), epochs=5)
    assert found.kind == "overfitting"
    assert found.findings == [
        "after epoch 2 of 5: training loss 0.700, validation loss 0.800, f1_macro 0.700",
        "f1_macro is 0.200 ± 0.035 worse after the last epoch than after epoch 2",
    ]
    assert found.advice[0] == "train.epochs: 2 instead of 5, whose rates fall sooner"


def test_scores_that_fall_by_chance_are_not() -> None:
    curves = [0.5, 0.7, 0.6, 0.55, 0.5], FALLING, [1.0, 0.7, 0.5, 0.3, 0.3]
    assert diagnose(learnt(*curves, error=0.15), epochs=5).kind == "well fitted"  # 0.2 ± 0.106
    assert diagnose(learnt(*curves, error=0.13), epochs=5).kind == "overfitting"  # 0.2 ± 0.092


def test_a_loss_that_rises_while_scores_do_not_fall_is_too_sure_of_its_errors() -> None:
    found = diagnose(learnt(FLAT, [1.0, 0.6, 0.5, 0.7, 0.9], [1.0, 0.7, 0.5, 0.3, 0.1]), epochs=5)
    assert found.kind == "overfitting" and found.advice[0] == "train.label_smoothing: 0.1"
    assert "the validation loss is 0.400 ± 0.000 higher after the last epoch than after epoch 3" in found.findings[1]


def test_scores_that_still_rise_are_too_little() -> None:
    curves = [0.3, 0.4, 0.5, 0.6, 0.7], FALLING, [1.0, 0.9, 0.8, 0.7, 0.6]
    found = diagnose(learnt(*curves, error=0.05), epochs=5)
    assert found.kind == "underfitting"
    assert found.findings[1] == "f1_macro still rose by 0.100 ± 0.035 from epoch 4 to the last one"
    assert found.advice[0] == "train.epochs: 10 instead of 5"
    assert diagnose(learnt(*curves, error=0.08), epochs=5).kind == "well fitted"  # 0.1 ± 0.057


def test_over_many_epochs_the_last_quarter_is_looked_at() -> None:
    rising = [0.1 * epoch for epoch in range(8)]
    found = diagnose(learnt(rising, rising[::-1], [0.5] * 8), epochs=8)
    assert "rose by 0.200 ± 0.000 from epoch 6 to the last one" in found.findings[1]


def test_rows_that_are_known_by_heart_ask_for_other_rows() -> None:
    found = diagnose(learnt(FLAT, FALLING, [1.0, 0.5, 0.3, 0.2, 0.1]), epochs=5)
    assert found.kind == "well fitted" and "5.0 times the training loss" in found.findings[1]
    assert len(found.advice) == 1 and "more labelled rows" in found.advice[0]


def test_what_is_well_fitted_has_nothing_to_be_advised() -> None:
    found = diagnose(learnt(FLAT, FALLING, [1.0, 0.7, 0.5, 0.4, 0.4]), epochs=5)
    assert (found.kind, len(found.findings), found.advice) == ("well fitted", 1, [])


def test_a_single_epoch_is_no_curve() -> None:
    found = diagnose(learnt([0.5], [0.8], [0.8]), epochs=1)
    assert (found.kind, found.advice) == ("well fitted", [])


def test_a_search_by_loss_alone_is_judged_by_it() -> None:
    found = diagnose(learnt(FLAT, [1.0, 0.5, 0.6, 0.7, 0.8], [1.0, 0.5, 0.4, 0.3, 0.3], objectives={"loss": "min"}), 5)
    assert found.kind == "overfitting" and "loss is 0.300 ± 0.000 worse after the last epoch" in found.findings[1]
    found = diagnose(learnt(FLAT, [1.0, 0.9, 0.8, 0.7, 0.6], [1.0, 0.9, 0.8, 0.7, 0.6], objectives={"loss": "min"}), 5)
    assert found.kind == "underfitting"


def test_folds_that_ended_early_are_judged_by_the_epochs_that_all_have() -> None:
    found = trial(1, {0: [0.5, 0.7, 0.1], 1: [0.5, 0.7]}, train_loss=0.5)
    assert "after epoch 2 of 2:" in diagnose(found, 3).findings[0]


def test_two_epochs_are_compared_on_the_rows_of_all_folds() -> None:
    found = learnt([0.5, 0.7, 0.6], [1.0, 0.9, 0.8], [1.0, 0.9, 0.8], error=0.1)
    gap = between_epochs(found, "f1_macro", 2, 3)
    assert gap.value == pytest.approx(0.1) and gap.folds == 2
    assert gap.error == pytest.approx((2 * 0.1**2) ** 0.5 / 2)
    assert between_epochs(found, "f1_macro", 2, 2).error == 0.0


# --- the ends of ranges


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train.learning_rate": 1e-5}, ["train.learning_rate: 1e-05 is the lowest value of the search"]),
        ({"train.learning_rate": 1e-2}, ["train.learning_rate: 0.01 is the highest value of the search"]),
        ({"train.learning_rate": 1e-3, "train.batch_size": 16}, []),
        ({"train.batch_size": 8}, ["train.batch_size: 8 is the lowest value of the search"]),
        ({"train.batch_size": 32, "train.epochs": 9}, ["train.batch_size: 32 is the highest", "train.epochs: 9 is"]),
        ({"train.epochs": 1}, ["train.epochs: 1 is the lowest value of the search"]),
        ({"model.pooler": "auto", "train.compile": True, "train.seed": 7}, []),  # words, switches, a single value
        ({"model.lora": None}, []),
        ({"train.dropout_of_old": 3}, []),  # no key of this search
    ],
)
def test_values_at_the_end_of_a_range_are_told(settings: dict[str, Any], told: list[str]) -> None:
    search = {
        "train.learning_rate": {"log": [1e-5, 1e-2]},
        "train.batch_size": [16, 8, 32],
        "train.epochs": {"int": [1, 10], "step": 2},
        "model.pooler": ["auto", "keep"],
        "train.compile": [False, True],
        "train.seed": [7],
        "model.lora": [None, {"r": 8}],
    }
    parameters: tuple[Parameter, ...] = of(search).parameters
    found = edges(settings, parameters)
    assert len(found) == len(told)
    for each, words in zip(found, told, strict=True):
        assert words in each
