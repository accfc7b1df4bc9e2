"""What all sections of a job file or a cluster file have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, field_validator


class Section(BaseModel):
    """Common rules: unknown keys are refused, no value is turned into another type, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PlainSection(Section):
    """A section whose texts end up in scripts, units and rules of machines, where a line break would begin another
    command: each is one line of letters that can be seen."""

    @field_validator("*", mode="after")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        if hidden := next((text for text in _texts(value) if not text.isprintable()), None):
            found = f"{hidden[:40]!r}{'...' if len(hidden) > 40 else ''}"
            raise ValueError(f"one line without control characters (line breaks, tabs and the like), found {found}")
        return value


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, those of sections within it left to these."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_texts(key), *_texts(inner))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _texts(inner)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, optional, one of a list, or beside other kinds of values; None for plain keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)
