"""Value types of the job file that people write in more than one way."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema


def parse_name(value: Any) -> Any:
    """A run name; a plain number or date such as 7 or 2026-01-31, which YAML takes for one, is the name as written."""
    return str(value) if isinstance(value, int | date) and not isinstance(value, bool) else value


def require_pattern(pattern: str | None) -> str | None:
    """The same pattern. Raises ValueError when it is no regular expression."""
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"a regular expression, found {pattern!r}: {error}") from None
    return pattern


def parse_share(value: Any) -> Any:
    """`15%`, `"15%"` and `0.15` are the same share of a whole; result in [0, 1)."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            value = float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"a share such as 15% or 0.15, found {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a share such as 15% or 0.15, found {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"a share from 0% to below 100%, found {value!r}")
    return Share(value)


class TwoFiles(NamedTuple):
    """Texts and their labels in two files, line by line."""

    text: str
    label: str


def parse_sources(value: Any) -> Any:
    """A path, a `{text: FILE, label: FILE}` pair, or a list of them; always a tuple afterwards."""
    entries = value if isinstance(value, list | tuple) and not isinstance(value, TwoFiles) else [value]
    if not entries:
        raise ValueError(f"a path, a glob, or a list of them, found {value!r}")
    return tuple(_source(entry) for entry in entries)


def _source(entry: Any) -> str | TwoFiles:
    if isinstance(entry, str | TwoFiles) and entry:
        return entry
    if isinstance(entry, dict) and set(entry) == {"text", "label"} and all(_is_path(each) for each in entry.values()):
        return TwoFiles(**entry)
    raise ValueError(f"a path, a glob, {{text: FILE, label: FILE}}, or a list of them, found {entry!r}")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


class Share(float):
    """A part of a whole, 0 to 1."""

    def written(self) -> str | float:
        """As a job file says it: a percentage where six digits hold it exactly, else the number."""
        percent = f"{self * 100:g}%"
        return percent if float(percent[:-1]) / 100 == self else float(self)

    def __str__(self) -> str:
        return str(self.written())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            parse_share, serialization=core_schema.plain_serializer_function_ser_schema(cls.written)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {"type": "string", "pattern": r"^\d{1,2}(\.\d+)?%$"},
            ]
        }


_PATH = {"type": "string", "minLength": 1}
_PAIR = {
    "type": "object",
    "properties": {"text": _PATH, "label": _PATH},
    "required": ["text", "label"],
    "additionalProperties": False,
}
_ENTRY: dict[str, Any] = {"anyOf": [_PATH, _PAIR]}
SourceList = Annotated[
    tuple[str | TwoFiles, ...],
    BeforeValidator(parse_sources),
    PlainSerializer(lambda entries: [e._asdict() if isinstance(e, TwoFiles) else e for e in entries]),
    WithJsonSchema({"anyOf": [_PATH, _PAIR, {"type": "array", "items": _ENTRY, "minItems": 1}]}),
]
