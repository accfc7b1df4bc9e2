"""What is wrong in a job file, in words for people: pydantic's errors as one problem a key, with its line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from raysft.config.section import section_in
from raysft.config.sections import JobConfig
from raysft.errors import Problem

Lines = dict[tuple[str, ...], str]  # where each key stands: "jobs/x.yaml:12"
KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
}


def problems_of(
    error: ValidationError, values: Any, lines: Lines, path: Path, kind: type[BaseModel] = JobConfig
) -> Iterable[Problem]:
    """One problem a key, in the order in which pydantic found them. values: what was validated. kind: as what."""
    for key, items in _by_key(error, values).items():
        known = key
        while known and known not in lines:
            known = known[:-1]
        yield Problem(lines.get(known, f"{path}:1"), ".".join(key), _explain_all(items, key, kind))


def _by_key(error: ValidationError, values: Any) -> dict[tuple[str, ...], list[Any]]:
    """What is wrong by key. Of a key that takes several kinds of values pydantic says for each what is wrong."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for item in error.errors():
        found.setdefault(_written_key(item, values), []).append(item)
    return {key: _of_its_kind(items) for key, items in found.items() if not _went_on_within(key, found)}


def _went_on_within(key: tuple[str, ...], found: dict[tuple[str, ...], list[Any]]) -> bool:
    """Whether the value is of one of the kinds that its key takes, and what is wrong stands within it."""
    inner = any(other[: len(key)] == key and other != key for other in found)
    return inner and all(_is_other_kind(item) for item in found[key])


def _of_its_kind(items: list[Any]) -> list[Any]:
    """What is not allowed of a value of its kind; where it is of no kind that is taken, all that would be."""
    return [item for item in items if not _is_other_kind(item)] or items


def _written_key(item: Any, values: Any) -> tuple[str, ...]:
    """The key as a person writes it: without the names that pydantic gives to the kinds of a value."""
    key, place = [], values
    for depth, part in enumerate(item["loc"], start=1):
        inside = part in place if isinstance(place, dict) else isinstance(place, list) and isinstance(part, int)
        if inside:
            place = place[part]
        if inside or (item["type"] == "missing" and depth == len(item["loc"])):
            key.append(str(part))
    return tuple(key)


def _is_other_kind(item: Any) -> bool:
    """Whether the value is not of this kind at all, as opposed to one of this kind that is not allowed."""
    return str(item["type"]).endswith("_type") or item["type"] == "literal_error"


def _explain_all(items: list[Any], key: tuple[str, ...], root: type[BaseModel]) -> str:
    if len(items) == 1:
        return _explain(items[0], key, root)
    return f"must be {' or '.join(_kind(item) for item in items)}, found {_shown(items[0]['input'])}"


def _kind(item: Any) -> str:
    """What a value of this kind is, for people."""
    if item["type"] == "literal_error":
        return str(item["ctx"]["expected"])
    return KINDS.get(item["type"], "`key: value` lines")


def _explain(item: Any, key: tuple[str, ...], root: type[BaseModel]) -> str:
    kind, found = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return f"no such key{_nearest(key, root)}"
    if kind == "missing":
        return "must be given"
    if kind == "literal_error":
        return f"must be {item['ctx']['expected']}, found {_shown(found)}"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "string_pattern_mismatch" and root is not JobConfig:
        return f"must be like {item['ctx']['pattern']}, found {_shown(found)}"
    if kind == "string_pattern_mismatch":
        return f"letters, digits, dot, dash and underscore, at most 100, found {_shown(found)}"
    if kind in {"model_type", "dict_type"}:
        return f"holds `key: value` lines, found {_shown(found)}"
    if kind in {"tuple_type", "list_type"}:
        return f"must be a list, found {_shown(found)}"
    text = item["msg"].split(",")[0].removeprefix("Input ").replace("should ", "must ")
    return f"{text[0].lower()}{text[1:]}, found {_shown(found)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(key: tuple[str, ...], root: type[BaseModel]) -> str:
    section = root
    for part in key[:-1]:
        if part.isdigit():  # a place in a list
            continue
        inner = section_in(section.model_fields[part].annotation) if part in section.model_fields else None
        if inner is None:
            return ""
        section = inner
    known = list(section.model_fields)
    close = difflib.get_close_matches(key[-1], known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else f"; allowed: {', '.join(known)}"
