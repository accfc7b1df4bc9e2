"""Everything that the page and the model card may say. Both are pure functions of these facts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from raysft.evaluation.evaluation import Evaluation, Scores

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class ReportFacts:
    """One finished run, as its files tell it."""

    name: str
    task: str
    base: str
    base_revision: str
    evaluation: Evaluation
    audit: dict[str, Any]  # raysft.preparation.prepared.Prepared.audit
    history: list[dict[str, Any]]  # the lines of metrics.jsonl
    plan: dict[str, Any]
    outcome: dict[str, Any]
    timing: dict[str, float]
    job_yaml: str
    created: str  # ISO date
    version: str
    group_column: str | None

    @property
    def scored(self) -> Scores | None:
        """The scores that the headline, the baselines and the tables of classes belong to."""
        return self.parts.get(self.evaluation.scored_on)

    @property
    def parts(self) -> dict[str, Scores]:
        """The scores of each part that has rows, test first."""
        parts = {"test": self.evaluation.test, "validation": self.evaluation.validation}
        return {name: scores for name, scores in parts.items() if scores is not None}

    @property
    def several_labels(self) -> bool:
        """Whether a row may have several labels."""
        return self.evaluation.threshold is not None

    @property
    def tagged(self) -> bool:
        """Whether the tokens of a text are tagged."""
        return self.task == "token-classification"

    @property
    def says_labels(self) -> bool:
        """Whether a causal model gives labels in its own words."""
        return self.task == "classification" and self.setting("model", "labels") == "words"

    @property
    def answered(self) -> bool:
        """Whether answers are written."""
        return self.task == "generation"

    @cached_property
    def job(self) -> dict[str, Any]:
        """The effective job file as nested dicts; empty when it cannot be read."""
        try:
            found = YAML(typ="safe").load(self.job_yaml)
        except YAMLError:
            return {}
        return dict(found) if isinstance(found, dict) else {}

    def setting(self, *keys: str) -> Any:
        """One value of the job file, such as `setting("data", "test")`; None when it is not there."""
        found: Any = self.job
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found


def series(history: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """(steps, values) of the lines that carry `name` as a finite number."""
    pairs = [(line["step"], line[name]) for line in history if "step" in line and _is_number(line.get(name))]
    return [float(step) for step, _ in pairs], [float(value) for _, value in pairs]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
