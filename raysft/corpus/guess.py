"""Looking at a file as a person would: which column is the text, which the label, which keeps rows together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysft.errors import DataError, NotFound
from raysft.reading.batch import Columns, listed
from raysft.reading.columns import ANSWERS, CHATS, PROMPTS, SPANS, TOKENS
from raysft.reading.records import FIXED, header, read_batches
from raysft.reading.sources import Source, sources_of

SAMPLE = 2000
TEXT_NAMES = (
    "text",
    "message",
    "utterance",
    "sentence",
    "body",
    "content",
    "description",
    "question",
    "query",
    "comment",
)
LABEL_NAMES = ("label", "intent", "category", "class", "target", "topic", "tag", "sentiment")
GROUP_NAMES = (
    "customer",
    "group",
    "patient",
    "user",
    "client",
    "account",
    "contract",
    "thread",
    "conversation",
    "author",
)


@dataclass(frozen=True)
class Column:
    """What a sample of a column looks like."""

    name: str
    filled: int
    distinct: int
    mean_length: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """What the columns of a file probably mean."""

    file: Path
    rows: int  # looked at
    text: str
    label: str
    group: str | None
    columns: tuple[Column, ...]
    labels: tuple[str, ...]


def guess(path: Path) -> Guess:
    """Guess the roles of the columns, from a sample of the rows.

    Raises NotFound, NotAllowed, or DataError: no column can be text or label, or the file is for another task.
    """
    if not path.exists():
        raise NotFound(f"no such file: {path}", "Name a file with a text and a label column.")
    (source,) = sources_of(str(path.absolute()), Path("/"))
    values = _sample(source)
    _require_classification(path, source, values)
    columns = tuple(_look(name, found) for name, found in values.items())
    rows = max((column.filled for column in columns), default=0)
    text = _best(columns, TEXT_NAMES, lambda c: c.mean_length if c.distinct > 0.5 * max(1, c.filled) else 0.0)
    rest = [c for c in columns if text is None or c.name != text.name]
    label = _best(rest, LABEL_NAMES, lambda c: 1 / c.distinct if 2 <= c.distinct <= max(2, c.filled // 3) else 0.0)
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: no column looks like the {missing}; it has: {listed(list(values))}",
            "A text column holds a different text in most rows, a label column a few values again and again; "
            "rename them `text` and `label`, or write the job file by hand.",
        )
    # A row without its group would be rejected, so only a column that is always filled will do.
    left = [c for c in rest if c.name != label.name and 1 < c.distinct < c.filled == rows]
    group = _named(left, GROUP_NAMES)
    labels = set(map(_shown, values[label.name])) - {""}
    return Guess(path, rows, text.name, label.name, group.name if group else None, columns, tuple(sorted(labels)))


def _sample(source: Source) -> dict[str, list[Any]]:
    """Column -> its values in the first rows that can be read. Columns whose names stand there twice are left out."""
    names = header(source)
    if source.format in FIXED:
        batch = next(read_batches(source, Columns("text", "label")), None)
        return {name: batch.cells.get(name, [])[:SAMPLE] if batch else [] for name in names}
    return {name: _values(source, name) for name in names if names.count(name) == 1}


def _values(source: Source, name: str) -> list[Any]:
    found: list[Any] = []
    for batch in read_batches(source, Columns(name, None)):
        found += [value for value, reason in zip(batch.cells["text"], batch.reason, strict=True) if reason is None]
        if len(found) >= SAMPLE:
            break
    return found[:SAMPLE]


def _require_classification(path: Path, source: Source, values: dict[str, list[Any]]) -> None:
    """Refuse what `raysft init` writes no job file for, and say how it begins."""
    names = {name.casefold() for name in values}
    task = ""
    if source.format == "conll" or names & set(TOKENS) or names & set(SPANS[:2]):
        task = "token-classification"
    elif names & set(CHATS) or (names & set(PROMPTS) and names & set(ANSWERS)):
        task = "generation"
    if task and not (task == "generation" and names & set(LABEL_NAMES)):
        raise DataError(
            f"{path}: this looks like {task}; it has: {listed(list(values))}",
            f"`raysft init` writes job files for classification. Write `task: {task}` by hand, and run `raysft data`.",
        )


def _look(name: str, values: Sequence[Any]) -> Column:
    shown = [text for text in map(_shown, values) if text.strip()]
    mean = sum(map(len, shown)) / max(1, len(shown))
    return Column(name, len(shown), len(set(shown)), mean, tuple(dict.fromkeys(shown[:3])))


def _shown(value: Any) -> str:
    """A cell as a word: JSON for what is neither text nor nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _best(columns: Sequence[Column], names: Sequence[str], measure: Callable[[Column], float]) -> Column | None:
    named = _named(columns, names)
    if named is not None:
        return named
    best = max(columns, key=measure, default=None)
    return best if best is not None and measure(best) > 0 else None


def _named(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    for name in names:
        for column in columns:
            if column.filled and (column.name.lower() == name or name in column.name.lower().replace("_", " ").split()):
                return column
    return None
