"""How many rows were read, how many of them cannot be used, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """The books of one command over files."""

    read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # reason -> rows left out
    first: str = ""  # place, reason and detail of the first row left out

    @property
    def left_out(self) -> int:
        return self.reasons.total()

    def leave_out(self, where: str, error: str, reason: str) -> None:
        """Enter a row that cannot be used; `where` as in `new.csv:12`, `error` as `error_of` says it."""
        self.reasons[reason] += 1
        self.first = self.first or f"{where}: {error}"

    def reasons_said(self) -> str:
        """`not_utf8 12, blank_text 3`, most first."""
        return ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())


def error_of(reason: str, detail: str) -> str:
    """`text_is_not_text: found a list of 2`, or the reason alone."""
    return f"{reason}: {detail}" if detail else reason
