"""What a sweep does around its search: which configurations are checked, and whose model stands in best/."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raysft import sweep
from raysft.config import JobConfig
from raysft.errors import JobFileError
from raysft.events import Silent
from raysft.pipeline import _each_fold_in_turn, cv
from raysft.run import Clock
from raysft.storage.commit import ASIDE, read_json, write_json
from raysft.storage.layout import RunFolder, SweepFolder
from raysft.sweep import Refit, Sweep, corners, refit_job, remove, result_before, set_aside, tidy
from raysft.tuning.results import Trial
from raysft.tuning.space import Space
from tests.support.predicting import Heard
from tests.support.sweeps import trial
from tests.unit.test_report_sweep import sweep_of
from tests.unit.test_tuning_space import load, of

MINE, OTHER = {"settings": {"train": {"epochs": 3}}}, {"settings": {"train": {"epochs": 2}}}


# --- the configurations that are checked before anything starts


def test_each_kind_of_prepared_data_is_checked_with_the_keys_that_matter_under_it() -> None:
    """The first values under which a key matters may be those of another kind of data."""
    found = corners(
        of(
            {
                "model.max_length": [32, 64, 128],
                "model.dropout": {"choices": [0.0, 0.5], "when": {"model.max_length": [32, 128]}},
                "train.epochs": {"int": [1, 9]},
            }
        )
    )
    under = {
        length: {
            each["model.dropout"] for each in found if "model.dropout" in each and each["model.max_length"] == length
        }
        for length in (32, 64, 128)
    }
    assert under == {32: {0.0, 0.5}, 64: set(), 128: {0.0, 0.5}}
    assert {(each["model.max_length"], each.get("train.epochs")) for each in found} >= {(64, 1), (64, 9), (128, 9)}


def test_a_key_behind_another_is_checked_under_whichever_value_its_data_has() -> None:
    """It matters under the first kind of data by one value of another key, under the second by another."""
    found = corners(
        of(
            {
                "model.max_length": [32, 64],
                "model.lora": {"choices": [{"r": 8}], "when": {"model.max_length": 64}},
                "model.lora.dropout": {"choices": [0.0, 0.5], "when": {"model.lora": {"r": 8}}},
            }
        )
    )
    assert {"model.max_length": 64, "model.lora": {"r": 8}, "model.lora.dropout": 0.5} in found
    assert not any("model.lora.dropout" in each for each in found if each["model.max_length"] == 32)


# --- best/


def lies(folder: Path, identity: dict[str, Any] | None) -> RunFolder:
    """What an earlier choice left."""
    run = RunFolder(folder / "best")
    run.model.mkdir(parents=True)
    (run.model / "weights").write_text("of an earlier choice")
    if identity is not None:
        write_json(run.identity, identity)
    return run


def refitted(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether what lay there is there when training begins."""
    seen: list[bool] = []

    def prepare(*_: Any) -> tuple[Any, Any, Any]:
        seen.append((run.model / "weights").exists())
        return None, None, None

    monkeypatch.setattr(sweep, "prepare_and_train", prepare)
    monkeypatch.setattr(sweep, "evaluate_and_report", lambda *_: None)
    nothing: Any = None
    Refit(nothing, nothing, run, MINE).run(nothing, Silent(), Clock())
    return seen[0]


@pytest.mark.parametrize(("identity", "kept"), [(MINE, True), (OTHER, False), (None, False)])
def test_only_the_same_run_goes_on_from_what_lies_in_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: dict[str, Any] | None, kept: bool
) -> None:
    """Of a run without identity nobody can tell whose it is."""
    assert refitted(lies(tmp_path, identity), monkeypatch) is kept


def test_a_kill_while_an_old_choice_is_removed_leaves_nothing_of_it_in_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lies(tmp_path, OTHER)

    def killed(path: Path, *_: Any) -> None:
        assert ASIDE in path.name and read_json(path / "identity.json") == OTHER
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(run)
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("refit", "identity", "taken"), [(False, OTHER, False), (False, MINE, True), (True, OTHER, True)]
)
def test_an_earlier_choice_in_best_is_told_of_where_this_one_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool, identity: dict[str, Any], taken: bool
) -> None:
    run, said = lies(tmp_path, identity), Heard()
    write_json(run.result, {})
    nothing: Any = None
    trained: Any = "trained"
    monkeypatch.setattr(Refit, "of", lambda *_: Refit(nothing, nothing, run, MINE))
    monkeypatch.setattr(Refit, "run", lambda *_: trained)
    of: Any = SimpleNamespace(
        space=Space.of(load(tmp_path, f"tune: {{search: {{train.seed: [1, 2]}}, refit: {str(refit).lower()}}}\n")),
        folder=SweepFolder(tmp_path),
        output=nothing,
    )
    assert Sweep._refitted(of, trial(1), said, Clock()) == (trained if taken else None)
    assert bool(said.warnings) is not taken and all("earlier choice" in each for each in said.warnings)


# --- what is left at the end


def test_of_a_fold_that_was_not_trained_to_its_end_nothing_large_stays(tmp_path: Path) -> None:
    """One that was stopped within, or whose process died."""
    folder = SweepFolder(tmp_path)
    left, done = folder.fold(1, "0"), folder.fold(2, "0-without-1")
    for place in (left.checkpoints / "step-000010", done.path, folder.states):
        place.mkdir(parents=True)
    kept = [left.metrics, done.held_out, done.done]
    for file in (left.epoch(1), left.epoch(12), left.checkpoints / "step-000010" / "model", folder.states / "x", *kept):
        file.write_bytes(b"")
    tidy(folder, through=False)  # a larger budget goes on with what is left of folds
    assert (
        left.epoch(12).exists() and (left.checkpoints / "step-000010" / "model").exists() and not folder.states.exists()
    )
    tidy(folder, through=True)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_search_for_more_that_is_broken_off_still_knows_what_was_found(tmp_path: Path) -> None:
    """Such as the nested estimate, where the second command does not ask for it again."""
    folder, first, second = SweepFolder(tmp_path), sweep_of(4), sweep_of(5)
    assert result_before(folder) is None
    set_aside(folder)
    write_json(folder.result, first.to_json())
    for _ in range(2):  # broken off twice
        set_aside(folder)
        assert not folder.result.exists() and result_before(folder) == first
    write_json(folder.result, second.to_json())
    assert result_before(folder) == second


# --- the job that is searched


def test_whatever_fold_a_job_names_all_validate_in_turn(tmp_path: Path) -> None:
    job = load(tmp_path, "folds: {k: 3, validation: 2}\ntune: {search: {train.epochs: [1, 2]}}\n")
    found = _each_fold_in_turn(job)
    assert found.config.folds.validation is None and found.config.folds.k == 3
    assert Space.of(found).applied({"train.epochs": 2}).config.folds.validation is None
    assert job.config.folds.validation == 2 and found.where("folds", "k") == f"{job.path}:3"
    assert found.where("folds") == f"{job.path}:3"


def test_a_problem_with_the_folds_points_at_the_file(tmp_path: Path) -> None:
    job = load(tmp_path, "folds: {k: 3, validation: 1}\n")
    job.path.write_text(job.path.read_text().replace("validation: 1", "validation: 7"))
    with pytest.raises(JobFileError) as error:
        cv(job.path)
    assert "folds.validation" in str(error.value) and ":3:" in str(error.value) and "--set" not in str(error.value)


def test_cross_validation_takes_of_the_search_what_it_is_measured_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seed, its budget and its algorithm are no part of it."""
    text = "{search: {train.epochs: [1, 2]}, seed: 3, hours: 1, price: 2, cost: 3, ties: true, concurrent: 2, "
    text += "algorithm: random, trials: 4, start: [{train.epochs: 1}], nested: true, objectives: {accuracy: max}}"
    job = load(tmp_path, f"tune: {text}\n")
    seen: list[Any] = []
    monkeypatch.setattr("raysft.pipeline._sweep", lambda job, *_: seen.append(job.config.tune))
    cv(job.path)
    changed = seen[0].model_dump(exclude_defaults=True)
    assert changed == {
        "objectives": {"accuracy": "max"},
        "concurrent": 2,
        "racing": False,
        "early": False,
        "refit": False,
    }


# --- the job that trains the choice


def chosen_with(epochs: int, threshold: float = 0.0) -> Trial:
    """Two folds whose scores fall after the second of so many epochs."""
    found = trial(1, {place: [0.2, 0.9, 0.6, 0.5][:epochs] for place in range(2)})
    for place, each in found.folds.items():
        for scores in each.scores:
            scores["threshold"] = threshold + 0.02 * place
    return found


@pytest.mark.parametrize(("epochs", "stop_at"), [(2, None), (4, 2)])
def test_the_choice_is_trained_on_all_folds_up_to_the_epoch_that_counts(
    tmp_path: Path, epochs: int, stop_at: int | None
) -> None:
    text = f"train: {{epochs: {epochs}, stop_after: 1}}\ntune: {{search: {{train.seed: [1, 2]}}}}\n"
    space = Space.of(load(tmp_path, text))
    assert space.job.config.train.stop_after == 1
    found = refit_job(space, chosen_with(epochs)).config
    assert (found.folds.validation, found.train.stop_at, found.train.stop_after) == ("none", stop_at, None)
    assert found.train.seed == 1 and found.train.threshold is None and found.tune is None


def test_a_job_that_stops_before_all_its_epochs_does_so_on_all_folds_too() -> None:
    """After the last epoch that its folds were trained, the rates being those of more."""
    space = of({"train.seed": [1, 2], "train.epochs": [4], "train.stop_at": [2]})
    taken = chosen_with(2)
    taken.settings |= {"train.epochs": 4, "train.stop_at": 2}
    found = refit_job(space, taken).config.train
    assert (found.epochs, found.stop_at) == (4, 2)


def test_where_a_row_has_several_labels_it_decides_by_the_threshold_of_the_folds(tmp_path: Path) -> None:
    """Trained on all folds, no rows are left to find one on."""
    job = load(tmp_path, "tune: {search: {train.seed: [1, 2]}}\n")
    job.values["data"]["multi_label"] = True
    several = Space.of(replace(job, config=JobConfig.model_validate(job.values)))
    assert refit_job(several, chosen_with(4, threshold=0.3)).config.train.threshold == pytest.approx(0.31)
