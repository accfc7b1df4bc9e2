"""One thing found in a corpus, as audit.json, the page and the table in the terminal show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

LEVELS = ("fine", "note", "warning")
EXAMPLES = 20  # kept of each finding


@dataclass(frozen=True)
class Example:
    """One row, label or pair that shows a finding."""

    where: str  # "tickets.csv:12"; "" where it is not about one row
    text: str = ""
    label: str = ""
    detail: str = ""  # what it was compared with, or what was seen


@dataclass(frozen=True)
class Finding:
    """What was looked for, how much was found, and what became of it."""

    name: str  # key below data.audit, or of a fixed check: duplicates, conflicts, blank_text, ...
    title: str  # "Exact duplicates"
    found: int
    unit: str  # "rows", "labels", "clusters"
    action: str  # report, drop, quarantine, fail; "" where there is no choice
    level: str = "fine"  # fine | note | warning
    explanation: str = ""  # one sentence: what it means and what to do
    examples: tuple[Example, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
