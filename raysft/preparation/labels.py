"""What the kept rows teach: the names that a model will know, a number per row, and the strata that folds balance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.audit.repeats import TRAIN
from raysft.config.sections import JobConfig
from raysft.corpus.encode import ANSWERS, MASKED, NEXT, SEVERAL, SINGLE, TAGS
from raysft.folds.strata import Strata
from raysft.preparation.rowstore import RowStore

Array = np.ndarray[Any, Any]


def kind_of(config: JobConfig) -> str:
    """SINGLE, SEVERAL, TAGS, ANSWERS, MASKED or NEXT."""
    if config.task == "classification":
        return SEVERAL if config.data.multi_label else SINGLE
    return {"token-classification": TAGS, "generation": ANSWERS, "masked-lm": MASKED, "causal-lm": NEXT}[config.task]


@dataclass(frozen=True)
class Labels:
    """names: sorted, of the training rows. Per row of the store: the names it carries as numbers, -1 for a name that
    no training row has; `label_id` where a row has just one."""

    kind: str
    names: tuple[str, ...]
    carried: Strata  # over all rows of the store; ids count the sorted names, those unseen in training come last
    unseen: tuple[str, ...]  # names of held-out rows only

    @property
    def label_id(self) -> Array:
        """int32, shape (rows,); -1 where one number cannot say it."""
        rows = len(self.carried.start) - 1
        if self.kind != SINGLE:
            return np.full(rows, -1, np.int32)
        found = np.full(rows, -1, np.int32)
        some = np.flatnonzero(np.diff(self.carried.start))
        found[some] = self.carried.ids[self.carried.start[some]]
        return found

    @property
    def has_unseen(self) -> Array:
        """Which rows carry a name that no training row has, bool, shape (rows,)."""
        row = np.repeat(np.arange(len(self.carried.start) - 1), np.diff(self.carried.start))
        found = np.zeros(len(self.carried.start) - 1, bool)
        found[row[self.carried.ids >= len(self.names)]] = True
        return found


def find_labels(store: RowStore, alive: Array, kind: str) -> Labels:
    """The names that rows carry: classes, or entity types; none where answers or texts alone are learnt."""
    if kind in {ANSWERS, MASKED, NEXT}:
        return Labels(kind, (), Strata.none(store.rows), ())
    start, ids, names = _carried(store, alive, kind)
    row = np.repeat(np.arange(store.rows), np.diff(start))
    trained = set(np.unique(ids[store.origin[row] == TRAIN]).tolist())
    known = sorted(names[i] for i in range(len(names)) if i in trained)
    unseen = sorted(names[i] for i in range(len(names)) if i not in trained)
    place = {name: number for number, name in enumerate([*known, *unseen])}
    renumbered = np.array([place[name] for name in names] or [0])[ids]
    return Labels(kind, tuple(known), Strata(start, renumbered, len(place)), tuple(unseen))


def _carried(store: RowStore, alive: Array, kind: str) -> tuple[Array, Array, list[str]]:
    """(start, ids, names): the names of each kept row as numbers in the order of their appearance."""
    number: dict[str, int] = {}
    cells: dict[str, list[int]] = {}
    lengths: list[Array] = [np.zeros(1, np.int64)]
    ids: list[Array] = [np.zeros(0, np.int64)]
    for first, rows in store.tables(["label"]):
        living = alive[first : first + rows.num_rows].tolist()
        found: list[list[int]] = []
        if kind == TAGS:
            cells.clear()  # every tagged sentence is different; remembering them would fill memory
        for label, kept in zip(rows.column("label").to_pylist(), living, strict=True):
            if not kept:
                found.append([])
                continue
            if label not in cells:
                cells[label] = sorted({number.setdefault(name, len(number)) for name in _names(label, kind)})
            found.append(cells[label])
        lengths.append(np.fromiter(map(len, found), np.int64, len(found)))
        ids.append(np.fromiter((each for row in found for each in row), np.int64))
    return np.cumsum(np.concatenate(lengths)), np.concatenate(ids), list(number)


def _names(label: str, kind: str) -> list[str]:
    if kind == SINGLE:
        return [label]
    return json.loads(label) if kind == SEVERAL else [name for _, _, name in json.loads(label)]
