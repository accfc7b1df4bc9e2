"""Where every row stands: its file and line, read once, since each question to the store reads its batches anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.corpus.rows import where
from raysft.preparation.rowstore import RowStore

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Places:
    """Twelve bytes a row."""

    source: Array  # (rows,) int32, places in `files`
    files: list[str]
    line: Array  # (rows,) int64

    @staticmethod
    def of(store: RowStore) -> Places:
        return Places(*store.codes("source"), store.numbers("line").astype(np.int64))

    def files_of(self, rows: Array) -> list[str]:
        """The file of some rows, as it was named."""
        return [self.files[source] for source in self.source[rows].tolist()]

    def where(self, rows: Array) -> list[str]:
        """`tickets.csv:12` of some rows."""
        return [where(*each) for each in zip(self.files_of(rows), self.line[rows].tolist(), strict=True)]
