"""The record of what clouds were asked for, as JSON lines on the head."""

from __future__ import annotations

import json
from pathlib import Path

from raysft.shortage import KEPT, Asked, parse


def append(path: Path, asked: Asked) -> None:
    """Add a line. Raises OSError where the file cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asked.line()) + "\n")


def read(path: Path) -> list[Asked]:
    """The newest lines, oldest first; none where there is no file. A line that a crash cut short is passed over."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return parse(lines[-KEPT:])
