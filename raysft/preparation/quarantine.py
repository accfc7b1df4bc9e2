"""quarantine.csv: rows for a person to mend, under the columns of their own files, to be handed in again."""

from __future__ import annotations

import csv
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysft.corpus.messages import ASSISTANT, USER, turns_of
from raysft.corpus.times import written
from raysft.reading.columns import Columns

WHY = ("file", "line", "reason", "detail")


@dataclass(frozen=True)
class Form:
    """How a canonical row is written so that reading it gives the same row."""

    columns: Columns
    separator: str | None = None  # data.label_separator

    @property
    def header(self) -> list[str]:
        """Why the row was set aside, then the person's own columns."""
        theirs = list(self.columns.named.values())
        return [f"{name} (raysft)" if name in theirs else name for name in WHY] + theirs

    def line(self, row: dict[str, Any]) -> list[Any]:
        """One row of schema REJECTED under the header."""
        cells = {
            "context": "",
            "group": row["group"],
            "time": written(row["time"], self.columns.times),
            "split": row["origin"],
        }
        cells["text"], cells["label"] = self._target(row)
        return [row["source"], *(row[name] for name in WHY[1:]), *(cells[role] for role in self.columns.named)]

    def _target(self, row: dict[str, Any]) -> tuple[str, str]:
        """(text, label). A conversation is written whole where a prompt and its answer do not say it."""
        if row["record"] is not None:
            roles = [turn["role"] for turn in turns_of(row["record"])]
            if self.columns.label is None or roles != [USER, ASSISTANT]:
                return row["record"], ""
        if self.separator is not None:
            return row["text"], self.separator.join(json.loads(row["label"]))
        return row["text"], row["label"]


class Quarantine:
    """The file while it is written; there is none where no row is quarantined."""

    def __init__(self, path: Path, form: Form) -> None:
        self._path = path
        self._form = form
        self._open = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, left: pa.Table) -> None:
        """The quarantined of some rows in schema REJECTED."""
        for row in left.filter(left.column("quarantined")).to_pylist():
            if self._writer is None:
                file = self._open.enter_context(self._path.open("w", encoding="utf-8", newline=""))
                self._writer = csv.writer(file, lineterminator="\n")
                self._writer.writerow(self._form.header)
            self._writer.writerow(self._form.line(row))
