"""What every reader hands over: consecutive rows of one file, as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raysft.errors import DataError
from raysft.reading.decoding import MAX_DEPTH, are_texts, complaint, readable, too_deep

BATCH_ROWS = 4096
BATCH_BYTES = 8 << 20  # a batch of long rows ends earlier, so that they do not pile up
ROLES = ("text", "label", "context", "group", "time", "split")


SYSTEMS = ("system", "system_prompt")


def plain_name(name: str) -> str:
    """A column's name without case, space and hyphens."""
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


@dataclass(frozen=True)
class Columns:
    """Which columns of a file count. For parallel line files and CoNLL they are always `text` and `label`."""

    text: str
    label: str | None
    context: str | None = None
    group: str | None = None
    time: str | None = None
    split: str | None = None
    guessed: tuple[str, ...] = ()  # roles that were found by name and not written by the person
    # What one cell cannot tell, from the first rows of all files; see corpus/forms.py.
    separator: str | None = None  # between the labels of one cell
    times: str | None = None  # dates | numbers
    tags: str | None = None  # plain | prefixed

    @property
    def named(self) -> dict[str, str]:
        """Role -> column, of the roles that have one."""
        return {role: name for role in ROLES if (name := getattr(self, role)) is not None}

    @property
    def context_is_system(self) -> bool:
        """Whether the context is what the system says, and not input to an instruction."""
        return plain_name(self.context or "") in SYSTEMS


@dataclass
class RawBatch:
    """Consecutive rows of one file, as columns. Every list has the same length."""

    line: list[
        int
    ]  # first line of the row in the file, from 1; for Parquet, Arrow and JSON arrays the number of the row
    cells: dict[str, list[Any]]  # role -> values: str from text formats; list, dict, number or None from the others
    reason: list[str | None]  # why a row could not be read; None: it could
    detail: list[str]

    def __len__(self) -> int:
        return len(self.line)

    def refuse(self, at: int, reason: str, detail: str) -> None:
        """Give a row a reason; the first one that was found stays."""
        if self.reason[at] is None:
            self.reason[at], self.detail[at] = reason, detail


def places_of(columns: Columns, names: list[str], shown: str) -> dict[str, int]:
    """Role -> place of its column in `names`. Raises DataError for a column that is missing or stands there twice."""
    for name in columns.named.values():
        if names.count(name) > 1:
            raise DataError(f"{shown}: {names.count(name)} columns are called {name!r}", "Give each its own name.")
        if name not in names:
            raise DataError(f"{shown}: no column {name!r}; it has: {listed(names)}", "Name a column that is there.")
    return {role: names.index(name) for role, name in columns.named.items()}


def listed(names: list[str], most: int = 40) -> str:
    """`a, b, c`, or `none`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


class Gatherer:
    """Rows that are read one by one, as batches; `full` says when to take one.

    `bad_byte` is the reason of a row with a byte that does not decode.
    """

    def __init__(self, columns: Columns, bad_byte: str = "not_utf8") -> None:
        self._names = columns.named
        self._bad_byte = bad_byte
        self._line: list[int] = []
        self._values: list[dict[str, Any]] = []
        self._wrong: dict[int, tuple[str, str]] = {}
        self._start = 0

    def add(self, line: int, values: dict[str, Any]) -> None:
        """A row: column -> value; a column that is not there is None."""
        self._line.append(line)
        self._values.append(values)

    def refuse(self, line: int, reason: str, detail: str, text: str = "") -> None:
        """A row that cannot be read; `text` is what stands there, as far as it can be shown."""
        self._wrong[len(self._line)] = (reason, detail)
        self.add(line, {self._names["text"]: readable(text)})

    def full(self, position: int) -> bool:
        """Whether to take the batch, `position` being the bytes of the file that were read so far."""
        return len(self._line) >= BATCH_ROWS or (bool(self._line) and position - self._start >= BATCH_BYTES)

    def take(self, position: int = 0) -> Iterator[RawBatch]:
        """The rows since the last time, as one batch, or none."""
        if self._line:
            yield self._batch()
        self._line, self._values, self._wrong, self._start = [], [], {}, position

    def _batch(self) -> RawBatch:
        cells = {role: [row.get(name) for row in self._values] for role, name in self._names.items()}
        wrong = self._wrong
        batch = RawBatch(self._line, cells, [None] * len(self._line), [""] * len(self._line))
        for index, (reason, detail) in wrong.items():
            batch.reason[index], batch.detail[index] = reason, detail
        check_values(batch, self._bad_byte)
        return batch


def check_values(batch: RawBatch, bad_byte: str) -> None:
    """Reject, in place, rows with a byte that did not decode, half a character, or a value nested too deeply."""
    for role, values in batch.cells.items():
        if not are_texts(values):
            _check_each(batch, role, values, bad_byte)


def _check_each(batch: RawBatch, role: str, values: list[Any], bad_byte: str) -> None:
    for at, value in enumerate(values):
        if isinstance(value, list | dict) and too_deep(value):
            values[at] = None
            batch.refuse(at, "malformed_json", f"the {role} is nested deeper than {MAX_DEPTH} levels")
        elif said := complaint(value):
            values[at] = readable(value)
            batch.refuse(at, bad_byte, f"{said} in the {role}")


def slices(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that together cover `count` items."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
