"""Looking at a file as a person would: which column is the text, which the label, which keeps rows together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from raysft.corpus.records import Columns, header, read_rows
from raysft.errors import DataError, NotFound

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
    """Guess the roles of the columns. Raises NotFound, or DataError when no column can be text or label."""
    if not path.is_file():
        raise NotFound(f"no such file: {path}", "Name a CSV, TSV or JSON Lines file with a text and a label column.")
    columns = tuple(_look(path, name) for name in header(path))
    rows = max((column.filled for column in columns), default=0)
    text = _best(columns, TEXT_NAMES, lambda c: c.mean_length if c.distinct > 0.5 * max(1, c.filled) else 0.0)
    rest = [c for c in columns if text is None or c.name != text.name]
    label = _best(rest, LABEL_NAMES, lambda c: 1 / c.distinct if 2 <= c.distinct <= max(2, c.filled // 3) else 0.0)
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: no column looks like the {missing}; it has: {', '.join(c.name for c in columns) or 'none'}",
            "A text column holds a different text in most rows, a label column a few values again and again; "
            "rename them `text` and `label`, or write the job file by hand.",
        )
    # A row without its group would be rejected, so only a column that is always filled will do.
    left = [c for c in rest if c.name != label.name and 1 < c.distinct < c.filled == rows]
    group = _named(left, GROUP_NAMES)
    labels = {row.label for row in islice(read_rows(path, Columns(text.name, label.name)), SAMPLE)} - {""}
    return Guess(path, rows, text.name, label.name, group.name if group else None, columns, tuple(sorted(labels)))


def _look(path: Path, name: str) -> Column:
    rows = islice(read_rows(path, Columns(name, None)), SAMPLE)
    values = [row.text for row in rows if row.reason is None and row.text.strip()]
    mean = sum(map(len, values)) / max(1, len(values))
    return Column(name, len(values), len(set(values)), mean, tuple(dict.fromkeys(values[:3])))


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
