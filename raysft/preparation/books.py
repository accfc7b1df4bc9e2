"""What becomes of every row: kept, rejected or quarantined, with the reason; the numbers add up by construction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.errors import DataError
from raysft.preparation.rowstore import RowStore

QUARANTINE = "quarantine"
Array = np.ndarray[Any, Any]

# What stands before the place of the other row, in the detail of a row that was left out.
OTHER = {
    "duplicate": "same as",
    "conflicting_labels": "other label at",
    "leakage": "also at",
    "near_duplicate": "almost the same as",
    "near_leakage": "almost the same as",
}


@dataclass(frozen=True)
class Found:
    """Rows that a check found; `other` shows, for each, the row it was compared with (-1: none)."""

    reason: str
    rows: Array  # (found,) int64
    other: Array  # (found,) int64
    details: tuple[str, ...] = ()  # one a row where there is no other row


class Books:
    """One entry a row of the store."""

    def __init__(self, store: RowStore) -> None:
        codes, reasons = store.codes("reason")
        self._reasons: list[tuple[str, bool]] = [("", False), *((reason, False) for reason in reasons)]
        self._code = (codes + 1).astype(np.int16)  # 0: kept
        self._other = np.full(store.rows, -1, np.int64)
        self._details: dict[int, str] = {}
        self._store = store

    @property
    def alive(self) -> Array:
        """Which rows are still kept, bool, shape (rows,)."""
        return np.asarray(self._code == 0)

    @property
    def quarantined(self) -> Array:
        """Which rows a person is asked to mend, bool, shape (rows,)."""
        return np.array([aside for _, aside in self._reasons])[self._code]

    def apply(self, found: Found, action: str) -> None:
        """Leave the rows out, keep them, or raise DataError, as the action says."""
        if not len(found.rows) or action in {"report", "off"}:
            return
        if action == "fail":
            first = self._store.where(found.rows[:1])[0]
            raise DataError(
                f"{len(found.rows)} rows: {found.reason}, the first at {first} ({self._detail_of(found, 0)})",
                "Mend the data, or choose another action under data.audit.",
            )
        self._reasons.append((found.reason, action == QUARANTINE))
        self._code[found.rows] = len(self._reasons) - 1
        self._other[found.rows] = found.other
        self._details.update(zip(found.rows.tolist(), found.details, strict=False))

    def _detail_of(self, found: Found, index: int) -> str:
        if found.details:
            return found.details[index]
        return f"{OTHER[found.reason]} {self._store.where(found.other[index : index + 1])[0]}"

    def counts(self, quarantined: bool) -> dict[str, int]:
        """reason -> rows, most first."""
        found: Counter[str] = Counter()
        for code, number in enumerate(np.bincount(self._code, minlength=len(self._reasons)).tolist()):
            reason, aside = self._reasons[code]
            if code and number and aside == quarantined:
                found[reason] += number
        return dict(found.most_common())

    def by_reason(self, rows: Array) -> list[Array]:
        """The same rows, apart by reason."""
        return [rows[self._code[rows] == code] for code in np.unique(self._code[rows])]

    @property
    def left_out(self) -> int:
        return int((self._code != 0).sum())

    def explain(self, rows: Array) -> tuple[list[str], list[str]]:
        """(reason, detail) of rows that were left out by `apply`; of rejected rows the reader's own detail."""
        reasons = [self._reasons[code][0] for code in self._code[rows].tolist()]
        details = self._store.values("detail", rows)
        others = self._other[rows]
        paired = np.flatnonzero(others >= 0)
        for place, shown in zip(paired.tolist(), self._store.where(others[paired]), strict=True):
            details[place] = f"{OTHER[reasons[place]]} {shown}"
        for place, row in enumerate(rows.tolist()):
            details[place] = self._details.get(row, details[place])
        return reasons, details
