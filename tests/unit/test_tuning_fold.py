"""A fold leaves what its evaluations found, its record last, and goes on where a loop with checkpoints was left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.errors import TrainingFailed
from raysft.metrics.influence import of_f1_macro, of_mean
from raysft.metrics.judged import Judged
from raysft.metrics.scores import Array, log_softmax, point_metrics
from raysft.storage.layout import FoldFolder
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.loop import Loop
from raysft.training.objective import Forward
from raysft.tuning import fold
from raysft.tuning.fold import HeldOut, TornFold, busy_s, read_held_out, read_record, train_fold
from tests.support.loops import SETTINGS, STEPS, lines_of, make_loop, rows_of

MEASURES = ("f1_macro", "loss")
EPOCHS = 3
THREE = SETTINGS.model_copy(update={"epochs": EPOCHS})


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(base_folder: Path) -> Base:
    return resolve_base(str(base_folder))


def loop_in(base: Base, folder: Path, **settings: Any) -> tuple[Loop, FoldFolder]:
    return make_loop(base, folder, THREE.model_copy(update=settings)), FoldFolder(folder)


@pytest.fixture(scope="module")
def whole(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[FoldFolder, list[Judged]]:
    """A fold that was trained to its end."""
    loop, folder = loop_in(base, tmp_path_factory.mktemp("whole"))
    return folder, list(train_fold(loop, folder, MEASURES))


def assert_same(found: HeldOut, expected: HeldOut) -> None:
    assert np.array_equal(found.row_id, expected.row_id)
    for kind in ("influence", "found"):
        mine, theirs = getattr(found, kind), getattr(expected, kind)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert np.array_equal(mine[name], theirs[name]), name


def test_epochs_are_given_one_by_one_and_nothing_more_is_trained_than_asked_for(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path)
    epochs = train_fold(loop, folder, MEASURES)
    assert loop.progress.step == 0
    for epoch in range(1, EPOCHS + 1):
        judged = next(epochs)
        assert loop.progress.step == epoch * STEPS
        assert judged.scores.keys() >= {"f1_macro", "loss"} and len(judged.row_id) == 40
        assert folder.epoch(epoch).exists() and not folder.done.exists() and not folder.held_out.exists()
    assert next(epochs, None) is None
    assert folder.done.exists() and not list(tmp_path.glob("epoch-*"))


def test_the_record_is_written_last(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All else is there by then, and whoever is killed before it leaves a fold that is not done."""
    loop, folder = loop_in(base, tmp_path, epochs=1)

    def killed(path: Path, _: Any) -> None:
        assert path == folder.done
        assert len(read_held_out(folder).row_id) == 40 and folder.epoch(1).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(fold, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        list(train_fold(loop, folder, MEASURES))
    assert not folder.done.exists()


@pytest.mark.parametrize("fault", ["scores", "a file", "rows"])
def test_what_two_processes_wrote_is_no_record(base: Base, tmp_path: Path, fault: str) -> None:
    loop, folder = loop_in(base, tmp_path)
    epochs = train_fold(loop, folder, MEASURES)
    for _ in range(EPOCHS):
        next(epochs)
    if fault == "scores":
        text = folder.metrics.read_text(encoding="utf-8")
        folder.metrics.write_text(text + text.splitlines()[-1] + "\n", encoding="utf-8")
    elif fault == "a file":
        folder.epoch(2).unlink()
    else:
        with np.load(folder.epoch(2)) as stored:
            np.savez(folder.epoch(2), **{**stored, "row_id": stored["row_id"] + 1})
    with pytest.raises(TornFold):
        next(epochs)
    assert not folder.done.exists()


def test_scores_that_are_no_numbers_are_the_fault_of_the_configuration(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after a last step that was too large: no step follows whose loss would show it."""
    loop, folder = loop_in(base, tmp_path, epochs=1)
    usual = loop.objective.judge

    def judge(forward: Forward) -> Judged:
        found = usual(forward)
        return replace(found, scores={**found.scores, "loss": math.nan})

    monkeypatch.setattr(loop.objective, "judge", judge)
    with pytest.raises(TrainingFailed, match="the validation loss after epoch 1 is nan"):
        list(train_fold(loop, folder, MEASURES))


def test_who_leaves_off_leaves_no_record(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path)
    epochs = train_fold(loop, folder, MEASURES)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    assert not folder.done.exists() and not folder.held_out.exists()
    assert loop.progress.step == STEPS


def test_the_record_says_what_was_scored_and_what_it_cost(whole: tuple[FoldFolder, list[Judged]]) -> None:
    folder, judged = whole
    record = read_record(folder)
    assert len(record.scores) == len(record.train_loss) == EPOCHS
    for own, found in zip(record.scores, judged, strict=True):
        assert own == {**found.scores, "prediction_ms": own["prediction_ms"]}
    per_row = record.scores[0]["prediction_ms"]
    assert per_row == pytest.approx(1000 * record.eval_s / (40 * EPOCHS), abs=1e-3)
    assert (record.examples, record.precision, record.ended) == (104 * EPOCHS, "fp32", "all epochs are done")
    assert record.padded >= record.tokens > 0 and record.seconds >= record.train_s > 0
    assert record.parameters == record.trained > 10_000


def test_the_training_loss_of_an_epoch_is_that_of_its_steps(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path, epochs=2)
    list(train_fold(loop, folder, MEASURES))
    losses = [line["loss"] for line in lines_of(loop) if "loss" in line]
    assert len(losses) == 2 * STEPS
    expected = [np.mean(losses[:STEPS]), np.mean(losses[STEPS:])]
    assert read_record(folder).train_loss == pytest.approx(expected, abs=1e-6)
    assert expected[1] < expected[0]


def test_influences_are_those_of_the_logits_of_each_epoch(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path)
    held = rows_of(base, 40, 1)
    labels, seen = held.label.astype(np.int64), list[Array]()
    for _ in train_fold(loop, folder, MEASURES):
        seen.append(logits_of(loop, held))
    found = read_held_out(folder)
    assert np.array_equal(found.row_id, held.row_id)
    for epoch, logits in enumerate(seen):
        predicted, losses = logits.argmax(axis=1), -log_softmax(logits)[np.arange(40), labels]
        assert np.array_equal(found.found["predicted"][epoch], predicted)
        assert found.influence["f1_macro"][epoch] == pytest.approx(of_f1_macro(labels, predicted, 4), abs=1e-6)
        assert found.influence["loss"][epoch] == pytest.approx(of_mean(losses), abs=1e-5)
        assert read_record(folder).scores[epoch]["f1_macro"] == pytest.approx(point_metrics(labels, logits)["f1_macro"])
    assert not np.array_equal(found.influence["loss"][0], found.influence["loss"][-1])


def logits_of(loop: Loop, rows: Any) -> Array:
    """Of the model as it is now, row by row."""
    loop.model.eval()
    with torch.no_grad():
        found = [
            loop.model(input_ids=torch.tensor(rows.tokens(row).astype(np.int64))[None]).logits[0]
            for row in range(len(rows.lengths))
        ]
    loop.model.train()
    return np.asarray(torch.stack(found).numpy())


def test_influences_are_read_without_what_was_decided(whole: tuple[FoldFolder, list[Judged]]) -> None:
    every, some = read_held_out(whole[0]), read_held_out(whole[0], influence_only=True)
    assert every.found and not some.found
    assert_same(some, replace(every, found={}))


def test_only_the_influences_that_are_asked_for_are_kept(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path, epochs=1)
    list(train_fold(loop, folder, ("accuracy",)))
    found = read_held_out(folder)
    assert found.influence.keys() == {"accuracy"} and found.influence["accuracy"].dtype == np.float32
    assert found.influence["accuracy"].shape == found.found["predicted"].shape == (1, 40)


@pytest.mark.parametrize("after", [1, 2])
def test_a_fold_with_checkpoints_goes_on_where_it_was_left(
    base: Base, tmp_path: Path, whole: tuple[FoldFolder, list[Judged]], after: int
) -> None:
    """Left after the evaluation of an epoch, whose checkpoint is not saved yet: that epoch is trained again."""
    loop, folder = loop_in(base, tmp_path)
    epochs = train_fold(loop, folder, MEASURES)
    for _ in range(after):
        next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    again, _ = loop_in(base, tmp_path)
    given = list(train_fold(again, folder, MEASURES))
    assert (again.resumed_from or 0) == (after - 1) * STEPS and len(given) == EPOCHS - after + 1
    assert_same(read_held_out(folder), read_held_out(whole[0]))
    mine, theirs = read_record(folder), read_record(whole[0])
    assert mine.train_loss == theirs.train_loss and mine.examples == theirs.examples
    for own, other in zip(mine.scores, theirs.scores, strict=True):
        assert {**own, "prediction_ms": 0} == {**other, "prediction_ms": 0}


def test_a_fold_without_checkpoints_begins_anew_and_ends_the_same(
    base: Base, tmp_path: Path, whole: tuple[FoldFolder, list[Judged]]
) -> None:
    for leave_off in (True, False):
        loop, folder = loop_in(base, tmp_path)
        loop.checkpoints = None
        for count, _ in enumerate(train_fold(loop, folder, MEASURES), start=1):
            if leave_off and count == 2:
                break
    assert_same(read_held_out(folder), read_held_out(whole[0]))
    assert read_record(folder).train_loss == read_record(whole[0]).train_loss
    assert not folder.checkpoints.exists()


def test_a_fold_that_stops_early_has_the_epochs_that_it_did(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path, stop_at=2)
    assert len(list(train_fold(loop, folder, MEASURES))) == 2
    record = read_record(folder)
    assert len(record.scores) == len(record.train_loss) == 2 and "train.stop_at" in record.ended
    assert read_held_out(folder).influence["loss"].shape == (2, 40)


def test_what_is_waited_for_between_epochs_is_no_training(base: Base, tmp_path: Path) -> None:
    loop, folder = loop_in(base, tmp_path)
    started = time.monotonic()
    for _ in train_fold(loop, folder, MEASURES):
        time.sleep(0.5)
    record = read_record(folder)
    assert record.seconds < time.monotonic() - started - 0.5 * len(record.scores) + 0.1


def test_the_time_of_a_fold_that_was_left_off_counts(base: Base, tmp_path: Path, whole: tuple[FoldFolder, Any]) -> None:
    """Of one that is done it is what its record says."""
    record = read_record(whole[0])
    assert busy_s(whole[0]) == record.seconds >= record.train_s + record.eval_s - 0.01
    assert busy_s(FoldFolder(tmp_path / "nothing")) == 0
    loop, folder = loop_in(base, tmp_path)
    epochs = train_fold(loop, folder, MEASURES)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    with folder.metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 99, "secon')  # a process that was killed
    assert busy_s(folder) >= loop.progress.seconds - 0.01 > 0
