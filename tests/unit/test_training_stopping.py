"""The best epoch by any measure, and training that ends when nothing gets better."""

from __future__ import annotations

import pytest

from raysft.config.sections import TrainSection
from raysft.errors import TrainingFailed
from raysft.training.checkpoint import Progress
from raysft.training.stopping import ALL_EPOCHS, judge


def train(scores: list[dict[str, float]], settings: TrainSection, epochs: int = 0) -> Progress:
    """Epochs of 10 steps with these scores, until training ends."""
    progress = Progress()
    for epoch, found in enumerate(scores, start=1):
        progress.step += 10
        judge(progress, found, settings, 10 * (epochs or len(scores) + 1), epoch)
        if progress.ended:
            break
    return progress


def accuracies(*values: float) -> list[dict[str, float]]:
    return [{"accuracy": value, "loss": 1.0} for value in values]


def test_training_stops_after_so_many_epochs_in_a_row_without_a_better_one() -> None:
    settings = TrainSection(select="accuracy", stop_after=2)
    progress = train(accuracies(0.5, 0.4, 0.6, 0.6, 0.5, 0.9), settings)
    assert (progress.step, progress.best_step) == (50, 30)
    assert progress.ended == "2 epochs in a row were no better by accuracy (train.stop_after)"


def test_training_stops_at_the_epoch_that_was_asked_for() -> None:
    progress = train(accuracies(0.1, 0.2, 0.3, 0.4), TrainSection(select="accuracy", stop_at=2))
    assert (progress.step, progress.best_step) == (20, 20)
    assert progress.ended == "epoch 2 is done (train.stop_at)"


def test_equal_scores_with_a_lower_loss_are_the_better_checkpoint_but_no_reason_to_go_on() -> None:
    settings = TrainSection(select="accuracy", stop_after=2)
    progress = train([{"accuracy": 1.0, "loss": loss} for loss in (0.3, 0.2, 0.1, 0.05)], settings)
    assert (progress.step, progress.best_step, progress.best) == (30, 30, [1.0, -0.1])


def test_all_scores_of_the_best_epoch_are_kept() -> None:
    scores = [{"accuracy": value, "loss": 1.0, "threshold": value / 2} for value in (0.5, 0.8, 0.6)]
    assert train(scores, TrainSection(select="accuracy")).best_scores == scores[1]
    assert train([{}], TrainSection()).best_scores == {}


@pytest.mark.parametrize(("select", "best"), [("accuracy", 20), ("loss", 30), ("ece", 10), ("f1_weighted", 40)])
def test_any_measure_can_select_in_the_direction_in_which_it_is_good(select: str, best: int) -> None:
    scores = [
        {"accuracy": 0.8, "loss": 0.5, "ece": 0.1, "f1_weighted": 0.1},
        {"accuracy": 0.9, "loss": 0.4, "ece": 0.2, "f1_weighted": 0.2},
        {"accuracy": 0.7, "loss": 0.3, "ece": 0.3, "f1_weighted": 0.3},
        {"accuracy": 0.6, "loss": 0.6, "ece": 0.4, "f1_weighted": 0.4},
    ]
    assert train(scores, TrainSection(select=select)).best_step == best  # type: ignore[arg-type]


def test_all_epochs_are_the_other_end_and_come_first() -> None:
    settings = TrainSection(select="accuracy", stop_after=1)
    assert train(accuracies(0.5, 0.6), settings, epochs=2).ended == ALL_EPOCHS
    assert train(accuracies(0.5, 0.4), settings, epochs=2).ended == ALL_EPOCHS
    assert train(accuracies(0.5, 0.4), settings).ended.startswith("1 epoch was no better")


def test_without_a_validation_part_the_last_step_is_the_best() -> None:
    progress = train([{}, {}], TrainSection(), epochs=2)
    assert (progress.best_step, progress.best, progress.ended) == (20, [], ALL_EPOCHS)


def test_a_measure_that_the_run_has_not_is_named_with_those_it_has() -> None:
    with pytest.raises(TrainingFailed, match=r"no f1_micro; it measures accuracy, loss"):
        train(accuracies(0.5), TrainSection(select="f1_micro"))
