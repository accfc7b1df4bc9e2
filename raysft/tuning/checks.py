"""What is wrong with a search beyond its form: found out by trying its values in the job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from raysft.errors import JobFileError, Problem
from raysft.tuning.objectives import objective_problems
from raysft.tuning.parameter import Parameter, Settings, shown
from raysft.tuning.search import problem_at

if TYPE_CHECKING:
    from raysft.tuning.space import Space

MOST_PREPARED = 256  # each reads and tokenizes the corpus before the search begins
MOST_OF_A_GRID = 10_000


def problems_in(space: Space) -> list[Problem]:
    """Values that the job refuses, alone or together, and starting points, objectives and grids that cannot be."""
    values = list(_value_problems(space))
    together = [] if values else list(_together(space))
    return [*values, *together, *_grid_problems(space), *_start_problems(space), *objective_problems(space.job)]


def _value_problems(space: Space) -> Iterator[Problem]:
    """Each value of a list, and both ends of each range, with first values of all other keys."""
    for each in space.parameters:
        context = space.under_which(each)
        if context is None:
            yield problem_at(space.job, each.key, "its condition never holds; remove a part of it", "when")
            continue
        same: dict[str, object] = {}
        for value in each.limits():
            place = each.place(value)
            try:
                job = space.applied(_example(space, {**context, each.key: value}))
            except JobFileError as error:
                yield from (problem_at(space.job, each.key, text, *place) for text in _about(each.key, error))
                continue
            # 10% and 0.1 are written differently, yet the same.
            other = same.setdefault(job.config.model_dump_json(), value)
            if other is not value and each.choices is not None:
                yield problem_at(space.job, each.key, f"{shown(value)} is the same as {shown(other)}", *place)


def _example(space: Space, wanted: Settings) -> Settings:
    """Settings with these values, and first values of all other keys that matter under them."""
    settings: Settings = {}
    for each in space.parameters:
        if each.matters(settings):
            settings[each.key] = wanted.get(each.key, each.limits()[0])
    return settings


def _about(key: str, error: JobFileError) -> Iterator[str]:
    """What of an error is about this key, a section around it, or a key within it."""
    for problem in error.problems:
        if problem.key == key or key.startswith(f"{problem.key}."):
            yield problem.text
        elif problem.key.startswith(f"{key}."):
            yield f"{problem.key}: {problem.text}"


def _together(space: Space) -> Iterator[Problem]:
    """Values that are allowed alone and not together. Only keys that change the data depend on one another so."""
    seen: set[str] = set()
    combinations = list(itertools.islice(space.preparing(), MOST_PREPARED + 1))
    if len(combinations) > MOST_PREPARED:
        text = (
            f"more than {MOST_PREPARED} combinations of keys that change the prepared data, which is made beforehand "
            f"for each; search fewer of {', '.join(key for key in combinations[-1])}"
        )
        yield Problem(space.job.where("tune", "search"), "tune.search", text)
        return
    for settings in combinations:
        try:
            space.applied(settings)
        except JobFileError as error:
            written = ", ".join(f"{key}: {shown(value)}" for key, value in settings.items())
            for problem in error.problems:
                if problem.key not in seen:  # of many combinations the first will do
                    seen.add(problem.key)
                    text = f"{problem.key}: {problem.text} (where {written}); use `when` to keep such values apart"
                    yield Problem(space.job.where("tune", "search"), "tune.search", text)


def _grid_problems(space: Space) -> Iterator[Problem]:
    if space.tune.algorithm != "grid":
        return
    for each in space.parameters:
        if not each.finite:
            yield problem_at(
                space.job, each.key, "a grid needs a list of values, found a range; or choose another tune.algorithm"
            )
    if space.finite and space.grid_up_to(MOST_OF_A_GRID) is None:
        text = f"has more than {MOST_OF_A_GRID} combinations; search less, or by tpe"
        yield Problem(space.job.where("tune", "algorithm"), "tune.algorithm", text)


def _start_problems(space: Space) -> Iterator[Problem]:
    by_key = {each.key: each for each in space.parameters}
    for index, start in enumerate(space.tune.start):
        for key in start:
            if key not in space.tune.search:
                text = f"no key of tune.search; allowed: {', '.join(space.tune.search) or 'none, as it is empty'}"
            elif key in by_key:  # else something is wrong with its entry, and is said there
                text = _start_problem(by_key[key], start)
            else:
                text = ""
            if text:
                at = ("tune", "start", str(index), key)
                yield Problem(space.job.where(*at), ".".join(at), text)


def _start_problem(parameter: Parameter, start: Settings) -> str:
    """What is wrong with the value of this key in a starting point; empty where nothing is."""
    value = start[parameter.key]
    if not parameter.contains(parameter.read(value)):
        if parameter.choices is not None:
            return f"must be one of {shown(list(parameter.choices))}, found {shown(value)}"
        step = "" if parameter.step is None else f" in steps of {parameter.step}"
        return f"must be from {parameter.low} to {parameter.high}{step}, found {shown(value)}"
    if not parameter.matters(start):
        needed = ", ".join(f"{key}: {shown(list(values))}" for key, values in parameter.when.items())
        return f"only matters under {needed}; give that too, or remove this"
    return ""
