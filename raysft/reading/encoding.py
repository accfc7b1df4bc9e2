"""Which encoding a source is read with, so that people can be told."""

from __future__ import annotations

from raysft.reading.guessing import Guess
from raysft.reading.sources import Source
from raysft.reading.streams import open_text

COLUMNAR = frozenset({"parquet", "arrow"})  # formats that hold no encoded text
GUESSED = "guessed"
RIVALS = 3  # that are named


def encoding_of(source: Source) -> str:
    """What its text is decoded with: `utf-8`, `cp1252 (guessed)`, `cp1252 (guessed, perhaps cp1250)`.

    "" for Parquet and Arrow; of two parallel files that differ `utf-8, labels cp1252 (guessed)`.
    Raises NotFound, NotAllowed, DataError (empty, damaged, packed and not named so).
    """
    if source.format in COLUMNAR:
        return ""
    paths = [source.path] + ([source.label_path] if source.label_path else [])
    return ", labels ".join(dict.fromkeys(_told(path, source.encoding) for path in paths))


def is_guess(encoding: str) -> bool:
    """Whether what encoding_of says was told neither by the file nor by the person."""
    return GUESSED in encoding


def _told(path: str, written: str) -> str:
    with open_text(path, written) as text:
        return _shown(text.guess)


def _shown(guess: Guess) -> str:
    if guess.sure:
        return guess.name
    rivals = f", perhaps {' or '.join(guess.rivals[:RIVALS])}" if guess.rivals else ""
    return f"{guess.name} ({GUESSED}{rivals})"
