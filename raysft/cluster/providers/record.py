"""The record of what clouds were asked for, as JSON lines on the head."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raysft.cluster.providers.failover import Asked

KEPT = 200  # newest lines that are read, and that jobs can read anywhere in the cluster


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


def parse(lines: Iterable[str]) -> list[Asked]:
    """Lines as they were asked; what is no line of a record is passed over."""
    return [asked for line in lines if (asked := _asked(line)) is not None]


def dump(record: Iterable[Asked]) -> str:
    """The newest lines as one text, which `parse` reads."""
    return "\n".join(json.dumps(asked.line()) for asked in list(record)[-KEPT:])


def _asked(line: str) -> Asked | None:
    try:
        found: dict[str, Any] = json.loads(line)
        return Asked(**found)
    except (ValueError, TypeError):
        return None
