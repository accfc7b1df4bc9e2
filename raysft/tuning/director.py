"""Who says what is trained next: proposals, the race, what is on storage and the budget, in one place.

Pure but for the lines that it writes; raysft/tuning/engine.py asks it, and tells it what came of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from raysft.config.tuning import TuneSection
from raysft.tuning.parameter import Settings
from raysft.tuning.propose import Proposals, algorithm_of
from raysft.tuning.race import Race
from raysft.tuning.record import Record, Units, scores_of
from raysft.tuning.results import FoldScores, Trial, with_most_in_common, worth
from raysft.tuning.work import FoldId, Work

Array = np.ndarray[Any, Any]
NEARLY = 0.7  # of the epochs of a fold, from which it ends though the budget is spent
NOTED_S = 60.0  # after which the time of folds that are not done is on storage too
LEARNS = ("tpe", "nsga2")  # their proposals depend on what was found


@dataclass(frozen=True)
class FoldJob:
    """One configuration to be trained on all folds but one."""

    trial: int
    settings: Settings = field(hash=False)
    fold: FoldId
    deadline: float | None = field(default=None, compare=False)  # when to leave off, in seconds since 1970


class Orders(Protocol):
    """What the engine asks, and whom it tells."""

    @property
    def running(self) -> int:
        """Folds that are being trained."""

    def nothing_left(self) -> bool:
        """Whether nothing is being trained, and nothing will be: a search proposes, and writes down, what it needs to
        know that."""

    def next(self) -> FoldJob | None:
        """What to train now; None: nothing, for now or for good."""

    def epoch(
        self, job: FoldJob, epoch: int, scores: dict[str, float], row_id: Array, influence: dict[str, Array]
    ) -> bool:
        """Take in what the evaluation after this epoch of a fold, from 1, found; whether training is to stop there."""

    def done(self, job: FoldJob) -> None:
        """A fold was trained to its end; its record is on storage."""

    def left(self, job: FoldJob) -> None:
        """Those who train a fold left off at its deadline."""

    def failed(self, job: FoldJob, why: str) -> None:
        """A fold could not be trained."""

    def stop(self, why: str) -> None:
        """Train nothing more: what is being trained ends with its epoch."""

    def is_over(self) -> bool:
        """Whether nothing more is to be trained, such as where the budget is spent."""

    def say(self, news: str) -> None:
        """Tell people."""


@dataclass
class Errand:
    """A list of folds to train, none of which is left out."""

    jobs: list[FoldJob]
    told: Callable[[str], None] = lambda _: None
    failures: dict[FoldJob, str] = field(default_factory=dict)
    running: int = 0

    def nothing_left(self) -> bool:
        return not self.running and not self.jobs

    def next(self) -> FoldJob | None:
        if not self.jobs:
            return None
        self.running += 1
        return self.jobs.pop(0)

    def epoch(
        self, job: FoldJob, epoch: int, scores: dict[str, float], row_id: Array, influence: dict[str, Array]
    ) -> bool:
        return False

    def done(self, job: FoldJob) -> None:
        self.running -= 1
        self.told(f"fold {job.fold} done")

    def left(self, job: FoldJob) -> None:
        raise AssertionError(f"fold {job.fold} has no deadline")

    def failed(self, job: FoldJob, why: str) -> None:
        self.running -= 1
        self.failures[job] = why

    def stop(self, why: str) -> None:
        self.jobs.clear()

    def is_over(self) -> bool:
        return False

    def say(self, news: str) -> None:
        self.told(news)


@dataclass
class Together:
    """Several searches at a time, each without another fold; none waits for another."""

    searches: dict[int, Director]  # by the fold that takes no part

    @property
    def running(self) -> int:
        return sum(each.running for each in self.searches.values())

    def nothing_left(self) -> bool:
        return all(each.nothing_left() for each in self.searches.values())

    def next(self) -> FoldJob | None:
        """Of the search with the fewest folds behind it."""
        for each in sorted(self.searches.values(), key=lambda search: search.begun):
            if (job := each.next()) is not None:
                return job
        return None

    def epoch(
        self, job: FoldJob, epoch: int, scores: dict[str, float], row_id: Array, influence: dict[str, Array]
    ) -> bool:
        return self._of(job).epoch(job, epoch, scores, row_id, influence)

    def done(self, job: FoldJob) -> None:
        self._of(job).done(job)

    def left(self, job: FoldJob) -> None:
        self._of(job).left(job)

    def failed(self, job: FoldJob, why: str) -> None:
        self._of(job).failed(job, why)

    def stop(self, why: str) -> None:
        for each in self.searches.values():
            each.stop(why)

    def is_over(self) -> bool:
        return all(each.is_over() for each in self.searches.values())

    def say(self, news: str) -> None:
        next(iter(self.searches.values())).say(news)

    def _of(self, job: FoldJob) -> Director:
        assert job.fold.without is not None
        return self.searches[job.fold.without]


@dataclass
class Director:
    """One search over some folds. told: called whenever something has changed, with a line for people or ""."""

    work: Work
    race: Race
    proposals: Proposals
    record: Record
    units: Units
    slots: int
    tune: TuneSection
    spent: float = 0.0  # seconds before this process
    told: Callable[[str], None] = lambda _: None
    ended: str = ""  # why nothing more is trained
    _began: float = field(default_factory=time.monotonic)
    _noted: float = 0.0  # seconds that the record knows of
    _partial: dict[tuple[int, int], list[dict[str, float]]] = field(default_factory=dict)

    @staticmethod
    def of(
        work: Work,
        folds: Sequence[int],
        objectives: dict[str, str],
        epochs: int,
        units: Units,
        slots: int,
        without: int | None = None,
    ) -> Director:
        """A search as it was left, or at its beginning."""
        record = Record(work.folder, without)
        known, spent = record.load()
        tune, stop_at = work.space.tune, work.space.job.config.train.stop_at
        race = Race(folds, objectives, epochs, racing=False, early=tune.early, ties=tune.ties, stop_at=stop_at)
        for number, each in known.items():
            trial = Trial(number, each.settings, objectives, stopped=each.stopped, behind=each.behind)
            race.add(trial)
            for fold in folds:
                scores = scores_of(work.folder, number, FoldId(fold, without), units)
                if scores is not None:
                    race.finish(number, fold, scores)
        race.racing = tune.racing
        proposals = Proposals(work.space, tune, objectives, [(each.settings, each.values) for each in known.values()])
        director = Director(work, race, proposals, record, units, slots, tune, spent)
        director._catch_up(closed={number for number, each in known.items() if each.values is not None})
        return director

    @property
    def seconds(self) -> float:
        """Spent on this search so far, by all processes that went on with it."""
        return self.spent + time.monotonic() - self._began

    def next(self) -> FoldJob | None:
        self._check_budget()
        if self.ended:
            return None
        self._propose()
        found = self.race.next()
        if found is None:
            return None
        number, fold = found
        self.race.start(number, fold)
        settings, left = self.race.trials[number].settings, self._budget()[0] - self.seconds
        deadline = time.time() + left if math.isfinite(left) else None
        return FoldJob(number, settings, FoldId(fold, self.record.without), deadline)

    @property
    def running(self) -> int:
        return len(self.race.running)

    @property
    def begun(self) -> int:
        """Folds that were trained or are being trained."""
        return self.running + sum(len(trial.folds) for trial in self.race.trials.values())

    @property
    def status(self) -> str:
        """Once nothing is being trained: done, or why some of what there was to train was not."""
        through = self.race.next() is None and self.proposals.all_made
        return "done" if through or not self.ended else self.ended

    def nothing_left(self) -> bool:
        return not self.race.running and (bool(self.ended) or (self.race.next() is None and not self._propose()))

    def epoch(
        self, job: FoldJob, epoch: int, scores: dict[str, float], row_id: Array, influence: dict[str, Array]
    ) -> bool:
        place = (job.trial, job.fold.fold)
        scored = self._partial.setdefault(place, [])
        scored[epoch - 1 :] = [scores]  # a fold whose process died is begun anew
        own = {name: self.units.sums(row_id, values)[None] for name, values in influence.items()}
        # Only the last epoch's influences are known here, and only they are asked for.
        found = FoldScores(scored, {name: np.repeat(values, len(scored), axis=0) for name, values in own.items()})
        trial = self.race.trials[job.trial]
        was_out = trial.out
        why = self.race.hopeless(job.trial, job.fold.fold, found)
        self._check_budget()
        if self.seconds - self._noted > NOTED_S:
            self._note_spent()
        # What is nearly done is worth more than the rest of its time.
        stops = bool(why) or (bool(self.ended) and epoch < NEARLY * self.race.epochs_of(trial))
        if stops:
            self.race.leave(*place)
            if why and not was_out:
                self._close(trial, None if trial.folds else self._begun_worth(trial, job.fold.fold, scored))
        self.told("")
        return stops

    def done(self, job: FoldJob) -> None:
        self._partial.pop((job.trial, job.fold.fold), None)
        scores = scores_of(self.work.folder, job.trial, job.fold, self.units)
        if scores is None:
            self.failed(job, f"its record is not in {self.work.folder.path}: all nodes must share the output folder")
            return
        trial = self.race.trials[job.trial]
        stopped = self.race.finish(job.trial, job.fold.fold, scores)
        self._note_spent()
        if len(trial.folds) == len(self.race.folds):
            self._close(trial)
        for other in stopped:
            self._close(other)
        self.told(f"trial {trial.number}: fold {job.fold.fold} done, {describe(trial)}")

    def left(self, job: FoldJob) -> None:
        """The budget is spent, by the clock of those who trained."""
        self.race.leave(job.trial, job.fold.fold)
        self.stop(self._budget()[1])
        self.told("")

    def failed(self, job: FoldJob, why: str) -> None:
        """The configuration is out, unless it was before; the sweep goes on."""
        self.race.leave(job.trial, job.fold.fold)
        trial = self.race.trials[job.trial]
        if not trial.out:
            again = self.race.fail(trial.number, why)
            self.proposals.tell(trial.settings, None)
            self.record.failed(trial.number, why, self.seconds)
            self.told(f"trial {trial.number} failed: {why}")
            for other in again:
                self.record.again(other.number, self.seconds)
                self.told(f"trial {other.number} is in the race again: what it could not catch has failed")

    def candidates(self) -> list[Trial]:
        """The configurations among which may be chosen, all with the same folds: those with all of them done; where
        the search was ended before there was one, those still in the race that have most folds in common, as if they
        had no others."""
        done = self.race.finished
        if done or not self.ended:
            return done
        return with_most_in_common([trial for trial in self.race.trials.values() if trial.folds and not trial.out])

    def stop(self, why: str) -> None:
        self.ended = self.ended or why

    def is_over(self) -> bool:
        self._check_budget()
        return bool(self.ended)

    def say(self, news: str) -> None:
        self.told(news)

    def left_s(self) -> float | None:
        """Seconds until all folds of all configurations in the race are done, if none is stopped; None: not known."""
        took = [fold.seconds for trial in self.race.trials.values() for fold in trial.folds.values()]
        if not took:
            return None
        alive = [trial for trial in self.race.trials.values() if not trial.out]
        folds = sum(len(self.race.folds) - len(trial.folds) for trial in alive)
        return math.ceil(folds / self.slots) * float(np.mean(took))

    def _propose(self) -> bool:
        """Propose as many configurations as the race has room for; whether there was one."""
        learns, found = algorithm_of(self.work.space, self.tune) in LEARNS, False
        while True:
            alive = [trial for trial in self.race.trials.values() if not trial.out and not self._complete(trial)]
            if learns and len(alive) >= max(4, 2 * self.slots):
                return found
            settings = self.proposals.next()
            if settings is None:
                return found
            number = len(self.race.trials) + 1
            self.record.proposed(number, settings, self.seconds)
            self.race.add(Trial(number, settings, self.race.objectives))
            found = True

    def _catch_up(self, closed: set[int]) -> None:
        """What the last folds before an interruption ask for, where it came before their lines were written."""
        for trial in self.race.trials.values():
            if self._complete(trial) and trial.number not in closed:
                self._close(trial)
        for trial in self.race.stop_behind():
            self._close(trial)

    def _complete(self, trial: Trial) -> bool:
        return len(trial.folds) == len(self.race.folds)

    def _begun_worth(self, trial: Trial, fold: int, scored: Sequence[dict[str, float]]) -> dict[str, float]:
        """What a configuration without a fold is worth by the epochs of its first one: as far behind as the one that
        it could not reach was ahead there after as many epochs."""
        assert trial.behind is not None
        rival = self.race.trials[trial.behind]
        there = rival.folds[fold].scores
        then, now = there[min(len(scored), len(there)) - 1], scored[-1]
        return {name: rival.mean(name) - (then[name] - now[name]) for name in self.race.objectives}

    def _close(self, trial: Trial, values: dict[str, float] | None = None) -> None:
        """Tell the algorithm and the lines what a configuration that ended is worth. values: where it has no fold."""
        if values is None:
            rival = None if trial.behind is None else self.race.trials[trial.behind]
            values = {name: worth(trial, rival, name) for name in self.race.objectives}
        self.proposals.tell(trial.settings, values)
        self.record.ended(trial, values, self.seconds)
        if trial.stopped:
            self.told(f"trial {trial.number} stopped: {trial.stopped}")

    def _note_spent(self) -> None:
        self._noted = self.seconds
        self.record.spent(self._noted)

    def _check_budget(self) -> None:
        seconds, words = self._budget()
        if self.seconds >= seconds:
            self.stop(words)

    def _budget(self) -> tuple[float, str]:
        """That of the search; what tells how good it is has none."""
        return budget_of(self.tune) if self.record.without is None else (math.inf, "")


def budget_of(tune: TuneSection) -> tuple[float, str]:
    """(seconds that a search may take in all, what to say once they are over)."""
    limits = [(math.inf, "")]
    if tune.hours is not None:
        limits.append((3600 * tune.hours, f"{tune.hours:g} hours are over (tune.hours)"))
    if tune.cost is not None and tune.price is not None:
        limits.append((3600 * tune.cost / tune.price, f"{tune.cost:g} are spent (tune.cost)"))
    return min(limits, key=lambda limit: limit[0])


def describe(trial: Trial) -> str:
    """`f1_macro 0.712 ± 0.014, loss 1.210 ± 0.030 on 3 folds`."""
    count = len(trial.folds)
    scores = ", ".join(
        f"{name} {trial.mean(name):.3f}" + (f" ± {trial.error(name):.3f}" if count > 1 else "")
        for name in trial.objectives
    )
    return f"{scores} on {count} fold{'s' if count > 1 else ''}"
