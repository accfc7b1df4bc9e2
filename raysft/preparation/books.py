"""What becomes of every row: kept, rejected or quarantined, with the reason; the numbers add up by construction.

All that checks find goes through here, whether it is acted on or only reported, and stays in the ledger.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from raysft.audit.personal import excerpts
from raysft.errors import DataError
from raysft.preparation.places import Places
from raysft.preparation.rowstore import RowStore

REPORT, QUARANTINE = "report", "quarantine"
Array = np.ndarray[Any, Any]

# What stands before the place of the other row, in a detail.
OTHER = {
    "duplicate": "same as",
    "conflicting_labels": "other label at",
    "leakage": "also at",
    "near_duplicate": "almost the same as",
    "near_leakage": "almost the same as",
    "held_out_conflicts": "other label at",
    "held_out_duplicates": "same as",
    "validation_in_test": "also at",
}
# The finding of a reason, where it has another name.
FINDINGS = {
    "duplicate": "duplicates",
    "conflicting_labels": "conflicts",
    "near_duplicate": "near_duplicates",
    "wrong_label": "wrong_labels",
    "unseen_label": "unseen_labels",
}


@dataclass(frozen=True)
class Found:
    """Rows that a check found; `other` shows, for each, the row it was compared with (-1: none)."""

    reason: str
    rows: Array  # (found,) int64
    other: Array  # (found,) int64
    details: tuple[str, ...] = ()  # one a row where there is no other row

    @property
    def finding(self) -> str:
        """Its name in audit.json."""
        return FINDINGS.get(self.reason, self.reason)


class Books:
    """One entry a row of the store."""

    def __init__(self, store: RowStore) -> None:
        codes, reasons = store.codes("reason")
        self._reasons: list[tuple[str, bool]] = [("", False), *((reason, False) for reason in reasons)]
        self._code = (codes + 1).astype(np.int16)  # 0: kept
        self._other = np.full(store.rows, -1, np.int64)
        self._details: dict[int, str] = {}
        self._store = store
        self.ledger: list[tuple[Found, str]] = []  # all that was found, with its action

    @cached_property
    def places(self) -> Places:
        """Where every row of the store stands."""
        return Places.of(self._store)

    @property
    def alive(self) -> Array:
        """Which rows are still kept, bool, shape (rows,)."""
        return np.asarray(self._code == 0)

    @property
    def quarantined(self) -> Array:
        """Which rows a person is asked to mend, bool, shape (rows,)."""
        return np.array([aside for _, aside in self._reasons])[self._code]

    def report(self, found: Found) -> None:
        """Write the rows into the ledger and keep them, whatever the settings say."""
        self.apply(found, REPORT)

    def apply(self, found: Found, action: str) -> None:
        """Write the rows into the ledger; leave them out, keep them, or raise DataError, as the action says."""
        found = replace(found, details=tuple(excerpts(found.details)))  # a detail may quote the person's own words
        if not len(found.rows):
            return
        self.ledger.append((found, action))
        if action in {REPORT, "off"}:
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

    def explain(self, rows: Array, details: list[str | None] | None = None) -> tuple[list[str], list[str]]:
        """(reason, detail) of rows that were left out by `apply`; of rejected rows the reader's own detail, masked.

        details: the reader's own, one a row, where they are at hand; else the store is asked for them.
        """
        reasons = [self._reasons[code][0] for code in self._code[rows].tolist()]
        own = self._store.values("detail", rows) if details is None else details
        shown = excerpts([detail or "" for detail in own])
        others = self._other[rows]
        paired = np.flatnonzero(others >= 0)
        for place, where in zip(paired.tolist(), self.places.where(others[paired]), strict=True):
            shown[place] = f"{OTHER[reasons[place]]} {where}"
        for place, row in enumerate(rows.tolist()):
            shown[place] = self._details.get(row, shown[place])
        return reasons, shown
