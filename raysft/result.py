"""What `raysft train` and `raysft evaluate` give back; `to_json` is what result.json and --json hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysft.metrics.interval import Estimate
from raysft.storage.commit import read_json

if TYPE_CHECKING:  # it imports torch
    from raysft.evaluation.evaluation import Evaluation

SCHEMA = "raysft.result/1"


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    name: str
    task: str
    status: str  # done
    rows: dict[str, Any]  # read, kept, rejected {reason: rows}, and rows per part
    columns: dict[str, Any]  # role -> column, and `guessed`: the roles that were found by name
    metrics: dict[str, dict[str, Any] | None]  # test, validation -> measure -> value, low, high, n
    baselines: dict[str, Any]
    timing: dict[str, float]
    artifact: str
    report: str
    resumed_from: int | None
    model: dict[str, Any]
    data: str
    labels: list[str]
    training: dict[str, Any]
    plan: dict[str, Any]
    schema: str = field(default=SCHEMA)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": self.schema,
            **{key: value for key, value in asdict(self).items() if key != "schema"},
        }

    @staticmethod
    def read(path: Path) -> RunResult:
        """The result of a finished run."""
        return RunResult(**read_json(path))

    def measure(self, name: str, part: str = "test") -> Estimate | None:
        """One measure with its interval, e.g. `measure("f1_macro")`; None when there is no such part."""
        found = self.metrics.get(part)
        return Estimate(**found[name]) if found else None


def metrics_json(evaluation: Evaluation) -> dict[str, dict[str, Any] | None]:
    """test and validation -> measure -> value, low, high, n; None for a part without rows."""
    parts = {"test": evaluation.test, "validation": evaluation.validation}
    return {
        name: {measure: _rounded(asdict(estimate)) for measure, estimate in scores.metrics.items()} if scores else None
        for name, scores in parts.items()
    }


def baselines_json(evaluation: Evaluation) -> dict[str, Any]:
    """baseline -> measure -> value, low, high, n; `gain` is the model's macro-F1 minus the baseline's, paired."""
    return {
        name: {measure: _rounded(estimate) for measure, estimate in asdict(baseline).items()}
        for name, baseline in evaluation.baselines.items()
    }


def _rounded(estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in estimate.items()}
