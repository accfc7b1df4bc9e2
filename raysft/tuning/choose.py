"""Which configuration is taken, and why: the front of several objectives, one standard error, the runner-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysft.tuning.results import Difference, Trial, better, cautious, difference, oriented

AS_CHEAP = 1.05  # costs that differ by less are the same


@dataclass(frozen=True)
class Choice:
    """The configuration that is taken. Trials by their numbers."""

    trial: int
    best: int  # with the highest mean
    runner_up: int | None
    ahead: Difference | None  # how much better than the runner-up by the first objective; None: not known
    front: list[int]  # that no other is better than by every objective, the best by the first one first
    why: str


def choose(trials: Sequence[Trial], one_standard_error: bool) -> Choice:
    """Among at least one configuration, all with the same folds done."""
    ranked = better(list(trials))
    best = ranked[0]
    taken = cheapest_within_one_error(ranked) if one_standard_error else best
    others = [trial for trial in ranked if trial is not taken]
    runner_up = others[0] if others else None
    measure, way = best.primary, best.objectives[best.primary]
    ahead = None if runner_up is None else cautious(oriented(difference(taken, runner_up, measure), way))
    return Choice(
        trial=taken.number,
        best=best.number,
        runner_up=None if runner_up is None else runner_up.number,
        ahead=ahead,
        front=[trial.number for trial in front(ranked)],
        why=_why(taken, best),
    )


def cheapest_within_one_error(ranked: Sequence[Trial]) -> Trial:
    """Of the configurations whose mean is within one standard error of the best one's, those with the fewest
    parameters; of these the ones that train with the fewest operations; of these the best (Breiman et al. 1984,
    Classification and Regression Trees, section 3.4.3). ranked: from the best down."""
    best = ranked[0]
    measure, way = best.primary, best.objectives[best.primary]
    within = [each for each in ranked if oriented(difference(best, each, measure), way).value <= best.error(measure)]
    for axis in range(2):
        least = min(each.cost[axis] for each in within)
        within = [each for each in within if each.cost[axis] <= AS_CHEAP * least]
    return within[0]


def front(ranked: Sequence[Trial]) -> list[Trial]:
    """The configurations that no other is at least as good as by every objective and better by one."""
    return [each for each in ranked if not any(_dominates(other, each) for other in ranked)]


def _dominates(first: Trial, second: Trial) -> bool:
    gains = [(1 if way == "max" else -1) * (first.mean(m) - second.mean(m)) for m, way in first.objectives.items()]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def _why(taken: Trial, best: Trial) -> str:
    measure = best.primary
    if taken is best:
        way = "highest" if best.objectives[measure] == "max" else "lowest"
        return f"its mean {measure} of {best.mean(measure):.3f} ± {best.error(measure):.3f} is the {way}"
    smaller = taken.cost[0] < best.cost[0] / AS_CHEAP or taken.cost[1] >= best.cost[1]
    cheaper = "has fewer parameters" if smaller else "takes fewer operations to train"
    return (
        f"its mean {measure} of {taken.mean(measure):.3f} is within one standard error ({best.error(measure):.3f}) of "
        f"the best, {best.mean(measure):.3f} of trial {best.number}, and it {cheaper}"
    )
