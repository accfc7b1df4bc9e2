"""What preparation leaves behind, as training, evaluation and reports read it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysft.corpus.tokens import TokenizedRows, from_lists, read_shards
from raysft.folds.assign import part_of
from raysft.storage.commit import read_json
from raysft.storage.layout import DataFolder


@dataclass(frozen=True)
class Prepared:
    """Audited rows, folds and shards of one job."""

    digest: str
    folder: DataFolder
    labels: tuple[str, ...]
    validation: int | None  # the fold that validates; None: no row does
    k: int  # folds; 0: none validates, or the person's own rows do
    order: str  # random | time
    reused: bool = False
    without: int | None = None  # a fold that takes no part

    @cached_property
    def audit(self) -> dict[str, Any]:
        """audit.json, with rows per part: it is stored per fold, so that any fold may validate."""
        stored = dict(read_json(self.folder.audit))
        labels = {label: self._parts(counts) for label, counts in stored["labels"].items()}
        return {**stored, "parts": self._parts(stored["folds"]), "labels_by_part": labels}

    @property
    def stored_labels(self) -> dict[str, dict[str, int]]:
        """Rows of each label in each fold, the sealed part's among them."""
        return dict(read_json(self.folder.audit)["labels"])

    def _parts(self, per_fold: dict[str, int]) -> dict[str, int]:
        found: Counter[str] = Counter()
        for fold, rows in per_fold.items():
            found[self._part_of(int(fold))] += rows
        return dict(found)

    def _part_of(self, fold: int) -> str:
        return "left out" if fold == self.without else part_of(fold, self.validation, self.k, self.order)

    def __getstate__(self) -> dict[str, Any]:
        """Only the fields travel to workers: neither the corpus nor its sealed test rows."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def part(self, name: str) -> pa.Table:
        """The corpus rows of train, validation or test; only asking for test opens the sealed file.

        Columns: raysft.preparation.write.CORPUS.
        """
        rows = pq.read_table(self.folder.corpus(sealed=name == "test"))
        return rows.filter(pa.array(self._inside(rows.column("fold").to_numpy(), name)))

    def tokens(self, part: str) -> TokenizedRows:
        """The tokenized rows of train, validation or test; only asking for test opens the sealed shards."""
        sealed = part == "test"
        corpus = pq.read_table(self.folder.corpus(sealed), columns=["row_id", "fold"])
        mine = self._inside(corpus.column("fold").to_numpy(), part)
        if not mine.any():
            return from_lists([], [])
        rows = read_shards(self.folder.tokens(sealed))
        # Rows stand in the order of their numbers; where long texts are learnt whole, a row has several pieces.
        return rows.select(np.flatnonzero(mine[np.searchsorted(corpus.column("row_id").to_numpy(), rows.row_id)]))

    def _inside(self, fold: np.ndarray[Any, Any], part: str) -> np.ndarray[Any, Any]:
        known = {number: self._part_of(number) == part for number in np.unique(fold).tolist()}
        return np.array([known[number] for number in fold.tolist()], bool)
