"""What a sweep gives back: result.json, which `--json` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raysft.storage.commit import read_json


@dataclass(frozen=True)
class SweepResult:
    """All numbers have the folds or rows that they rest on beside them."""

    name: str
    task: str
    status: str  # done; or why nothing new was begun: the budget
    objectives: dict[str, str]
    folds: list[int]
    epochs: int
    algorithm: str
    trials: list[dict[str, Any]]  # see rows.py; the best first
    chosen: dict[str, Any]  # trial, settings, epoch, why, out_of_fold, runner_up, edges
    front: list[int]
    importance: dict[str, float]
    diagnosis: dict[str, Any]
    timing: dict[str, float]
    rows: dict[str, Any]
    report: str
    predictions: str
    metrics: dict[str, Any] = field(default_factory=dict)  # of the chosen configuration, trained on all folds
    artifact: str | None = None
    nested: dict[str, Any] | None = None
    names: dict[str, str] = field(default_factory=dict)  # short names of the keys that were searched
    asked: dict[str, Any] = field(default_factory=dict)  # how long to search, and what to do with the choice

    def to_json(self) -> dict[str, Any]:
        return {"schema": "raysft.sweep/1", **asdict(self)}

    @staticmethod
    def read(path: Path) -> SweepResult:
        values = dict(read_json(path))
        values.pop("schema")
        return SweepResult(**values)
