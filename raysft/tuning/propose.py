"""Which configuration to try next."""

from __future__ import annotations

import hashlib
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raysft.config.tuning import TuneSection
from raysft.tuning.checks import MOST_OF_A_GRID
from raysft.tuning.parameter import Settings, canonical
from raysft.tuning.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import Trial

TRIALS = 20
SMALL_GRID = 64
ATTEMPTS = 100  # at something that was not proposed before
RANDOM_FIRST = 10  # most configurations by chance before tpe begins to learn; half of few trials
POPULATION = 50  # most of a generation of nsga2; a quarter of the trials where there are few


def algorithm_of(space: Space, tune: TuneSection) -> str:
    """tpe, nsga2, random or grid: what auto stands for."""
    if tune.algorithm != "auto":
        return tune.algorithm
    lists = all(each.choices is not None for each in space.parameters)
    small = lists and tune.trials is None and space.grid_up_to(SMALL_GRID) is not None
    return "grid" if small else "tpe"


def trials_of(space: Space, tune: TuneSection) -> int:
    """How many configurations are tried at most; fewer where the space has no more."""
    combinations = space.grid_up_to(MOST_OF_A_GRID)
    wanted = tune.trials or TRIALS
    if combinations is None:
        return wanted
    if tune.trials is None and algorithm_of(space, tune) == "grid":
        return len(combinations)
    return min(wanted, len(combinations))


class Proposals:
    """Configurations, each proposed once: the starting points, then what the algorithm makes of the values told.

    A proposal depends on the seed and on what was proposed and told before it, not on whether the search was
    interrupted in between (of nsga2 the order of the parents does).
    """

    def __init__(
        self,
        space: Space,
        tune: TuneSection,
        objectives: Mapping[str, str],
        known: Sequence[tuple[Settings, Mapping[str, float] | None]] = (),
    ) -> None:
        """objectives: measure -> "max" or "min". known: what an interrupted search had proposed, in that order, with
        its values; None: there are none yet. Of these the values, or that it failed, may still be told."""
        self._space, self._tune, self._measures = space, tune, tuple(objectives)
        self._algorithm, self._most = algorithm_of(space, tune), trials_of(space, tune)
        self._proposed: dict[str, Settings] = {}
        self._trials: dict[str, Trial] = {}  # of those that have no values yet
        combinations = space.grid_up_to(MOST_OF_A_GRID)  # None: more, or without number
        ordered = None if combinations is None else space.nearest_first(combinations)
        self._all = None if ordered is None else {canonical(each): each for each in ordered}
        own = space.own()
        self._starts = [*space.starts(), *([] if own is None else [own])]
        self._study = None if self._algorithm == "grid" else _new_study(objectives)
        for settings, values in known:
            if canonical(settings) not in self._proposed:
                self._propose_again(settings)
            if values is not None:
                self.tell(settings, values)

    @property
    def all_made(self) -> bool:
        """Whether as many as were asked for, or as there are, were proposed."""
        return len(self._proposed) >= self._most

    def next(self) -> Settings | None:
        """What to try next; None: as many as asked for were proposed, or there are no others."""
        if self.all_made:
            return None
        for start in self._starts:
            if not any(_agrees(start, settings) for settings in self._proposed.values()):
                return self._of_grid(start) if self._study is None else self._started(self._study, start)
        return self._of_grid({}) if self._study is None else self._asked(self._study)

    def tell(self, settings: Settings, values: Mapping[str, float] | None) -> None:
        """The values of a configuration that was proposed; None: it failed, as do values that are no numbers.

        Only the first counts. Raises KeyError for one that was never proposed.
        """
        name = canonical(settings)
        if name not in self._proposed:
            raise KeyError(f"never proposed: {name}")
        trial = self._trials.pop(name, None)
        if trial is None or self._study is None:
            return
        numbers = [] if values is None else [float(values[measure]) for measure in self._measures]
        if numbers and all(map(math.isfinite, numbers)):
            self._study.tell(trial, numbers)
            return
        from optuna.trial import TrialState

        # Not as FAIL, which the algorithms forget: pruned without a value, it is worse to tpe than all that have one.
        self._study.tell(trial, state=TrialState.PRUNED)

    def _propose_again(self, settings: Settings) -> None:
        """Count what was proposed before; where the space still has it, the algorithm knows of it too."""
        if self._study is not None and self._space.contains(settings):
            self._note(*self._enqueued(self._study, settings))
        else:
            self._proposed[canonical(settings)] = settings

    def _started(self, study: Study, start: Settings) -> Settings:
        """A starting point, with what it leaves out as the algorithm proposes. It agrees with nothing proposed."""
        return self._note(*self._enqueued(study, start))

    def _of_grid(self, start: Settings) -> Settings | None:
        """The first combination that agrees with `start` and was not proposed; of fewer trials than combinations,
        one by chance."""
        left = [each for each in self._left() or [] if _agrees(start, each)]
        if not left:
            return None
        if self._all is not None and self._most < len(self._all):
            found = random.Random(self._seed(0)).choice(left)  # noqa: S311
        else:
            found = left[0]
        self._proposed[canonical(found)] = found
        return found

    def _asked(self, study: Study) -> Settings | None:
        """What the algorithm proposes, or, where it repeats itself, something by chance; None: there is no other."""
        left = self._left()
        if left == []:
            return None
        for attempt in range(ATTEMPTS):
            found = self._new(study, self._sampler(attempt))
            if found is not None:
                return found
        if left is not None:
            return self._note(*self._enqueued(study, random.Random(self._seed(0)).choice(left)))  # noqa: S311
        for attempt in range(ATTEMPTS, 2 * ATTEMPTS):
            found = self._new(study, self._random(attempt))
            if found is not None:
                return found
        return None

    def _new(self, study: Study, sampler: BaseSampler) -> Settings | None:
        """What a sampler proposes; None where that was proposed before."""
        settings, trial = self._ask(study, sampler)
        if canonical(settings) not in self._proposed:
            return self._note(settings, trial)
        from optuna.trial import TrialState

        # Not with the values that it had, or a search that goes on, and repeats nothing, would go on otherwise.
        study.tell(trial, state=TrialState.FAIL)
        return None

    def _enqueued(self, study: Study, settings: Settings) -> tuple[Settings, Trial]:
        """A trial with these settings, completed by the algorithm."""
        with _quietly():
            study.enqueue_trial(self._space.stored(settings))
        return self._ask(study, self._sampler(0))

    def _ask(self, study: Study, sampler: BaseSampler) -> tuple[Settings, Trial]:
        import optuna

        with _quietly():
            study.sampler = sampler
            trial = study.ask()
            if isinstance(sampler, optuna.samplers.NSGAIISampler):
                # An enqueued trial whose values are all given would belong to no generation, and be nobody's parent.
                sampler.get_trial_generation(study, study.get_trials(deepcopy=False)[trial.number])
            return self._space.suggest(trial), trial

    def _note(self, settings: Settings, trial: Trial) -> Settings:
        self._proposed[canonical(settings)] = settings
        self._trials[canonical(settings)] = trial
        return settings

    def _left(self) -> list[Settings] | None:
        """All combinations that were not proposed; None where they cannot be counted."""
        if self._all is None:
            return None
        return [each for name, each in self._all.items() if name not in self._proposed]

    def _sampler(self, attempt: int) -> BaseSampler:
        """The algorithm with a seed of its own for this proposal, so that a search goes on as if never interrupted."""
        import optuna

        seed = self._seed(attempt)
        with _quietly():
            if self._algorithm == "tpe":
                # Several objectives: by one key at a time, as optuna has it, for which conditions are no matter. One
                # objective: keys together, those under the same conditions in one group.
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=max(1, min(self._most // 2, RANDOM_FIRST)),
                    group=self._space.conditional and len(self._measures) == 1,
                    constant_liar=True,  # running trials count as bad ones, so that several differ
                )
            if self._algorithm == "nsga2":
                population = max(4, min(self._most // 4, POPULATION))
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
        return self._random(attempt)

    def _random(self, attempt: int) -> BaseSampler:
        import optuna

        return optuna.samplers.RandomSampler(seed=self._seed(attempt))

    def _seed(self, attempt: int) -> int:
        text = f"{self._tune.seed}:{len(self._proposed)}:{attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _new_study(objectives: Mapping[str, str]) -> Study:
    """A study in memory, which says nothing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ways = {"max": optuna.study.StudyDirection.MAXIMIZE, "min": optuna.study.StudyDirection.MINIMIZE}
    return optuna.create_study(directions=[ways[direction] for direction in objectives.values()])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without optuna's warnings of what is experimental."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="raysft|optuna")
        warnings.filterwarnings("ignore", message=".*experimental.*")
        yield


def _agrees(start: Settings, settings: Settings) -> bool:
    """Whether a configuration has all values of a starting point."""
    return all(key in settings and canonical(settings[key]) == canonical(value) for key, value in start.items())
