"""All configurations that a search may try, and the job that each of them is."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from raysft.config import Job, JobConfig
from raysft.config.problems import problems_of
from raysft.config.tuning import TuneSection
from raysft.errors import JobFileError
from raysft.tuning.checks import problems_in
from raysft.tuning.names import short_names
from raysft.tuning.parameter import Parameter, Settings, canonical
from raysft.tuning.search import changes_data, read_search

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["Settings", "Space", "canonical"]


@dataclass(frozen=True)
class Space:
    """The parameters of a search, each behind those that its condition names, and the job that they change."""

    job: Job
    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, job: Job) -> Space:
        """The space that a job file describes; of one configuration, {}, where it searches nothing.

        Raises JobFileError with all that is wrong in its `tune` section.
        """
        parameters, problems = read_search(job)
        space = cls(job, parameters)
        problems += problems_in(space)
        if problems:
            raise JobFileError(problems)
        return space

    @property
    def tune(self) -> TuneSection:
        """The section, or the defaults where there is none."""
        return self.job.config.tune or TuneSection()

    @property
    def finite(self) -> bool:
        """Whether the configurations can be counted."""
        return all(each.finite for each in self.parameters)

    @property
    def conditional(self) -> bool:
        """Whether some keys matter only under some values of others."""
        return any(each.when for each in self.parameters)

    def applied(self, settings: Settings) -> Job:
        """The job with these settings, and without its `tune` section. Raises JobFileError.

        They are put among the values as written, since defaults depend on the task. Problems with a setting point at
        its entry in the search.
        """
        values = copy.deepcopy({name: value for name, value in self.job.values.items() if name != "tune"})
        lines = dict(self.job.lines)
        by_key = {each.key: each for each in self.parameters}
        for key in sorted(settings, key=lambda each: each.count(".")):  # a section before the keys within it
            parts = tuple(key.split("."))
            _put(values, parts, copy.deepcopy(settings[key]))
            place = by_key[key].place(settings[key]) if key in by_key else ()
            lines = {each: where for each, where in lines.items() if each[: len(parts)] != parts}
            lines[parts] = self.job.where("tune", "search", key, *place)
        try:
            config = JobConfig.model_validate(values)
        except ValidationError as error:
            raise JobFileError(list(problems_of(error, values, lines, self.job.path))) from None
        return replace(self.job, config=config, lines=lines, values=values)

    def grid_up_to(self, most: int) -> list[Settings] | None:
        """Every combination, without keys whose condition does not hold; the first key changes slowest. None where
        there are more than `most`, or too many to count."""
        if not self.finite:
            return None
        found = list(itertools.islice(_combinations(self.parameters), most + 1))
        return found if len(found) <= most else None

    def preparations(self) -> list[Settings]:
        """The distinct combinations of the keys that change the prepared data; [{}] where none is searched."""
        return list(self.preparing())

    def preparing(self) -> Iterator[Settings]:
        """As `preparations`, one by one: there may be more than anyone wants."""
        seen: set[str] = set()
        for settings in _combinations(self._named_by({each.key for each in self.parameters if changes_data(each.key)})):
            found = {key: value for key, value in settings.items() if changes_data(key)}
            if canonical(found) not in seen:
                seen.add(canonical(found))
                yield found

    def under_which(self, parameter: Parameter, data: Settings | None = None) -> Settings | None:
        """First values of the keys that its condition names, and theirs, under which it matters; None: never.

        data: one of `preparations`; then such that this is what is prepared for them.
        """
        named = [each for each in self._named_by({parameter.key}) if each.key != parameter.key]
        return next(
            (found for found in _combinations(named) if parameter.matters(found) and _agrees(found, data)), None
        )

    def _named_by(self, keys: set[str]) -> list[Parameter]:
        """The parameters of these keys and all that their conditions name, directly or not. The latter are lists."""
        needed = set(keys)
        for each in reversed(self.parameters):  # those named in a condition stand before it
            needed |= each.when.keys() if each.key in needed else set()
        return [each for each in self.parameters if each.key in needed]

    def suggest(self, trial: Trial) -> Settings:
        """The settings that an optuna trial stands for, of the keys whose condition holds."""
        settings: Settings = {}
        for each in self.parameters:
            if each.matters(settings):
                settings[each.key] = each.suggest(trial)
        return settings

    def stored(self, settings: Settings) -> dict[str, Any]:
        """Settings as optuna stores them: `suggest` gives them back from a trial that was enqueued with these."""
        return {each.key: each.stored(settings[each.key]) for each in self.parameters if each.key in settings}

    def starts(self) -> list[Settings]:
        """The starting points, which may leave keys out."""
        by_key = {each.key: each for each in self.parameters}
        return [{key: by_key[key].read(value) for key, value in start.items()} for start in self.tune.start]

    def contains(self, settings: Settings) -> bool:
        """Whether these are values of exactly the keys that matter."""
        mattering = {each.key: each for each in self.parameters if each.matters(settings)}
        return settings.keys() == mattering.keys() and all(mattering[key].contains(settings[key]) for key in settings)

    def own(self) -> Settings | None:
        """The settings that the job has without a search; None where the space does not hold them."""
        found: Settings = {}
        for each in self.parameters:
            if each.matters(found):
                found[each.key] = self._own(each, found)
        return found if self.contains(found) else None

    def _own(self, parameter: Parameter, context: Settings) -> Any:
        """The value that the job has without a search, as the search writes it where it has it: 10% and 0.1 are the
        same. context: of the keys that its condition names."""
        parts = parameter.key.split(".")
        own = _get(self.job.config.model_dump(mode="json"), parts)
        if parameter.choices is None or parameter.contains(own):
            return own
        for choice in parameter.choices:
            try:
                config = self.applied({**context, parameter.key: choice}).config
            except JobFileError:  # such as a value that needs another one beside it
                continue
            if canonical(_get(config.model_dump(mode="json"), parts)) == canonical(own):
                return choice
        return own

    def nearest_first(self, found: Sequence[Settings]) -> list[Settings]:
        """From those most like the job's own settings on: what the person, or the defaults, took to be good is the
        soonest to show which others cannot win."""
        own = {each.key: self._own(each, {}) for each in self.parameters}
        by_key = {each.key: each for each in self.parameters}
        return sorted(found, key=lambda each: sum(by_key[key].far(value, own[key]) for key, value in each.items()))

    def names(self) -> dict[str, str]:
        """Key -> the shortest of its endings that no other key has, for tables: learning_rate, lora.dropout."""
        return short_names([each.key for each in self.parameters])


def _combinations(parameters: Sequence[Parameter], begun: Settings | None = None) -> Iterator[Settings]:
    """Every combination of values. begun: the values of the parameters that stood before these."""
    begun = begun or {}
    if not parameters:
        yield begun
        return
    first, rest = parameters[0], parameters[1:]
    if not first.matters(begun):
        yield from _combinations(rest, begun)
        return
    for value in first.values():
        yield from _combinations(rest, {**begun, first.key: value})


def _put(values: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    """Put a value at its place; sections that are not there, or are null, begin empty."""
    for part in parts[:-1]:
        if not isinstance(values.get(part), dict):
            values[part] = {}
        values = values[part]
    values[parts[-1]] = value


def _get(values: Any, parts: Sequence[str]) -> Any:
    """What stands at a place; None where there is no such section."""
    for part in parts:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _agrees(found: Settings, data: Settings | None) -> bool:
    """Whether this is what is prepared for these values."""
    if data is None:
        return True
    return all(key in data and canonical(data[key]) == canonical(found[key]) for key in found if changes_data(key))
