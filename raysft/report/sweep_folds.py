"""The folds of a sweep as its page shows them: means with errors, and one fold beside another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from raysft.report.numbers import score, signed
from raysft.tuning.outcome import SweepResult


class Score(NamedTuple):
    """A mean over folds with its standard error, 0 where there is one fold."""

    value: float
    se: float

    def __str__(self) -> str:
        return score(self.value) + (f" ± {score(self.se)}" if self.se else "")


class Fold(NamedTuple):
    """A configuration on one fold. gain: how it differs from the chosen one there; style: better, worse or ""."""

    value: float
    gain: str
    style: str
    strength: float


class FoldLine(NamedTuple):
    """A configuration on every fold."""

    trial: int
    chosen: bool
    folds: list[Fold]
    mean: Score | None


def score_of(row: Mapping[str, Any], measure: str) -> Score | None:
    """The mean of a measure over the folds of a configuration; None where no number is known."""
    found = row.get(measure)
    if not isinstance(found, Mapping) or not isinstance(found.get("value"), int | float):
        return None
    se = found.get("se") or 0.0
    return Score(found["value"], se if math.isfinite(se) else 0.0) if math.isfinite(found["value"]) else None


def finished(result: SweepResult) -> list[dict[str, Any]]:
    """Rows of the configurations with all folds done, the chosen one first."""
    rows = [row for row in result.trials if row["status"] == "finished" and row.get("by_fold")]
    return sorted(rows, key=lambda row: row["trial"] != result.chosen["trial"])


def fold_lines(result: SweepResult) -> list[FoldLine]:
    """Finished configurations by fold, by the first objective."""
    measure, way = next(iter(result.objectives.items()))
    rows = [row for row in finished(result) if all(measure in each for each in row["by_fold"].values())]
    if not rows or rows[0]["trial"] != result.chosen["trial"]:
        return []
    values = [[row["by_fold"][str(fold)][measure] for fold in result.folds] for row in rows]
    largest = max((abs(one - own) for line in values for one, own in zip(line, values[0], strict=True)), default=0.0)
    found = []
    for number, (row, line) in enumerate(zip(rows, values, strict=True)):
        cells = [_fold(one, own, way, largest) for one, own in zip(line, values[0], strict=True)]
        if number == 0:
            cells = [Fold(one, "", "", 0.0) for one in line]
        found.append(FoldLine(row["trial"], number == 0, cells, score_of(row, measure)))
    return found


def _fold(value: float, own: float, way: str, largest: float) -> Fold:
    gap = value - own
    style = "" if not gap else ("better" if (gap > 0) == (way == "max") else "worse")
    return Fold(value, signed(gap), style, round(abs(gap) / largest, 3) if largest else 0.0)


def folds_of_one(result: SweepResult) -> list[tuple[int, list[float | None]]]:
    """The scores of a single configuration, a line for each fold."""
    rows = finished(result)
    by_fold = rows[0]["by_fold"] if rows else {}
    return [(int(fold), [found.get(measure) for measure in result.objectives]) for fold, found in by_fold.items()]


def folds_trained(result: SweepResult) -> tuple[int, int]:
    """(folds trained, folds of all configurations)."""
    return sum(row["folds_done"] for row in result.trials), sum(row["folds"] for row in result.trials)
