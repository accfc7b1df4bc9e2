"""A search trains what the race asks for, tells the algorithm what came of it, and ends with its budget."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from raysft.tuning.director import Director, Errand, FoldJob, describe
from raysft.tuning.parameter import Settings
from raysft.tuning.propose import Proposals
from raysft.tuning.record import Record
from raysft.tuning.results import FoldScores
from raysft.tuning.work import FoldId
from tests.support.searches import EPOCHS, SEEDS, WORLD, Engine, director, lines, state, told
from tests.support.sweeps import TWO, fold, trial, units_of, work_in, write_fold

# --- one search


def test_every_configuration_that_is_in_the_race_to_its_end_has_all_folds(tmp_path: Path) -> None:
    of = director(tmp_path)
    engine = Engine(of).run()
    assert of.nothing_left() and of.running == 0 and of.next() is None
    assert len({(job.trial, job.fold) for job in engine.begun}) == len(engine.begun)
    assert {each.settings["train.seed"] for each in of.race.trials.values()} == set(SEEDS)
    assert {each.settings["train.seed"] for each in of.race.finished} >= {3, 5, 7}
    assert of.race.trials[6].out  # of a quality of 0.2
    assert {number for number, _ in told(of)} == set(of.race.trials)  # each ended, and its value is known


def test_without_racing_all_is_trained(tmp_path: Path) -> None:
    engine = Engine(director(tmp_path, racing=False, early=False)).run()
    assert len(engine.trained) == len(SEEDS) * WORLD.folds
    assert [job.fold.fold for job in engine.trained] == [place for place in range(WORLD.folds) for _ in SEEDS]


def test_a_configuration_is_on_storage_before_any_of_its_folds_is_begun(tmp_path: Path) -> None:
    of = director(tmp_path, algorithm="tpe", trials=8)
    while (job := of.next()) is not None:
        assert {"trial": job.trial, "settings": job.settings, "spent": 0.0} in [
            {**line, "spent": 0.0} for line in lines(of)
        ]
    assert len(of.race.trials) == 4  # those that learn propose no more than twice as many as train, or four


@pytest.mark.parametrize(("algorithm", "proposed"), [("tpe", 6), ("nsga2", 6), ("random", 9), ("grid", 9)])
def test_an_algorithm_that_learns_is_not_asked_long_before(tmp_path: Path, algorithm: str, proposed: int) -> None:
    of = director(tmp_path, slots=3, algorithm=algorithm, trials=9)
    of.next()
    assert len(of.race.trials) == proposed


def test_what_a_configuration_is_worth_is_told_once_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[int, Any]] = []
    monkeypatch.setattr(Proposals, "tell", lambda _, settings, values: heard.append((settings["train.seed"], values)))
    of = director(tmp_path, algorithm="tpe", trials=10)
    Engine(of).run()
    assert len(heard) == len({number for number, _ in heard}) == 10
    for number, values in heard:
        (found,) = [each for each in of.race.trials.values() if each.settings["train.seed"] == number]
        if found in of.race.finished:
            assert values == {name: found.mean(name) for name in TWO}
        assert all(map(math.isfinite, values.values()))


def test_one_that_is_stopped_in_its_first_fold_is_worth_its_last_epoch(tmp_path: Path) -> None:
    of = director(tmp_path, trials=2, algorithm="grid")
    first = of.next()
    assert first is not None
    of.race.start(1, 1)
    for place in range(3):  # curves that gain nothing
        of.race.finish(1, place, fold([0.7] * EPOCHS, number=1, rows=WORLD.rows))
    job = of.next()
    assert job is not None and job.trial == 2 and job.fold == FoldId(0)
    assert of.epoch(job, 1, {"f1_macro": 0.2, "loss": 0.9}, units_of(64).row_id[:30], influences()) is True
    assert of.running == 0 and of.nothing_left()
    assert lines(of)[-1]["values"] == pytest.approx({"f1_macro": 0.2, "loss": 0.9})
    assert "could not reach" in lines(of)[-1]["stopped"]


def test_one_that_is_stopped_is_worth_as_much_as_it_is_behind_on_the_folds_of_both(tmp_path: Path) -> None:
    """Fold 0 is hard for all, so that a mean over it alone would say less than it is."""
    of = director(tmp_path, trials=2, algorithm="grid")
    jobs = [of.next() for _ in range(2)]
    for place, score in ((1, 0.9), (2, 1.0)):
        of.race.finish(1, place, fold([score] * EPOCHS, number=1, rows=WORLD.rows))
    for job, score in zip(jobs, (0.5, 0.4), strict=True):
        assert job is not None
        write_fold(of.work.fold_folder(job.trial, FoldId(0)), fold([score] * EPOCHS, number=job.trial, rows=WORLD.rows))
        of.done(job)
    assert of.race.trials[2].behind == 1
    assert told(of)[2, "f1_macro"] == pytest.approx(0.8 - 0.1) and told(of)[2, "loss"] == pytest.approx(0.2 + 0.1)
    assert told(of)[1, "f1_macro"] == pytest.approx(0.8)


def test_one_that_is_stopped_early_is_as_far_behind_as_after_as_many_epochs(tmp_path: Path) -> None:
    of = director(tmp_path, trials=2, algorithm="grid")
    of.next()
    for place in range(3):
        of.race.finish(1, place, fold([0.5, 0.6, 0.6], number=1, rows=WORLD.rows))
    job = of.next()
    assert job is not None and job.trial == 2
    assert of.epoch(job, 1, {"f1_macro": 0.2, "loss": 0.9}, units_of(30).row_id, influences()) is True
    assert told(of)[2, "f1_macro"] == pytest.approx(0.6 - (0.5 - 0.2))
    assert told(of)[2, "loss"] == pytest.approx(0.4 + (0.9 - 0.5))


def influences() -> dict[str, Any]:
    return {name: values[0][:30] for name, values in fold(0.5, number=2).influence.items()}


def test_a_fold_that_is_begun_anew_is_judged_by_its_own_epochs(tmp_path: Path) -> None:
    """After the first epoch others gained 0.5 from there; after the second, almost nothing."""
    of = director(tmp_path, trials=2, algorithm="grid")
    of.next()
    for place in range(3):
        of.race.finish(1, place, fold([0.2, 0.68, 0.7], number=1, rows=WORLD.rows))
    job = of.next()
    assert job is not None and job.trial == 2
    scores = {"f1_macro": 0.2, "loss": 0.9}
    for _ in range(3):  # its process dies after the first epoch, and another one begins it anew
        assert of.epoch(job, 1, scores, units_of(30).row_id, influences()) is False
    assert of.epoch(job, 2, scores, units_of(30).row_id, influences()) is True


def test_all_folds_of_one_that_is_stopped_end_and_it_is_told_of_once(tmp_path: Path) -> None:
    of = director(tmp_path, slots=3, trials=2, algorithm="grid")
    jobs = [of.next() for _ in range(4)]
    for place in range(3):
        of.race.finish(1, place, fold([0.7] * EPOCHS, number=1, rows=WORLD.rows))
    assert of.running == 2
    for job in jobs:
        if job is not None and job.trial == 2:
            assert of.epoch(job, 1, {"f1_macro": 0.2, "loss": 0.9}, units_of(30).row_id, influences())
    assert of.running == 0 and [line["trial"] for line in lines(of) if "values" in line] == [2]


def test_what_fails_is_told_to_the_algorithm_as_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Settings, Any]] = []
    monkeypatch.setattr(Proposals, "tell", lambda _, settings, values: heard.append((settings, values)))
    of = director(tmp_path)
    job = of.next()
    assert job is not None
    of.failed(job, "no memory")
    assert heard == [(job.settings, None)]


def test_what_fails_is_out_once_and_the_search_goes_on(tmp_path: Path) -> None:
    of = director(tmp_path, slots=2, trials=2, algorithm="grid", racing=False)
    heard: list[str] = []
    of.told = heard.append
    jobs = [of.next() for _ in range(2)]
    write_fold(of.work.fold_folder(2, FoldId(0)), WORLD.results[2, 0])
    for job in jobs:
        assert job is not None
        of.done(job) if job.trial == 2 else of.failed(job, "no memory")
    another = of.next()
    assert another is not None and another.trial == 2
    of.failed(another, "no memory either")
    of.failed(FoldJob(2, another.settings, FoldId(2)), "nor here")
    assert [each.failed for each in of.race.trials.values()] == ["no memory", "no memory either"]
    assert of.nothing_left() and [line["failed"] for line in lines(of) if "failed" in line] == [
        "no memory",
        "no memory either",
    ]
    assert heard == [
        "trial 1 failed: no memory",
        f"trial 2: fold 0 done, {describe(of.race.trials[2])}",
        "trial 2 failed: no memory either",
    ]
    assert not director(tmp_path, trials=2, algorithm="grid").race.trials[1].out  # the same command tries again


def test_time_left_is_that_of_the_folds_left_of_those_in_the_race(tmp_path: Path) -> None:
    of = director(tmp_path, slots=2, trials=3, algorithm="grid")
    assert of.left_s() is None
    of.next()
    of.race.finish(1, 0, fold(0.7, seconds=4.0))
    of.race.finish(2, 0, fold(0.7, seconds=2.0))
    assert of.left_s() == 4 * 3.0  # 2 + 2 + 3 folds, two at a time: the last one is no sooner done
    of.race.trials[3].failed = "no memory"
    assert of.left_s() == 2 * 3.0


# --- the budget


@pytest.mark.parametrize(
    ("tune", "why"),
    [
        ({"hours": 1.5}, "1.5 hours are over (tune.hours)"),
        ({"cost": 3.0, "price": 2.0}, "3 are spent (tune.cost)"),
        ({"hours": 1.5, "cost": 3.0, "price": 2.0}, "1.5 hours are over (tune.hours)"),
    ],
)
def test_once_the_budget_is_spent_nothing_is_begun_the_time_before_an_interruption_counted(
    tmp_path: Path, tune: dict[str, Any], why: str
) -> None:
    director(tmp_path).record.spent(1.5 * 3600 - 100)
    of = director(tmp_path, **tune)
    assert of.next() is not None and of.seconds >= 1.5 * 3600 - 100
    of.record.spent(1.5 * 3600)
    of = director(tmp_path, **tune)
    assert of.next() is None and of.nothing_left() and of.ended == why


def test_time_of_searches_within_folds_is_no_time_of_the_search(tmp_path: Path) -> None:
    director(tmp_path, without=1).record.spent(9 * 3600.0)
    of = director(tmp_path, hours=1.0)
    assert of.seconds < 3600 and of.next() is not None


def test_several_workers_are_told_when_to_leave_off(tmp_path: Path) -> None:
    """They train a whole fold before the director hears of it."""
    for of in (director(tmp_path / "a"), director(tmp_path / "b", without=1, hours=1.0)):
        job = of.next()
        assert job is not None and job.deadline is None
    of = director(tmp_path / "c", hours=2.0, cost=3.0, price=3.0)
    spend(of, 0.25)
    job = of.next()
    assert job is not None and job.deadline == pytest.approx(time.time() + 0.75 * 3600, abs=5)
    of.left(job)
    assert of.ended == "3 are spent (tune.cost)" and of.running == 0 and of.nothing_left()


def spend(of: Director, hours: float) -> None:
    of.spent = hours * 3600


@pytest.mark.parametrize(("epoch", "stops"), [(1, True), (6, True), (7, False), (9, False)])
def test_within_a_fold_the_budget_lets_what_is_nearly_done_be_done(tmp_path: Path, epoch: int, stops: bool) -> None:
    work = work_in(tmp_path, {"train.epochs": [10, 20]}, hours=1.0, algorithm="grid")
    of = Director.of(work, range(3), TWO, EPOCHS, units_of(30), 1)
    job = of.next()
    assert job is not None and job.settings == {"train.epochs": 10}  # whose epochs count, not those of the job
    spend(of, 1.0)
    assert of.epoch(job, epoch, {"f1_macro": 0.2, "loss": 0.9}, units_of(30).row_id, influences()) is stops
    assert of.ended == "1 hours are over (tune.hours)" and of.running == (0 if stops else 1)
    assert of.nothing_left() is stops and not of.race.trials[1].out


@pytest.mark.parametrize(("epoch", "stops"), [(2, True), (3, False), (4, False)])
def test_a_budget_lets_a_fold_end_that_stops_before_all_epochs(tmp_path: Path, epoch: int, stops: bool) -> None:
    work = work_in(tmp_path, {"train.stop_at": [4]}, hours=1.0, algorithm="grid")
    of = Director.of(work, range(3), TWO, 10, units_of(30), 1)
    job = of.next()
    assert job is not None
    spend(of, 1.0)
    assert of.epoch(job, epoch, {"f1_macro": 0.2, "loss": 0.9}, units_of(30).row_id, influences()) is stops


def test_a_search_within_other_folds_has_no_budget(tmp_path: Path) -> None:
    of = director(tmp_path, without=1, hours=1.0)
    spend(of, 2.0)
    assert of.next() is not None and not of.ended


def test_where_a_budget_ended_the_search_those_with_most_folds_are_chosen_among(tmp_path: Path) -> None:
    of = director(tmp_path, algorithm="grid")
    of.next()
    assert of.candidates() == []
    for number, places in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 0)):
        for place in range(places):
            of.race.trials[number].add(place, fold(0.5, number=number))
    of.race.trials[4].stopped = "behind"
    assert of.candidates() == []  # it goes on
    of.stop("hours are over")
    assert [each.number for each in of.candidates()] == [2, 3]
    of.race.trials[3] = trial(3, {1: 0.9, 2: 0.9})
    assert [(each.number, list(each.folds)) for each in of.candidates()] == [(1, [0]), (2, [0])]  # not on unlike folds
    of.race.trials[1].add(1, fold(0.5))
    of.race.trials[1].add(2, fold(0.5))
    assert [(each.number, len(each.folds)) for each in of.candidates()] == [(1, 3)]


@pytest.mark.parametrize(("left", "status"), [(0, "done"), (1, "1 hours are over (tune.hours)")])
def test_a_search_whose_last_fold_outlasts_the_budget_was_through(tmp_path: Path, left: int, status: str) -> None:
    of = director(tmp_path, algorithm="grid", trials=1, hours=1.0)
    trained = WORLD.folds - left
    for place in range(trained):
        job = of.next()
        assert job is not None
        if place == trained - 1:
            spend(of, 1.0)
            assert of.next() is None  # what to train beside it
        write_fold(of.work.fold_folder(job.trial, job.fold), WORLD.results[1, place])
        of.done(job)
    assert of.ended and of.nothing_left() and of.status == status


def test_a_search_that_had_more_to_propose_was_not_through(tmp_path: Path) -> None:
    of = director(tmp_path, search={"train.learning_rate": {"log": [1e-5, 1e-3]}}, trials=9, hours=1.0)
    while len(of.race.trials) < 4:
        of.next()
    for each in of.race.trials.values():
        each.failed = "no memory"
    of.stop("hours are over")
    assert of.status == "hours are over"


def test_what_could_not_catch_one_that_fails_is_in_the_race_again_after_an_interruption_too(tmp_path: Path) -> None:
    of = director(tmp_path, trials=2, algorithm="grid")
    jobs = {}
    for number, score in ((1, 0.9), (2, 0.1)):
        job = jobs[number] = of.next()
        assert job is not None and job.trial == number and job.fold == FoldId(0)
        write_fold(of.work.fold_folder(number, FoldId(0)), fold([score] * EPOCHS, number=number, rows=WORLD.rows))
        of.done(job)
    assert of.race.trials[2].behind == 1 and lines(of)[-1]["behind"] == 1
    assert director(tmp_path, trials=2, algorithm="grid").race.trials[2].behind == 1
    heard: list[str] = []
    of.told = heard.append
    job = of.next()
    assert job is not None and job.trial == 1
    of.failed(job, "no memory")
    assert not of.race.trials[2].out and lines(of)[-1]["again"] is True
    assert heard == ["trial 1 failed: no memory", "trial 2 is in the race again: what it could not catch has failed"]
    job = of.next()
    assert job is not None and (job.trial, job.fold) == (2, FoldId(1))
    assert Record(of.record.folder).load()[0][2].stopped == ""


def test_a_process_that_dies_under_one_that_is_stopped_already_is_no_failure_of_it(tmp_path: Path) -> None:
    """Else the same command would go on for nothing."""
    of = director(tmp_path, slots=2, trials=2, algorithm="grid")
    jobs = [of.next() for _ in range(2)]
    job = jobs[1]
    assert job is not None and job.trial == 2
    of.race.trials[2].stopped, of.race.trials[2].behind = "behind", 1
    of.failed(job, "its process died")
    assert of.running == 1 and of.race.trials[2].failed == "" and not any("failed" in line for line in lines(of))


def test_the_time_of_a_fold_that_is_killed_counts(tmp_path: Path) -> None:
    of = director(tmp_path, hours=9.0)
    job = of.next()
    assert job is not None
    for hours in (0.0, 1.0, 1.001, 2.0):
        spend(of, hours)
        of.epoch(job, 1, {"f1_macro": 0.2, "loss": 0.9}, units_of(30).row_id, influences())
    assert director(tmp_path, hours=9.0).spent == pytest.approx(7200, abs=5)
    assert len([line for line in lines(of) if "trial" not in line]) == 2  # not a line for each epoch of a minute


def test_who_asks_to_stop_first_is_named(tmp_path: Path) -> None:
    of = director(tmp_path)
    job = of.next()
    of.stop("interrupted")
    of.stop("hours are over")
    assert of.ended == "interrupted" and of.next() is None and not of.nothing_left()
    assert job is not None
    of.failed(job, "gone")
    assert of.nothing_left()


# --- within another fold


def test_a_search_within_the_other_folds_has_its_own_configurations_and_folds(tmp_path: Path) -> None:
    outer = Engine(director(tmp_path)).run()
    inner = Engine(director(tmp_path, without=1)).run()
    assert {job.fold.fold for job in inner.trained} == {0, 2} and {job.fold.without for job in inner.trained} == {1}
    assert state(director(tmp_path)) == state(outer.director)
    assert state(director(tmp_path, without=1)) == state(inner.director)
    assert director(tmp_path, without=0).race.trials == {}


def test_a_list_of_folds_is_trained_to_its_end_whatever_fails() -> None:
    heard: list[str] = []
    jobs = [FoldJob(number, {"train.seed": 1}, FoldId(number, nested=True)) for number in range(3)]
    errand = Errand(list(jobs), heard.append)
    found = [errand.next() for _ in range(4)]
    assert found == [*jobs, None] and errand.running == 3 and not errand.nothing_left()
    assert errand.epoch(jobs[0], 1, {}, units_of(1).row_id, {}) is False
    errand.done(jobs[0])
    errand.failed(jobs[1], "no memory")
    errand.done(jobs[2])
    assert errand.nothing_left() and errand.failures == {jobs[1]: "no memory"}
    assert heard == ["fold 0-nested done", "fold 2-nested done"]


def test_an_errand_that_is_stopped_begins_nothing_more() -> None:
    errand = Errand([FoldJob(1, {}, FoldId(0))])
    errand.stop("interrupted")
    assert errand.next() is None and errand.nothing_left()


def test_a_configuration_is_described_with_its_errors_where_they_are_known() -> None:
    assert describe(trial(1, {0: 0.7})) == "f1_macro 0.700, loss 0.300 on 1 fold"
    assert describe(trial(1, {0: 0.6, 1: 0.8})) == "f1_macro 0.700 ± 0.100, loss 0.300 ± 0.100 on 2 folds"


def test_scores_of_the_simulated_world_are_those_that_are_read_back(tmp_path: Path) -> None:
    """Else nothing above would mean much."""
    engine = Engine(director(tmp_path, racing=False, early=False)).run()
    for job in engine.trained:
        found: FoldScores = engine.director.race.trials[job.trial].folds[job.fold.fold]
        assert found.scores == WORLD.results[job.settings["train.seed"], job.fold.fold].scores
