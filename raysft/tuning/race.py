"""Which configuration trains on which fold next, and which is out of the race. Pure: knows neither Ray nor models.

Folds are run breadth first: all configurations meet one fold, those that are left the next. After each fold a
configuration is compared with the leader, the best on its folds of those that have done these and perhaps more, row by
row. It is out where

    it is worse by the first objective by more than Z standard errors of the difference   (FIRST_FOLD on a single fold)
    and by no other objective better by more than Z_OTHER of them.

Of two configurations of equal worth the one that happens to lead meets the other up to k times, and the leader is the
luckiest of many: Z is wide because of that. benchmarks/racing.py replays whole recorded sweeps in many orders and
counts how often the configuration that would have won is stopped.

With `ties` it is also out, after two folds or more, where it could not be better than the leader by a standard error of
the leader's score: the choice takes configurations that close for equals (choose.py), so that what is lost lies within
the error of what is measured. Who of several equals wins is then a matter of their order.

Within a fold a configuration is out where it could not reach the leader's score of that fold even if it gained from
here as much as the one that gained most from that epoch on, in all folds done so far; never before EARLIEST of the
epochs, and never before GAINS folds have shown how curves go on.

Forgiving on purpose: Bergman, Purucker and Hutter (AutoML 2024, arXiv 2405.03389) find that stopping the folds of a
configuration early speeds up the search on 94% of data sets where it forgives, and that stopping aggressively is
unreliable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raysft.tuning.objectives import TIME
from raysft.tuning.results import FoldScores, Trial, better, difference, oriented, variance_of

Z = 2.0
FIRST_FOLD = 2.5
Z_OTHER = 1.0
Z_TIE = 1.28  # one-sided, 90%
UNITS = 20  # of a fold, below which one fold alone stops nobody
QUICKER = 0.9  # share of the leader's time per text from which a configuration counts as quicker
EARLIEST = 0.3  # of the epochs
GAINS = 3  # folds that were trained to their end


@dataclass
class Race:
    """A sweep's configurations. folds: the numbers of those that validate, in the order in which they are run. epochs,
    stop_at: of the job."""

    folds: Sequence[int]
    objectives: dict[str, str]
    epochs: int
    racing: bool = True  # whether configurations are stopped between folds
    early: bool = True  # whether they are stopped within one
    ties: bool = False  # whether those are stopped too that could at best be about as good as the leader
    stop_at: int | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    running: set[tuple[int, int]] = field(default_factory=set)

    def add(self, trial: Trial) -> None:
        self.trials[trial.number] = trial

    def next(self) -> tuple[int, int] | None:
        """(configuration, fold) to train now: of those with fewest folds begun the best so far; None: all are begun."""
        waiting = [trial for trial in self.trials.values() if not trial.out and self._left(trial)]
        if not waiting:
            return None
        fewest = min(self._begun(trial) for trial in waiting)
        level = [trial for trial in waiting if self._begun(trial) == fewest]
        scored = better([trial for trial in level if trial.folds])
        chosen = scored[0] if scored else min(level, key=lambda trial: trial.number)
        return chosen.number, self._left(chosen)[0]

    def start(self, number: int, fold: int) -> None:
        self.running.add((number, fold))

    def finish(self, number: int, fold: int, scores: FoldScores) -> list[Trial]:
        """Take in a fold that is done; gives the configurations that are out because of it."""
        self.running.discard((number, fold))
        self.trials[number].add(fold, scores)
        return self.stop_behind()

    def stop_behind(self) -> list[Trial]:
        """Stop the configurations that cannot catch the leader, where that is wanted at all; gives these."""
        stopped: list[Trial] = []
        if not self.racing:
            return stopped
        leaders: dict[frozenset[int], Trial] = {}  # by the folds on which they lead
        for trial in list(self.trials.values()):
            if trial.out or not trial.folds or len(trial.folds) == len(self.folds):
                continue
            done = frozenset(trial.folds)
            if done not in leaders or leaders[done].out:
                leaders[done] = self._best_on(done)
            self._stop(trial, *self._behind(trial, leaders[done]))
            if trial.stopped:
                stopped.append(trial)
        return stopped

    def _stop(self, trial: Trial, why: str, leader: Trial | None) -> None:
        if why:
            assert leader is not None
            trial.stopped, trial.behind = why, leader.number

    def fail(self, number: int, why: str) -> list[Trial]:
        """A configuration cannot be trained; gives those that are in the race again, since it was this one that they
        could not catch."""
        self.trials[number].failed = why
        again = [each for each in self.trials.values() if each.behind == number and each.stopped and not each.failed]
        for trial in again:
            trial.stopped, trial.behind = "", None
        return again

    def leave(self, number: int, fold: int) -> None:
        """A fold that was begun is not being trained any more."""
        self.running.discard((number, fold))

    def hopeless(self, number: int, fold: int, found: FoldScores) -> str:
        """Why a configuration is out after the epochs of a fold that it has done; "" where it goes on."""
        trial, done = self.trials[number], found.epochs
        if trial.out:
            return trial.stopped or trial.failed
        epochs = self.epochs_of(trial)
        if not self.early or done >= epochs or done < EARLIEST * epochs:
            return ""
        leader = self.leader(fold)
        if leader is None or self.leader() is trial:  # a single fold is no reason to stop the best of all
            return ""
        self._stop(trial, self._cannot_reach(trial, found, leader, fold), leader)
        return trial.stopped

    def leader(self, fold: int | None = None) -> Trial | None:
        """The best configuration by the first objective, of those still in the race that have done this fold; by the
        folds that all of them have, if there are any."""
        ready = [each for each in self.trials.values() if each.folds and not each.out]
        if fold is not None:
            ready = [each for each in ready if fold in each.folds]
        most = max((len(each.folds) for each in ready), default=0)
        # One that is a fold behind may lead too: otherwise the first to do a fold would lead by that alone.
        near = [each for each in ready if len(each.folds) >= most - 1]
        common = set(self.folds).intersection(*(each.folds for each in near))
        return next(iter(better(near, common or None)), None)

    def _best_on(self, folds: frozenset[int]) -> Trial:
        """The best by these folds of those in the race that have done them, of which there is one."""
        return better([each for each in self.trials.values() if each.folds.keys() >= folds and not each.out], folds)[0]

    @property
    def finished(self) -> list[Trial]:
        """Configurations with every fold done."""
        return [trial for trial in self.trials.values() if len(trial.folds) == len(self.folds)]

    def _begun(self, trial: Trial) -> int:
        return len(trial.folds) + sum(number == trial.number for number, _ in self.running)

    def _left(self, trial: Trial) -> list[int]:
        return [fold for fold in self.folds if fold not in trial.folds and (trial.number, fold) not in self.running]

    def epochs_of(self, trial: Trial) -> int:
        """How many epochs a configuration is trained."""
        epochs = int(trial.settings.get("train.epochs", self.epochs))
        stop_at = trial.settings.get("train.stop_at", self.stop_at)
        return epochs if stop_at is None else min(epochs, int(stop_at))

    def _behind(self, trial: Trial, leader: Trial) -> tuple[str, Trial | None]:
        """Why a configuration cannot catch the leader on its folds; "" where it may."""
        if leader is trial:
            return "", None
        (first, way), *others = self.objectives.items()
        ahead = oriented(difference(leader, trial, first), way)
        few = ahead.folds == 1 and len(leader.moved(first, next(iter(trial.folds)))) < UNITS
        behind = not few and ahead.z > (FIRST_FOLD if ahead.folds == 1 else Z)
        band = self._band(leader, first)
        tied = self.ties and ahead.folds > 1 and Z_TIE * ahead.error - ahead.value < band
        if not behind and not tied:
            return "", None
        if any(self._better_by(name, way, trial, leader) for name, way in others):
            return "", None
        folds = "1 fold" if ahead.folds == 1 else f"{ahead.folds} folds"
        gap = f"{ahead.value:.3f} ± {ahead.error:.3f} on {folds}"
        if behind:
            return f"{first} {trial.mean(first):.3f} is behind trial {leader.number} by {gap}", leader
        why = (
            f"{first} {trial.mean(first):.3f} could hardly be better than trial {leader.number} by a standard error "
            f"({band:.3f}): it is behind by {gap}"
        )
        return why, leader

    def _better_by(self, measure: str, way: str, trial: Trial, leader: Trial) -> bool:
        """Whether a configuration may be on the front because of another objective."""
        if measure == TIME:
            return trial.mean(TIME) < QUICKER * leader.mean(TIME)
        return oriented(difference(leader, trial, measure), way).z < -Z_OTHER

    def _band(self, leader: Trial, measure: str) -> float:
        """The standard error that the leader's score will have with all its folds, by its rows."""
        own = math.sqrt(sum(float((leader.moved(measure, fold) ** 2).sum()) for fold in leader.folds))
        return own / len(leader.folds) * math.sqrt(len(leader.folds) / len(self.folds))

    def _cannot_reach(self, trial: Trial, found: FoldScores, leader: Trial, fold: int) -> str:
        (first, way), *others = self.objectives.items()
        sign, at = (1 if way == "max" else -1), found.epochs - 1
        gains = self._gains(first, sign, at, self.epochs_of(trial))
        if len(gains) < GAINS or any(self._may_lead(trial, found, leader, fold, name, other) for name, other in others):
            return ""
        there, own = leader.folds[fold], found.scores[at][first]
        goal = leader.value(first, fold)
        mine, theirs = found.influence[first][at], there.influence[first][leader.epoch - 1]
        if len(mine) < UNITS:
            return ""
        reach = sign * own + max(0.0, *gains) + FIRST_FOLD * float(np.sqrt(variance_of(mine, theirs)))
        if reach >= sign * goal:
            return ""
        return (
            f"{first} {own:.3f} after epoch {at + 1} of fold {fold} could not reach trial {leader.number}'s "
            f"{goal:.3f}: none gained more than {max(0.0, *gains):.3f} from there"
        )

    def _may_lead(self, trial: Trial, found: FoldScores, leader: Trial, fold: int, measure: str, way: str) -> bool:
        """Whether a configuration is better than the leader by another objective already, as far as that is known."""
        if measure in found.scores[-1]:
            gap = found.scores[-1][measure] - leader.value(measure, fold)
            return gap > 0 if way == "max" else gap < 0
        # What a prediction takes is known when a fold is done.
        return not trial.folds or self._better_by(measure, way, trial, leader)

    def _gains(self, measure: str, sign: int, at: int, epochs: int) -> list[float]:
        """By how much each fold that was trained to its end, with as many epochs, got better after this one."""
        alike = [trial for trial in self.trials.values() if self.epochs_of(trial) == epochs]
        done = [fold for trial in alike for fold in trial.folds.values() if fold.epochs > at + 1]
        return [
            max(sign * each[measure] for each in fold.scores[at + 1 :]) - sign * fold.scores[at][measure]
            for fold in done
        ]
