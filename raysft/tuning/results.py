"""What is known of configurations: their scores on the folds that are done, with errors, and how two of them compare.

All configurations meet the same folds, so that they are compared row by row. E epochs, u units of a fold: a row, or
the rows that belong together (data.group).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ENOUGH_FOLDS = 3


@dataclass(frozen=True)
class FoldScores:
    """One configuration on one fold."""

    scores: list[dict[str, float]]  # after each epoch
    influence: dict[str, Array]  # of each unit on a measure after each epoch, (E, u), by measure
    seconds: float = 0.0  # from its beginning to its end
    train_loss: list[float] = field(default_factory=list)
    parameters: int = 0
    flops: float = 0.0  # of training

    @property
    def epochs(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Difference:
    """A measure of one configuration minus that of another, on the same folds, and its standard error."""

    value: float
    error: float
    folds: int
    gaps: tuple[float, ...] = ()  # of each fold
    freedom: float = math.inf  # degrees of it, where the error is that of a few folds alone

    @property
    def z(self) -> float:
        """In standard errors; infinite where every row says the same."""
        if self.error > 0:
            return self.value / self.error
        return math.copysign(math.inf, self.value) if self.value else 0.0

    @property
    def p(self) -> float:
        """Two-sided, by Student's distribution: how often chance alone gives so large a difference."""
        from scipy.special import stdtr

        return float(2 * stdtr(self.freedom, -abs(self.z)))

    def interval(self) -> tuple[float, float]:
        """95%."""
        from scipy.special import stdtrit

        width = float(stdtrit(self.freedom, 0.975))
        return self.value - width * self.error, self.value + width * self.error


@dataclass
class Trial:
    """One configuration, by its number, and what it has scored so far."""

    number: int
    settings: dict[str, Any]
    objectives: dict[str, str]
    folds: dict[int, FoldScores] = field(default_factory=dict)
    stopped: str = ""  # why it is out of the race
    behind: int | None = None  # the configuration that it could not catch
    failed: str = ""  # why it could not be trained

    def add(self, fold: int, scores: FoldScores) -> None:
        """In the order of their numbers, whichever was done first: sums in another order differ in their last bits."""
        self.folds = dict(sorted({**self.folds, fold: scores}.items()))
        self.__dict__.pop("epoch", None)

    def on(self, folds: Collection[int]) -> Trial:
        """What would be known of it with these folds alone."""
        return replace(self, folds={fold: self.folds[fold] for fold in sorted(folds)})

    @property
    def primary(self) -> str:
        return next(iter(self.objectives))

    @property
    def out(self) -> bool:
        return bool(self.stopped or self.failed)

    @cached_property
    def epoch(self) -> int:
        """The epoch that counts, from 1, one for all folds: the last, at which the rates have fallen, unless another is
        better in the mean by the first objective by more than a standard error of the difference. The best of all would
        flatter, and the best of each fold more."""
        last = min(each.epochs for each in self.folds.values())
        means = [self._mean(self.primary, at) for at in range(last)]
        sign = 1 if self.objectives[self.primary] == "max" else -1
        best = 1 + max(range(last), key=lambda at: (sign * means[at], at))
        gain = between_epochs(self, self.primary, best, last)
        return best if sign * gain.value > gain.error else last

    def value(self, measure: str, fold: int) -> float:
        """Of one fold, at the common epoch."""
        return self.folds[fold].scores[self.epoch - 1][measure]

    def moved(self, measure: str, fold: int) -> Array:
        """The influence of each unit on the measure of one fold, at the common epoch, (u,)."""
        return np.asarray(self.folds[fold].influence[measure][self.epoch - 1])

    def mean(self, measure: str, folds: Collection[int] | None = None) -> float:
        """Over the folds that are done, or some of these, at the common epoch."""
        return self._mean(measure, self.epoch - 1, folds)

    def error(self, measure: str) -> float:
        """Standard error of the mean: what the folds differ by, over the root of their number; of a single fold that of
        its rows."""
        values = [self.value(measure, fold) for fold in self.folds]
        if len(values) > 1:
            return float(np.std(values, ddof=1) / math.sqrt(len(values)))
        (fold,) = self.folds
        known = measure in self.folds[fold].influence
        return math.sqrt(float((self.moved(measure, fold) ** 2).sum())) if known else 0.0

    def curve(self, measure: str) -> list[float]:
        """Means over the folds, epoch after epoch."""
        return [self._mean(measure, at) for at in range(min(each.epochs for each in self.folds.values()))]

    @property
    def cost(self) -> tuple[int, float]:
        """(parameters, operations of training a fold): what it costs to predict and to train, whatever the machine."""
        folds = list(self.folds.values())
        return folds[0].parameters, float(np.mean([each.flops for each in folds]))

    @property
    def seconds(self) -> float:
        """Of training and evaluation, a fold."""
        return float(np.mean([each.seconds for each in self.folds.values()]))

    def _mean(self, measure: str, at: int, folds: Collection[int] | None = None) -> float:
        among = self.folds if folds is None else folds
        return float(np.mean([self.folds[fold].scores[at].get(measure, 0.0) for fold in among]))


def difference(first: Trial, second: Trial, measure: str) -> Difference:
    """`first` minus `second` on the folds that both have done, each at its own common epoch.

    The error is that of the rows (metrics/influence.py): two models that differ by chance alone differ on rows in
    either direction, so that what seeds do is in it as far as it goes either way row by row.
    """
    folds = sorted(first.folds.keys() & second.folds.keys())
    assert folds, f"trials {first.number} and {second.number} have no fold in common"
    gaps = [first.value(measure, fold) - second.value(measure, fold) for fold in folds]
    variances = [variance_of(first.moved(measure, fold), second.moved(measure, fold)) for fold in folds]
    return Difference(float(np.mean(gaps)), math.sqrt(sum(variances)) / len(folds), len(folds), tuple(gaps))


def worth(trial: Trial, rival: Trial | None, measure: str) -> float:
    """What a configuration would have on all folds of a rival that has done more of them: what the rival has there,
    less how far it is ahead on the folds of both. A mean over its own folds alone would also tell how hard these are.
    """
    common = [] if rival is None else [fold for fold in trial.folds if fold in rival.folds]
    if rival is None or not common:
        return trial.mean(measure)
    gaps = [rival.value(measure, fold) - trial.value(measure, fold) for fold in common]
    return rival.mean(measure) - float(np.mean(gaps))


def with_most_in_common(trials: Sequence[Trial]) -> list[Trial]:
    """Of configurations with some folds each, those that share the largest set of folds with at least one other, as if
    they had no other folds; the one with the most folds where none shares any."""
    sets = [frozenset(a.folds) & frozenset(b.folds) for a, b in itertools.combinations(trials, 2)]
    shared = {each for each in sets if each}
    if not shared:
        return sorted(trials, key=lambda trial: -len(trial.folds))[:1]

    def having(folds: frozenset[int]) -> list[Trial]:
        return [trial for trial in trials if trial.folds.keys() >= folds]

    most = max(shared, key=lambda folds: (len(folds), len(having(folds)), [-fold for fold in sorted(folds)]))
    return [trial.on(most) for trial in having(most)]


def between_epochs(trial: Trial, measure: str, first: int, second: int) -> Difference:
    """A measure after one epoch minus that after another, counted from 1, over the folds, row by row."""
    gaps, variances = [], []
    for fold in trial.folds.values():
        gaps.append(fold.scores[first - 1][measure] - fold.scores[second - 1][measure])
        influence = fold.influence.get(measure)
        if influence is not None and first != second:
            variances.append(variance_of(influence[first - 1], influence[second - 1]))
    return Difference(float(np.mean(gaps)), math.sqrt(sum(variances)) / len(gaps), len(gaps))


def cautious(found: Difference) -> Difference | None:
    """The less certain of two views, that of the rows and that of the folds: what folds differ by also has in it what
    another training set does to a configuration, where there are folds enough to tell. Where a fold is a single unit
    its rows have no error, and the folds stand alone, of which few tell little; None: neither is known.

    Training sets of k folds share most of their rows, so that the variance of the mean is not that of k independent
    ones, 1/k, but 1/k + 1/(k - 1) (Nadeau, Bengio 2003, Machine Learning 52:239, section 5.1).
    """
    views = [found] if math.isfinite(found.error) else []
    count = len(found.gaps)
    if count >= (ENOUGH_FOLDS if views else 2):
        of_folds = float(np.std(found.gaps, ddof=1)) * math.sqrt(1 / count + 1 / (count - 1))
        if of_folds:
            views.append(replace(found, error=of_folds, freedom=count - 1))
    return max(views, key=lambda view: view.interval()[1], default=None)


def variance_of(first: Array, second: Array) -> float:
    """Of the difference of two measures on the same units, from the influences of these; infinite of a single unit,
    which does not tell how units differ."""
    count = len(first)
    return float(((first - second) ** 2).sum()) * count / (count - 1) if count > 1 else math.inf


def oriented(found: Difference, direction: str) -> Difference:
    """The difference as how much better the first one is."""
    return found if direction == "max" else replace(found, value=-found.value, gaps=tuple(-gap for gap in found.gaps))


def better(trials: list[Trial], folds: Collection[int] | None = None) -> list[Trial]:
    """From the best down by the first objective, the other ones deciding between equals; by these folds, or each by
    its own."""

    def key(trial: Trial) -> tuple[float, ...]:
        return tuple((-1 if way == "max" else 1) * trial.mean(name, folds) for name, way in trial.objectives.items())

    return sorted(trials, key=lambda trial: (*key(trial), trial.number))
