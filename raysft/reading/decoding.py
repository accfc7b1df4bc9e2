"""Bytes to text: the encoding a file is read with, and bad bytes that cost one row and not the file.

A byte that does not decode becomes a mark (U+DC00 + byte, which no proper text holds), so that the row it stands in can
be found after parsing. https://docs.python.org/3/library/codecs.html#error-handlers
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any

from raysft.reading.guessing import Guess, guess_legacy, guess_wide

MARK = "raysft.bad-byte"
BAD = re.compile(r"[\ud800-\udfff]")  # a mark, or half an emoji written as \\ud83d in JSON
MAX_DEPTH = 100  # of nested lists and objects in a cell
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8"),
)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(MARK, _mark)


def resolve(written: str, sample: bytes) -> Guess:
    """The encoding of a file that begins with `sample`; a name is obeyed, `auto` looks at the bytes.

    What a byte order mark or the job file says, and UTF-8, are `sure`.
    """
    marked = next((name for bom, name in BOMS if sample.startswith(bom)), None)
    if written.lower() != "auto":
        name = codecs.lookup(written).name
        # utf-16-le and the like would keep the byte order mark as a letter of the first column's name.
        return Guess(marked if marked and name.startswith(marked) else name, sure=True)
    if marked:
        return Guess(marked, sure=True)
    return guess_wide(sample) or guess_legacy(sample) or Guess("utf-8", sure=True)


def codec_of(encoding: str) -> str:
    """The codec that reads it; for UTF-8 the one that skips a byte order mark."""
    return "utf-8-sig" if encoding == "utf-8" else encoding


def reason_of(encoding: str) -> str:
    """Why a row with a bad byte cannot be read."""
    return "not_utf8" if encoding.startswith("utf") else "bad_bytes"


def are_texts(values: Sequence[Any]) -> bool:
    """Whether all values are texts without a mark or half a character; one pass in C."""
    try:
        joined = "".join(values)
    except TypeError:
        return False
    return joined.isascii() or _encodes(joined)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def flat(value: Any) -> str:
    """All strings in a nested value, as one text."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else ""


def too_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, list | dict)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def readable(value: Any) -> Any:
    """A value with the replacement character in place of what is no character."""
    if isinstance(value, str):
        return BAD.sub("\ufffd", value)
    return json.loads(BAD.sub("\ufffd", flat(value))) if isinstance(value, list | dict) else value


def complaint(value: Any) -> str:
    """What is wrong in a value: `byte 0xE9`, or `half a character (\\ud83d)`; empty where nothing is."""
    found = BAD.search(value if isinstance(value, str) else flat(value))
    if found is None:
        return ""
    code = ord(found[0])
    return f"byte 0x{code - 0xDC00:02X}" if 0xDC00 <= code <= 0xDCFF else f"half a character (\\u{code:04x})"
