"""Each fold is scored by what a search has chosen that never saw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysft.errors import TrainingFailed
from raysft.events import Silent
from raysft.metrics.judged import judge_one_label
from raysft.preparation.prepared import Prepared
from raysft.tuning import nested
from raysft.tuning.director import FoldJob, Orders
from raysft.tuning.nested import nested_estimate
from raysft.tuning.results import FoldScores
from raysft.tuning.slots import Slots
from raysft.tuning.work import FoldId, Work
from tests.support.sweeps import TWO, units_of, work_in, write_fold
from tests.unit.test_tuning_summary import FOLD, LABEL, ROWS, K, prepared_in

RATES = [1e-4, 2e-4]
# How far the logit of the label is above the rest, on each fold. The second is the best of all by fold 0 alone.
SKILL = {1e-4: [0.5, 2.5, 2.5], 2e-4: [9.0, 1.5, 1.5]}
NOISE = np.random.default_rng(3).standard_normal((ROWS, 3))
SLOTS = Slots(1, 1, gpu=False)


class Trained:
    """Leaves what folds would leave, in the place of run_search."""

    def __init__(self) -> None:
        self.jobs: list[FoldJob] = []
        self.fails: set[FoldId] = set()

    def __call__(self, work: Work, orders: Orders, slots: Slots) -> None:
        while not orders.nothing_left():
            job = orders.next()
            assert job is not None
            self.jobs.append(job)
            if job.fold in self.fails:
                orders.failed(job, "no memory")
            else:
                self._leave(work, job)
                orders.done(job)

    def _leave(self, work: Work, job: FoldJob) -> None:
        """After the first epoch nothing is known."""
        own = np.flatnonzero(job.fold.fold == FOLD)
        epochs = [judge_one_label(own, LABEL[own], each[own]) for each in (NOISE, logits(job.settings, job.fold.fold))]
        influence = {name: np.stack([each.influence[name] for each in epochs]) for name in TWO}
        folder = work.fold_folder(job.trial, job.fold)
        write_fold(folder, FoldScores([each.scores for each in epochs], influence, train_loss=[1.0, 0.5]))
        found = {f"found:{name}": np.stack([each.found[name] for each in epochs]) for name in epochs[0].found}
        moved = {f"influence:{name}": values for name, values in influence.items()}
        np.savez(folder.held_out, row_id=own, **found, **moved)  # type: ignore[arg-type]


def logits(settings: dict[str, Any], fold: int) -> np.ndarray[Any, Any]:
    return np.asarray(NOISE + SKILL[settings["train.learning_rate"]][fold] * np.eye(3)[LABEL])


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepared_in(tmp_path)


def estimated(prepared: Prepared, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(nested, "run_search", trained)
    search = {"train.learning_rate": RATES, "train.epochs": [2]}
    work = work_in(prepared.folder.path.parent, search, racing=False, early=False, one_standard_error=False)
    return nested_estimate(work, range(K), TWO, 2, units_of(ROWS), SLOTS, prepared, Silent())


def test_no_search_sees_the_fold_on_which_its_choice_is_scored(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained()
    found = estimated(prepared, trained, monkeypatch)
    searched = [job for job in trained.jobs if not job.fold.nested]
    others = {(one, other) for one in range(K) for other in range(K) if one != other}
    assert {(job.fold.without, job.fold.fold) for job in searched} == others
    assert len(searched) == K * (K - 1) * len(RATES)
    chosen = {int(fold): each["settings"]["train.learning_rate"] for fold, each in found["chosen"].items()}
    assert chosen == {0: 1e-4, 1: 2e-4, 2: 2e-4}
    scored = {job.fold.fold: job.settings["train.learning_rate"] for job in trained.jobs if job.fold.nested}
    assert scored == chosen and all(each["epoch"] == 2 for each in found["chosen"].values())
    right = [
        logits({"train.learning_rate": rate}, fold)[fold == FOLD].argmax(axis=1) == LABEL[fold == FOLD]
        for fold, rate in chosen.items()
    ]
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["value"] == pytest.approx(np.concatenate(right).mean()) and accuracy["n"] == ROWS
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_what_was_scored_is_not_scored_again(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = Trained(), Trained()
    found = estimated(prepared, first, monkeypatch)
    assert estimated(prepared, again, monkeypatch) == found and again.jobs == []


def test_a_choice_that_cannot_be_scored_is_told(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained()
    trained.fails = {FoldId(1, nested=True)}
    with pytest.raises(TrainingFailed, match="chosen without fold 1 could not be scored on it: no memory"):
        estimated(prepared, trained, monkeypatch)


def test_a_search_in_which_all_fail_is_told(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained()
    trained.fails = {FoldId(0, without=2), FoldId(1, without=2)}
    with pytest.raises(TrainingFailed, match="no configuration was trained without fold 2"):
        estimated(prepared, trained, monkeypatch)
