"""A race trains what may still win, stops what cannot, and stops neither the best nor all."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.tuning.objectives import TIME
from raysft.tuning.race import FIRST_FOLD, GAINS, QUICKER, UNITS, Race, Z
from raysft.tuning.results import FoldScores, Trial, better
from tests.support.sweeps import DIFFERS, TWO, Run, Scores, World, drive, fold, race, trial

ERROR = 0.01 * DIFFERS  # of a difference of two folds


def first_fold(scores: Scores, number: int = 1, error: float = 0.01) -> FoldScores:
    return fold(scores, number=number, error=error)


# --- what is trained next


def test_all_meet_one_fold_before_any_meets_the_next_and_the_best_comes_first() -> None:
    of = race([trial(1), trial(2), trial(3)], folds=2, racing=False)
    begun = []
    for number, score in ((1, 0.5), (2, 0.7), (3, 0.6)):
        found = of.next()
        assert found == (number, 0)
        of.start(*found)
        of.finish(*found, first_fold(score, number))
    while (found := of.next()) is not None:
        begun.append(found)
        of.start(*found)
    assert begun == [(2, 1), (3, 1), (1, 1)]
    assert len(of.running) == 3


def test_folds_are_run_in_the_order_in_which_they_are_given() -> None:
    of = Race([3, 1, 2], TWO, 1)
    of.add(trial(1))
    begun = []
    while (found := of.next()) is not None:
        of.start(*found)
        begun.append(found)
    assert begun == [(1, 3), (1, 1), (1, 2)]


def test_what_is_left_off_is_trained_again_and_what_is_out_is_not() -> None:
    of = race([trial(1), trial(2)], folds=1)
    of.start(1, 0)
    assert of.next() == (2, 0)
    of.leave(1, 0)
    assert of.next() == (1, 0)
    of.trials[1].failed = "no memory"
    assert of.next() == (2, 0)
    of.trials[2].stopped = "behind"
    assert of.next() is None and of.finished == []


def test_one_that_is_late_catches_up_before_the_others_go_on() -> None:
    of = race([trial(1, {0: 0.7, 1: 0.7}), trial(2)], folds=3)
    assert of.next() == (2, 0)


def test_the_leader_is_the_best_of_those_that_are_at_most_a_fold_behind() -> None:
    of = race([trial(1, {0: 0.9}), trial(2, {0: 0.6, 1: 0.6}), trial(3, {0: 0.5, 1: 0.5, 2: 0.5})])
    assert (of.leader(), of.leader(0), of.leader(1), of.leader(2)) == tuple(of.trials[n] for n in (2, 2, 2, 3))
    assert of.leader(3) is None and race([]).leader() is None
    of.trials[2].stopped = "behind"
    assert of.leader() is of.trials[3]


# --- who is stopped between folds


@pytest.mark.parametrize(("behind", "stopped"), [(FIRST_FOLD - 0.1, False), (FIRST_FOLD + 0.1, True)])
def test_on_one_fold_a_configuration_is_out_beyond_this_many_standard_errors(behind: float, stopped: bool) -> None:
    of = race([trial(1, {0: 0.7}), trial(2)], folds=2)
    assert of.finish(2, 0, first_fold(0.7 - behind * ERROR, 2)) == ([of.trials[2]] if stopped else [])
    assert of.trials[2].out == stopped and not of.trials[1].out


@pytest.mark.parametrize(("behind", "stopped"), [(Z - 0.1, False), (Z + 0.1, True)])
def test_on_several_folds_fewer_will_do_and_the_reason_is_told(behind: float, stopped: bool) -> None:
    """Of two folds, whose mean has an error smaller by the root of 2."""
    of = race([trial(1, {0: 0.7, 1: 0.7}), trial(2, {0: 0.7})], folds=3)
    of.finish(2, 1, first_fold(0.7 - 2 * behind * ERROR / 2**0.5, 2))
    assert of.trials[2].out == stopped
    if stopped:
        assert of.trials[2].stopped == "f1_macro 0.679 is behind trial 1 by 0.021 ± 0.010 on 2 folds"


def test_the_folds_that_only_the_leader_has_are_no_matter() -> None:
    """The leader is worse on the fold of both; that it is the best rests on another one."""
    of = race([trial(1, {0: 0.5, 1: 0.9}), trial(2)], folds=3)
    assert of.finish(2, 0, first_fold(0.55, 2)) == []


def test_a_leader_whose_other_folds_are_hard_leads_all_the_same() -> None:
    """On the fold of both it is the best; that its mean is lower says that the other fold is hard."""
    of = race([trial(1, {0: 0.8, 1: 0.5}), trial(2), trial(3, {0: 0.79})], folds=3)
    assert of.finish(2, 0, first_fold(0.7, 2)) == [of.trials[2]] and of.trials[2].behind == 1
    assert of.leader() is of.trials[1]


def test_one_that_is_better_by_another_objective_goes_on() -> None:
    for loss, stopped in ((0.3, True), (0.29, True), (0.27, False)):  # against 0.3, with an error of 0.014
        of = race([trial(1, {0: 0.7}, {0: 0.3}), trial(2)], folds=2)
        of.finish(2, 0, fold(0.4, loss, number=2))
        assert of.trials[2].out == stopped, loss


def test_a_loss_races_the_other_way_round() -> None:
    of = race([trial(1, {0: 0.1}, {0: 0.3}, objectives={"loss": "min"})], folds=2)
    of.add(Trial(2, {}, {"loss": "min"}))
    assert [each.number for each in of.finish(2, 0, fold(0.9, 0.6, number=2))] == [2]
    assert "loss 0.600 is behind trial 1 by 0.300" in of.trials[2].stopped


@pytest.mark.parametrize(("ms", "stopped"), [(10 * QUICKER - 0.1, False), (10 * QUICKER + 0.1, True)])
def test_time_is_no_matter_of_rows_and_saves_one_that_is_clearly_quicker(ms: float, stopped: bool) -> None:
    objectives = {"f1_macro": "max", TIME: "min"}
    of = race([trial(1, {0: 0.7}, objectives=objectives), Trial(2, {}, objectives)], folds=2)
    of.trials[1].folds[0].scores[0][TIME] = 10.0
    scores = first_fold(0.4, 2)
    scores.scores[0][TIME] = ms
    of.finish(2, 0, scores)
    assert of.trials[2].out == stopped


@pytest.mark.parametrize("rows", [UNITS - 1, UNITS])
def test_one_fold_of_few_units_stops_nobody_and_two_do(rows: int) -> None:
    of = race([Trial(1, {}, TWO), Trial(2, {}, TWO)], folds=3)
    of.finish(1, 0, fold(0.9, number=1, rows=rows))
    of.finish(2, 0, fold(0.1, number=2, rows=rows))
    assert of.trials[2].out == (rows == UNITS)
    of.finish(1, 1, fold(0.9, number=1, rows=rows))
    if rows < UNITS:
        of.finish(2, 1, fold(0.1, number=2, rows=rows))
    assert of.trials[2].out and of.trials[2].behind == 1


def test_those_that_could_not_catch_one_that_fails_are_in_the_race_again() -> None:
    of = race([trial(1, {0: 0.9}), trial(2), trial(3), trial(4)], folds=2)
    of.trials[4].stopped, of.trials[4].behind = "behind another", 3
    assert of.finish(2, 0, first_fold(0.1, 2)) == [of.trials[2]]
    assert of.finish(3, 0, first_fold(0.89, 3)) == []
    assert of.fail(1, "no memory") == [of.trials[2]]
    assert not of.trials[2].out and of.trials[2].behind is None and of.trials[4].out
    assert of.stop_behind() == [of.trials[2]] and of.trials[2].behind == 3


@pytest.mark.parametrize(
    ("ties", "gap", "stopped"), [(True, 0.0085, True), (True, 0.0075, False), (False, 0.0085, False)]
)
def test_with_ties_one_that_could_hardly_be_better_by_an_error_is_out(ties: bool, gap: float, stopped: bool) -> None:
    """Of two folds of four: at 90% the second is better by no more than 1.28 * 0.0101 - gap, and the leader's own error
    will be 0.01 / 2."""
    of = race([trial(1, {0: 0.7, 1: 0.7}), trial(2, {0: 0.7 - gap})], folds=4)
    of.ties = ties
    of.finish(2, 1, first_fold(0.7 - gap, 2))
    assert of.trials[2].out == stopped
    assert ("could hardly be better than trial 1" in of.trials[2].stopped) == stopped


def test_with_ties_a_single_fold_stops_none_that_is_close() -> None:
    of = race([trial(1, {0: 0.7}), trial(2)], folds=4)
    of.ties = True
    assert of.finish(2, 0, first_fold(0.69, 2)) == []


def test_what_a_fold_costs_the_race_grows_with_the_configurations_and_not_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of these is stopped, so that all are compared each time."""
    counted: list[str] = []
    usual = Trial.mean
    monkeypatch.setattr(Trial, "mean", lambda *given: counted.append("") or usual(*given))  # type: ignore[func-returns-value]
    looks = []
    for count in (20, 40):
        of = race([trial(number, {0: 0.7}) for number in range(1, count + 1)], folds=3)
        counted.clear()
        of.finish(1, 1, first_fold(0.7))
        looks.append(len(counted))
    assert looks[1] < 3 * looks[0]


def test_a_better_one_stops_those_that_were_done_before() -> None:
    of = race([trial(1, {0: 0.5}), trial(2, {0: 0.4}), trial(3)], folds=2)
    assert [each.number for each in of.finish(3, 0, first_fold(0.7, 3))] == [1, 2]


def test_whoever_has_all_folds_stays_finished_and_without_racing_nobody_is_stopped() -> None:
    of = race([trial(1, {0: 0.2, 1: 0.2}), trial(2, {0: 0.9})], folds=2)
    assert of.finish(2, 1, first_fold(0.9, 2)) == []
    assert of.finished == [of.trials[1], of.trials[2]]
    of = race([trial(1, {0: 0.7}), trial(2)], folds=2, racing=False)
    assert of.finish(2, 0, first_fold(0.1, 2)) == [] and of.stop_behind() == []


# --- who is stopped within a fold

RISES = {place: [0.5, 0.6, 0.65, 0.7] for place in range(GAINS)}  # the most from the second epoch on: 0.1


def within(second: float, done: int = GAINS, early: bool = True, racing: bool = False, epochs: int = 4) -> str:
    """What is said of a configuration whose first fold has this score after two of so many epochs."""
    rises = {place: [*scores, *[0.7] * (epochs - 4)] for place, scores in RISES.items()}
    of = race([trial(1, rises), trial(2)], epochs=epochs, early=early, racing=racing)
    for place in range(done, GAINS):
        del of.trials[1].folds[place]
    of.start(2, 0)
    found = of.hopeless(2, 0, first_fold([0.1, second], 2))
    assert of.trials[2].stopped == found
    return found


def test_within_a_fold_a_configuration_is_out_where_the_largest_gain_would_not_do() -> None:
    """The leader has 0.7, the largest gain from there was 0.1, and two and a half standard errors are 0.036."""
    assert within(0.7 - 0.1 - FIRST_FOLD * ERROR + 0.001) == ""
    found = within(0.7 - 0.1 - FIRST_FOLD * ERROR - 0.001)
    assert "after epoch 2 of fold 0 could not reach trial 1's 0.700: none gained more than 0.100 from there" in found


def test_within_a_fold_nobody_is_stopped_before_it_is_known_how_curves_go_on() -> None:
    assert within(0.0) and within(0.0, done=GAINS - 1) == ""
    assert within(0.0, early=False) == "" and within(0.0, early=False, racing=True) == ""
    assert within(0.0, epochs=6) and within(0.0, epochs=7) == ""  # 2 of 7 epochs are less than 30%


@pytest.mark.parametrize("rows", [UNITS - 1, UNITS])
def test_within_a_fold_of_few_units_nobody_is_stopped(rows: int) -> None:
    """As between folds: so few do not tell how far units differ."""
    of = race([Trial(1, {}, TWO), trial(2)], epochs=4)
    for place, scores in RISES.items():
        of.trials[1].add(place, fold(scores, number=1, rows=rows))
    assert bool(of.hopeless(2, 0, fold([0.0, 0.0], number=2, rows=rows))) == (rows == UNITS)


@pytest.mark.parametrize(("loss", "stopped"), [(0.31, True), (0.29, False)])
def test_within_a_fold_one_that_is_ahead_by_another_objective_already_goes_on(loss: float, stopped: bool) -> None:
    """Against a loss of 0.3 of the leader at its end."""
    of = race([trial(1, RISES), trial(2)], epochs=4)
    assert bool(of.hopeless(2, 0, fold([0.1, 0.1], [0.9, loss], number=2))) == stopped
    assert of.trials[2].behind == (1 if stopped else None)


@pytest.mark.parametrize(("ms", "stopped"), [(None, False), (8.0, False), (9.5, True)])
def test_within_a_fold_what_a_prediction_takes_is_known_from_other_folds(ms: float | None, stopped: bool) -> None:
    """Where it is not, the configuration may be the quickest of all."""
    objectives = {"f1_macro": "max", TIME: "min"}
    other = Trial(2, {}, objectives)
    of = race([trial(1, RISES, objectives=objectives), other], epochs=4, racing=False)
    for done in of.trials[1].folds.values():
        for scores in done.scores:
            scores[TIME] = 10.0
    if ms is not None:
        other.add(4, fold([0.1] * 4, number=2))
        for scores in other.folds[4].scores:
            scores[TIME] = ms
    assert bool(of.hopeless(2, 0, first_fold([0.1, 0.1], 2))) is stopped


def test_where_epochs_are_searched_each_is_judged_by_its_own() -> None:
    """Half of 4 epochs, a fifth of 10; gains are those of others with as many."""
    alike, other = Trial(2, {"train.epochs": 4}, TWO), Trial(3, {"train.epochs": 10}, TWO)
    of = race([trial(1, RISES), alike, other], epochs=4)
    assert [of.epochs_of(each) for each in of.trials.values()] == [4, 4, 10]
    assert of.hopeless(3, 0, first_fold([0.0, 0.0], 3)) == ""
    assert of.hopeless(3, 0, first_fold([0.0] * 3, 3)) == ""
    assert of.hopeless(2, 0, first_fold([0.0, 0.0], 2)) != ""


def test_where_a_job_stops_before_all_its_epochs_the_last_is_the_one_at_which_it_stops() -> None:
    plain, own = Trial(2, {"train.epochs": 2}, TWO), Trial(3, {"train.stop_at": 4}, TWO)
    of = race([trial(1, RISES), plain, own], epochs=9)
    of.stop_at = 3
    assert [of.epochs_of(each) for each in of.trials.values()] == [3, 2, 4]
    assert of.hopeless(1, 4, first_fold([0.0, 0.0, 0.0])) == ""  # at its end


def test_the_last_epoch_stops_nobody_and_the_fold_of_one_that_is_out_ends() -> None:
    of = race([trial(1, RISES), trial(2)], epochs=4)
    assert of.hopeless(2, 0, first_fold([0.0] * 4, 2)) == "" and not of.trials[2].out
    of.trials[2].stopped = "behind"
    assert of.hopeless(2, 0, first_fold([0.9] * 4, 2)) == "behind"
    of.trials[2].stopped, of.trials[2].failed = "", "no memory"
    assert of.hopeless(2, 0, first_fold([0.9], 2)) == "no memory"


def test_a_fold_that_nobody_has_done_stops_nobody() -> None:
    of = race([trial(1, RISES), trial(2)], epochs=4)
    assert of.hopeless(2, GAINS, first_fold([0.0, 0.0], 2)) == ""


def test_the_best_of_all_is_not_stopped_by_one_bad_fold() -> None:
    better_one = {place: [0.8, 0.85, 0.9, 0.9] for place in range(GAINS - 1)}
    of = race([trial(1, RISES), trial(2, better_one), trial(3, {0: [0.1] * 4, 1: [0.1] * 4})], epochs=4)
    assert of.leader() is of.trials[2]
    assert of.hopeless(2, GAINS - 1, first_fold([0.0, 0.0], 2)) == ""
    assert of.hopeless(3, GAINS - 1, first_fold([0.0, 0.0], 3)) != ""


# --- whatever the scores


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Few rows, so that much is by chance."""
    qualities = draw(st.lists(st.floats(0.05, 0.95), min_size=1, max_size=6))
    return World(
        tuple(qualities),
        seed=draw(st.integers(0, 10**6)),
        folds=draw(st.integers(1, 5)),
        rows=draw(st.integers(5, 40)),
        classes=draw(st.integers(2, 5)),
        epochs=draw(st.integers(1, 5)),
        alike=draw(st.sampled_from([0.0, 0.5, 0.95])),
        luck=draw(st.sampled_from([0.0, 0.2])),
    )


class Watched(Race):
    """Looks whom it stops."""

    def stop_behind(self) -> list[Trial]:
        alive = [each for each in self.trials.values() if not each.out]
        leading = [each for each in alive if each.folds and self._best_on(frozenset(each.folds)) is each]
        found = super().stop_behind()
        assert not any(each.out for each in leading)
        assert not alive or any(not each.out for each in alive)
        assert not any(each in self.finished for each in found)
        return found

    def hopeless(self, number: int, fold: int, found: FoldScores) -> str:
        leader, was_out = self.leader(), self.trials[number].out
        why = super().hopeless(number, fold, found)
        assert bool(why) == self.trials[number].out
        if why and not was_out:
            assert leader is not None and leader.number != number and not leader.out
            assert found.epochs < self.epochs and self.early
        return why


def watched(world: World, racing: bool = True, early: bool = True) -> Race:
    of = Watched(range(world.folds), TWO, world.epochs, racing, early)
    for each in world.trials():
        of.add(each)
    return of


RUNS = (worlds(), st.booleans(), st.booleans(), st.integers(1, 5), st.integers(0, 100))


@given(*RUNS)
def test_never_the_leader_never_all_and_nothing_twice(
    world: World, racing: bool, early: bool, slots: int, seed: int
) -> None:
    of = watched(world, racing, early)
    run = drive(of, world, slots, random.Random(seed))
    assert len(set(run.begun)) == len(run.begun) <= len(world.qualities) * world.folds
    assert of.next() is None and not of.running
    assert of.finished  # something can be chosen
    for each in of.trials.values():
        assert each.out != (each in of.finished) or (each.out and slots > 1)
    if not racing and not early:
        assert len(run.done) == len(world.qualities) * world.folds


@given(*RUNS)
def test_no_fold_is_begun_before_all_that_are_left_have_begun_the_one_before(
    world: World, racing: bool, early: bool, slots: int, seed: int
) -> None:
    of = watched(world, racing, early)
    order = random.Random(seed)
    for number, _ in begun_one_by_one(of, world, slots, order):
        counts = {each.number: begun(of, each) for each in of.trials.values() if not each.out}
        assert all(counts[number] <= other + 1 for other in counts.values())


def begun(of: Race, each: Trial) -> int:
    return len(each.folds) + sum(number == each.number for number, _ in of.running)


def begun_one_by_one(of: Race, world: World, slots: int, order: random.Random) -> Iterator[tuple[int, int]]:
    """As `drive`; gives each fold when it is begun."""
    busy: list[tuple[int, int]] = []
    while True:
        while len(busy) < slots and (found := of.next()) is not None:
            of.start(*found)
            busy.append(found)
            yield found
        if not busy:
            return
        number, place = busy.pop(order.randrange(len(busy)))
        of.finish(number, place, world.results[number, place])


@given(worlds(), st.integers(1, 4), st.integers(0, 100))
def test_without_stopping_the_winner_is_the_best_of_all(world: World, slots: int, seed: int) -> None:
    of = watched(world, racing=False, early=False)
    drive(of, world, slots, random.Random(seed))
    every = [Trial(n, {}, TWO, {f: world.results[n, f] for f in range(world.folds)}) for n in of.trials]
    assert better(of.finished)[0].number == better(every)[0].number


# --- how often it stops the wrong one


def simulated(low: float, high: float, sweeps: int, rows: int, classes: int, **changes: int) -> tuple[float, float]:
    """(share of sweeps that stop the configuration that would have won, share of folds that are saved)."""
    lost, saved = [], []
    for seed in range(sweeps):
        made = World.of(low, high, seed, configurations=8, rows=rows, classes=classes)
        world = World(made.qualities, seed, rows=rows, classes=classes, **changes)
        of = race(world.trials(), world.folds, world.epochs)
        run: Run = drive(of, world)
        lost.append(of.trials[world.best].out)
        saved.append(1 - run.epochs / (len(world.qualities) * world.folds * world.epochs))
    return float(np.mean(lost)), float(np.mean(saved))


def test_racing_saves_a_third_of_the_folds_and_loses_the_winner_in_fewer_than_a_twentieth_of_sweeps() -> None:
    lost, saved = simulated(0.45, 0.75, sweeps=300, rows=77, classes=77)
    assert lost < 0.05 and saved > 1 / 3


def test_where_all_are_about_equal_racing_loses_the_winner_seldom_too() -> None:
    lost, _ = simulated(0.70, 0.75, sweeps=200, rows=400, classes=10)
    assert lost < 0.05


def test_stopping_within_folds_saves_more_and_loses_no_more() -> None:
    lost, saved = simulated(0.45, 0.75, sweeps=60, rows=77, classes=10, epochs=5)
    _, between = simulated(0.45, 0.75, sweeps=60, rows=77, classes=10)
    assert lost < 0.05 and saved > between + 0.02
