"""JSON Lines: one object a line. A line that is none is one row with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from raysft.reading.batch import Columns, Gatherer, RawBatch
from raysft.reading.streams import Text

HEADER_ROWS = 100
MALFORMED = "malformed_json"


def _constant(name: str) -> None:
    """NaN is how some writers say that there is no value; Infinity is no JSON at all."""
    if name != "NaN":
        raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_constant)
PAIRS = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=list)  # an object as its keys and values


def read_json_lines(text: Text, columns: Columns) -> Iterator[RawBatch]:
    """Every line that is not blank."""
    rows = Gatherer(columns, text.reason)
    for number, line in enumerate(text.lines, start=1):
        try:
            value = _value(line)
        except (ValueError, RecursionError) as error:
            if line.strip(" \t\r\n"):
                rows.refuse(number, MALFORMED, said(error), line.strip(" \t\r\n"))
        else:
            if wrong := complaint(value, line):
                rows.refuse(number, MALFORMED, wrong, line.strip())
            else:
                rows.add(number, value)
        if rows.full(text.raw.position):
            yield from rows.take(text.raw.position)
    yield from rows.take()


def _value(line: str) -> Any:
    """The value on a line; the decoder's own way, which looks for spaces first, only where this one does not do."""
    if line[0] != "{":
        return DECODER.decode(line)
    value, end = DECODER.raw_decode(line)
    return value if line[end:] in {"\n", ""} else DECODER.decode(line)


def json_lines_header(text: Text) -> list[str]:
    """The keys of the first hundred rows, in order."""
    names: dict[str, None] = {}
    for _, line in zip(range(HEADER_ROWS), (line for line in text.lines if line.strip(" \t\r\n")), strict=False):
        try:
            value = DECODER.decode(line)
        except (ValueError, RecursionError):
            continue
        names.update(dict.fromkeys(value if isinstance(value, dict) else ()))
    return list(names)


def said(error: Exception) -> str:
    """What the parser says, short."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(": line ")[0]


def complaint(value: Any, text: str, start: int = 0, end: int | None = None) -> str:
    """Why a JSON value, read from `text[start:end]`, is no row: no object, or a key of it stands there twice."""
    if type(value) is not dict:
        kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
        return f"{kinds.get(type(value), 'a number')} and not an object"
    if text.count(":", start, end) == len(value):
        return ""
    for key in value:
        # Reading pairs takes much longer than counting, so only where the key may stand there twice, or is escaped.
        if text.count(f'"{key}"', start, end) != 1:
            return _repeated(text, text.index("{", start))
    return ""


def _repeated(text: str, start: int) -> str:
    pairs, _ = PAIRS.raw_decode(text, start)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return f"the key {key!r} stands there twice"
        seen.add(key)
    return ""
