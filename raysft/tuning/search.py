"""The `search` section as parameters, each behind those that its condition names, and what is wrong with it as such.

Whether the values themselves are allowed is found out by trying them: see checks.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_origin

from pydantic import BaseModel

from raysft.config import Job, JobConfig
from raysft.config.section import section_in
from raysft.errors import Problem
from raysft.tuning.parameter import EntryError, Parameter, parameter, shown

SEARCHED = ("model", "train")
# Settings of `train` that change how fast or where a run goes, not what it learns: nothing to compare.
SAME_RESULT = (
    *("workers", "micro_batch", "save_every", "track", "strategy", "offload", "activation_checkpointing"),
    *("on_nonfinite", "device"),
)
# Settings that choose among the epochs of a run. All folds of a search are trained to their end: Trial.epoch.
OF_ONE_RUN = ("select", "stop_after")
# What prepared data depends on, sections included.
PREPARED = ("model.base", "model.revision", "model.init", "model.labels", "model.max_length")


def changes_data(key: str) -> bool:
    """Whether another value of this key needs other prepared data."""
    return any(_is_within(key, each) for each in PREPARED)


def read_search(job: Job) -> tuple[tuple[Parameter, ...], list[Problem]]:
    """The parameters that are well written, each behind those that its condition names, and all that is wrong."""
    written = job.config.tune.search if job.config.tune else {}
    known: dict[str, Parameter] = {}
    problems: list[Problem] = []
    for key, entry in written.items():
        try:
            known[key] = _read(key, entry)
        except EntryError as error:
            problems.append(problem_at(job, key, str(error), *error.place))
    conditioned: list[Parameter] = []
    for each in known.values():
        try:
            found = replace(each, when=dict(_condition(written[each.key], each.key, known, written)))
            _refuse_overlap(found, written)
            conditioned.append(found)
        except EntryError as error:
            problems.append(problem_at(job, each.key, str(error), *error.place))
    ordered, circle = _ordered(conditioned)
    text = f"their conditions name one another: {', '.join(circle)}; remove one `when`"
    problems += [problem_at(job, circle[0], text, "when")] if circle else []
    return ordered, problems


def problem_at(job: Job, key: str, text: str, *place: str) -> Problem:
    """A problem with an entry of the search. place: within the entry."""
    return Problem(job.where("tune", "search", key, *place), f"tune.search.{key}", text)


def _read(key: str, entry: Any) -> Parameter:
    if text := _refusal(key):
        raise EntryError(text)
    found = parameter(key, entry)
    if changes_data(key) and found.choices is None:
        raise EntryError(
            f"each value needs its own prepared data, which is made beforehand: write a list, found {shown(entry)}",
            *found.form,
        )
    return found


def _refusal(key: str) -> str:
    """Why a key cannot be searched; empty where it can."""
    known = dict.fromkeys(_keys(JobConfig))
    section, _, name = key.partition(".")
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        same = [each for each in known if each.endswith(f".{key}")]
        nearest = next(iter([*same, *close]), None)
        return "no such key" + (f"; did you mean `{nearest}`?" if nearest else f"; allowed: {', '.join(SEARCHED)}")
    if section not in SEARCHED:
        return (
            f"cannot be searched: only keys of {', '.join(SEARCHED)} can, since configurations are compared "
            "on the same rows; remove it"
        )
    if not name:
        return f"is a whole section; search keys of it, such as {next(k for k in known if k.startswith(f'{key}.'))}"
    if section == "train" and any(_is_within(name, each) for each in SAME_RESULT):
        return "changes no result, only how fast or where a run goes; remove it"
    if section == "train" and name in OF_ONE_RUN:
        return "chooses among the epochs of one run; in a search one epoch counts for all folds; remove it"
    return ""


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of the job file, sections included; not those within lists."""
    for name, info in section.model_fields.items():
        yield f"{prefix}{name}"
        inner = None if get_origin(info.annotation) is tuple else section_in(info.annotation)
        if inner is not None:
            yield from _keys(inner, f"{prefix}{name}.")


def _is_within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _condition(
    entry: Any, key: str, known: dict[str, Parameter], written: dict[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The `when` of an entry: other key -> values. Raises EntryError. known: the parameters that are well written."""
    when = entry.get("when", {}) if isinstance(entry, dict) else {}
    if not isinstance(when, dict):
        raise EntryError(f"must be {{KEY: VALUE}} or {{KEY: [VALUE, VALUE]}}, found {shown(when)}", "when")
    for other, values in when.items():
        listed = tuple(values) if isinstance(values, list) else (values,)
        if other not in written or other == key:
            raise EntryError(f"names {other}, which is no other key of tune.search", "when", other)
        if not listed:
            raise EntryError(f"names no value of {other}, so that {key} would never matter", "when", other)
        if other in known:
            _refuse_values(known[other], listed)
        yield other, listed


def _refuse_values(other: Parameter, values: tuple[Any, ...]) -> None:
    """Raise EntryError for a condition on values that the other key never has."""
    if other.choices is None:
        text = f"names {other.key}, which is a range; write its values as a list, so that a condition can name one"
        raise EntryError(text, "when", other.key)
    for value in values:
        if not other.contains(value):
            raise EntryError(
                f"{other.key} is never {shown(value)}, but one of {shown(list(other.choices))}", "when", other.key
            )


def _refuse_overlap(child: Parameter, written: dict[str, Any]) -> None:
    """Raise EntryError for a key within another one that is searched too, unless a condition says which counts."""
    for parent in written:
        if parent == child.key or not _is_within(child.key, parent):
            continue
        if parent not in child.when:
            raise EntryError(
                f"lies within {parent}, which is searched too; say for which of its values, "
                f"as `when: {{{parent}: VALUE}}`, or remove one of the two"
            )
        for value in child.when[parent]:
            if not isinstance(value, dict):
                raise EntryError(f"{parent} has no keys when it is {shown(value)}", "when", parent)


def _ordered(parameters: list[Parameter]) -> tuple[tuple[Parameter, ...], list[str]]:
    """Each behind those that its condition names; and the keys whose conditions name one another in a circle.

    One whose condition names a key that is not among them is left out: something is wrong with that one.
    """
    keys = {each.key for each in parameters}
    done: dict[str, Parameter] = {}
    left = list(parameters)
    while ready := [each for each in left if each.when.keys() <= done.keys()]:
        done |= {each.key: each for each in ready}
        left = [each for each in left if each.key not in done]
    waiting = {each.key: each.when.keys() & keys for each in left}
    return tuple(done.values()), _circle({key: others - done.keys() for key, others in waiting.items()})


def _circle(waiting: dict[str, set[str]]) -> list[str]:
    """The keys that wait for themselves; without those that only wait for them, or for a key that never comes."""
    left = {key: others for key, others in waiting.items() if others}
    while True:
        named = set().union(*left.values()) if left else set()
        kept = {key: others & left.keys() for key, others in left.items() if key in named and others & left.keys()}
        if kept == left:
            return list(left)
        left = kept
