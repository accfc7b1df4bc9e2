"""Which configuration trains on which fold next, and which is out of the race. Pure: knows neither Ray nor models.

Folds are run breadth first: all configurations meet one fold, those that are left the next. After each fold a
configuration is compared with the leader, the best of those that have done at least its folds, on the folds of both,
row by row. It is out where

    it is worse by the first objective by more than Z standard errors of the difference   (FIRST_FOLD on a single fold)
    and by no other objective better by more than Z_OTHER of them.

Of two configurations of equal worth the one that happens to lead meets the other up to k times, and the leader is the
luckiest of many: Z is wide because of that. benchmarks/racing.py replays whole recorded sweeps in many orders and
counts how often the configuration that would have won is stopped.

Within a fold a configuration is out where it could not reach the leader's score of that fold even if it gained from
here as much as the one that gained most from that epoch on, in all folds done so far; never before EARLIEST of the
epochs, and never before GAINS folds have shown how curves go on.

Forgiving on purpose: Bergman, Purucker and Hutter (AutoML 2024, arXiv 2405.03389) find that stopping the folds of a
configuration early speeds up the search on 94% of data sets where it forgives, and that stopping aggressively is
unreliable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raysft.tuning.objectives import TIME
from raysft.tuning.results import FoldScores, Trial, better, difference, oriented, variance_of

Z = 2.0
FIRST_FOLD = 2.5
Z_OTHER = 1.0
EARLIEST = 0.3  # of the epochs
GAINS = 3  # folds that were trained to their end


@dataclass
class Race:
    """A sweep's configurations. folds: the numbers of those that validate, in the order in which they are run."""

    folds: Sequence[int]
    objectives: dict[str, str]
    epochs: int
    racing: bool = True  # whether configurations are stopped between folds
    early: bool = True  # whether they are stopped within one
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
        for trial in list(self.trials.values()):
            if trial.out or not trial.folds or len(trial.folds) == len(self.folds):
                continue
            trial.stopped = self._behind(trial)
            if trial.stopped:
                stopped.append(trial)
        return stopped

    def leave(self, number: int, fold: int) -> None:
        """A fold that was begun is not being trained any more."""
        self.running.discard((number, fold))

    def hopeless(self, number: int, fold: int, found: FoldScores) -> str:
        """Why a configuration is out after the epochs of a fold that it has done; "" where it goes on."""
        trial, done = self.trials[number], found.epochs
        if trial.out:
            return trial.stopped or trial.failed
        if not self.early or done >= self.epochs or done < EARLIEST * self.epochs:
            return ""
        leader = self.leader(fold)
        if leader is None or self.leader() is trial:  # a single fold is no reason to stop the best of all
            return ""
        trial.stopped = self._cannot_reach(found, leader, fold)
        return trial.stopped

    def leader(self, fold: int | None = None) -> Trial | None:
        """The best configuration by the first objective, of those still in the race that have done this fold."""
        ready = [each for each in self.trials.values() if each.folds and not each.out]
        if fold is not None:
            ready = [each for each in ready if fold in each.folds]
        most = max((len(each.folds) for each in ready), default=0)
        # One that is a fold behind may lead too: otherwise the first to do a fold would lead by that alone.
        return next(iter(better([each for each in ready if len(each.folds) >= most - 1])), None)

    @property
    def finished(self) -> list[Trial]:
        """Configurations with every fold done."""
        return [trial for trial in self.trials.values() if len(trial.folds) == len(self.folds)]

    @property
    def over(self) -> bool:
        """Whether nothing is left to train among the configurations so far."""
        return not self.running and self.next() is None

    def _begun(self, trial: Trial) -> int:
        return len(trial.folds) + sum(number == trial.number for number, _ in self.running)

    def _left(self, trial: Trial) -> list[int]:
        return [fold for fold in self.folds if fold not in trial.folds and (trial.number, fold) not in self.running]

    def _behind(self, trial: Trial) -> str:
        """Why a configuration cannot catch the leader; "" where it may."""
        ready = [each for each in self.trials.values() if each.folds.keys() >= trial.folds.keys() and not each.out]
        leader = better(ready)[0]
        if leader is trial:
            return ""
        (first, way), *others = ((name, way) for name, way in self.objectives.items() if name != TIME)
        ahead = oriented(difference(leader, trial, first), way)
        if ahead.z <= (FIRST_FOLD if ahead.folds == 1 else Z):
            return ""
        if any(oriented(difference(leader, trial, name), way).z < -Z_OTHER for name, way in others):
            return ""
        folds = "1 fold" if ahead.folds == 1 else f"{ahead.folds} folds"
        return (
            f"{first} {trial.mean(first):.3f} is behind trial {leader.number} by {ahead.value:.3f} ± {ahead.error:.3f} "
            f"on {folds}"
        )

    def _cannot_reach(self, found: FoldScores, leader: Trial, fold: int) -> str:
        first, way = next(iter(self.objectives.items()))
        sign, at = (1 if way == "max" else -1), found.epochs - 1
        gains = self._gains(first, sign, at)
        if len(gains) < GAINS:
            return ""
        there, own = leader.folds[fold], found.scores[at][first]
        goal = leader.value(first, fold)
        mine, theirs = found.influence[first][at], there.influence[first][leader.epoch - 1]
        reach = sign * own + max(0.0, *gains) + FIRST_FOLD * float(np.sqrt(variance_of(mine, theirs)))
        if reach >= sign * goal:
            return ""
        return (
            f"{first} {own:.3f} after epoch {at + 1} of fold {fold} could not reach trial {leader.number}'s "
            f"{goal:.3f}: none gained more than {max(0.0, *gains):.3f} from there"
        )

    def _gains(self, measure: str, sign: int, at: int) -> list[float]:
        """By how much each fold that was trained to its end got better after this epoch."""
        done = [fold for trial in self.trials.values() for fold in trial.folds.values() if fold.epochs > at + 1]
        return [
            max(sign * each[measure] for each in fold.scores[at + 1 :]) - sign * fold.scores[at][measure]
            for fold in done
        ]
