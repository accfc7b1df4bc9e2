"""A search goes on after any interruption as if there had been none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysft.tuning.director import Director, FoldJob
from raysft.tuning.propose import Proposals
from raysft.tuning.work import FoldId
from tests.support.searches import EPOCHS, KILLS, Engine, director, lines, state, told
from tests.support.sweeps import TWO, fold, units_of, write_fold


@pytest.mark.parametrize("how", KILLS)
@pytest.mark.parametrize(
    "tune",
    [
        {"algorithm": "grid"},
        {"algorithm": "tpe", "trials": 8},
        {"algorithm": "random", "trials": 8, "early": False},
        {"algorithm": "grid", "racing": False, "early": False, "trials": 4},
    ],
    ids=["grid", "tpe", "random", "no racing"],
)
def test_a_search_goes_on_as_if_never_interrupted(tmp_path: Path, how: str, tune: dict[str, Any]) -> None:
    whole = Engine(director(tmp_path / "whole", **tune)).run()
    for number in range(len(tune), len(whole.begun), 5):
        folder = tmp_path / str(number)
        before = Engine(director(folder, **tune), dies_at=number, how=how).run()
        after = Engine(director(folder, **tune)).run()
        assert before.trained + after.trained == whole.trained, number
        assert state(after.director) == state(whole.director)
        assert told(after.director) == pytest.approx(told(whole.director))


@pytest.mark.parametrize("how", KILLS)
def test_a_search_that_is_interrupted_all_the_time_comes_to_the_same_end(tmp_path: Path, how: str) -> None:
    """Its last line is torn each time."""
    whole = Engine(director(tmp_path / "whole")).run()
    trained: list[FoldJob] = []
    for attempt in range(200):
        dies_at = None if how == "within the fold" and attempt % 2 else 1 if how != "after its record" else 0
        of = director(tmp_path)
        if of.nothing_left():
            break
        engine = Engine(of, dies_at=dies_at if attempt < 40 else None, how=how).run()
        trained += engine.trained
        written = of.record.folder.trials.read_bytes()
        of.record.folder.trials.write_bytes(written[: -(1 + attempt % 9)])
    assert len({(job.trial, job.fold) for job in trained}) == len(trained)
    assert [(job.trial, job.fold) for job in trained] == [(job.trial, job.fold) for job in whole.trained]
    assert state(director(tmp_path)) == state(whole.director)


def test_with_several_slots_nothing_is_done_twice_after_an_interruption(tmp_path: Path) -> None:
    for number in range(0, 16, 3):
        folder = tmp_path / str(number)
        before = Engine(director(folder, slots=3), slots=3, dies_at=number, how=KILLS[2]).run()
        after = Engine(director(folder, slots=3), slots=3).run()
        places = [(job.trial, job.fold) for job in before.trained + after.trained]
        assert len(set(places)) == len(places)
        assert after.director.nothing_left() and {5, 7} <= {
            each.settings["train.seed"] for each in after.director.race.finished
        }


def test_a_finished_search_has_nothing_left_to_do(tmp_path: Path) -> None:
    whole = Engine(director(tmp_path)).run()
    written = whole.director.record.folder.trials.read_bytes()
    again = director(tmp_path)
    assert again.nothing_left() and again.next() is None
    assert state(again) == state(whole.director)
    assert again.record.folder.trials.read_bytes() == written


def test_more_trials_go_on_from_fewer(tmp_path: Path) -> None:
    before = Engine(director(tmp_path, algorithm="random", trials=4, racing=False, early=False)).run()
    after = Engine(director(tmp_path, algorithm="random", trials=6, racing=False, early=False)).run()
    assert len(before.trained) == 12 and len(after.trained) == 6
    assert list(after.director.race.trials) == [1, 2, 3, 4, 5, 6]


def test_what_a_killed_process_had_no_time_to_tell_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One configuration had its last fold, and another could not catch it any more."""
    of = director(tmp_path, trials=2, algorithm="grid")
    of.next()
    for place in range(3):
        write_fold(of.work.fold_folder(1, FoldId(place)), fold([0.9] * EPOCHS, number=1))
    write_fold(of.work.fold_folder(2, FoldId(0)), fold([0.1] * EPOCHS, number=2))
    heard: list[Any] = []
    monkeypatch.setattr(Proposals, "tell", lambda _, settings, values: heard.append((settings, values)))
    work, units = of.work, units_of(64)
    again = Director.of(work, range(3), TWO, EPOCHS, units, 1)
    assert [values["f1_macro"] for _, values in heard] == pytest.approx([0.9, 0.1])
    assert again.race.trials[2].out and again.nothing_left()
    assert [line["trial"] for line in lines(again) if "values" in line] == [1, 2]
    Director.of(work, range(3), TWO, EPOCHS, units, 1)
    assert len([line for line in lines(again) if "values" in line]) == 2
