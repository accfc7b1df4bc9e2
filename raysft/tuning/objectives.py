"""By which measures a search judges, and which way of each is better."""

from __future__ import annotations

from collections.abc import Iterator

from raysft.config import Job, JobConfig
from raysft.errors import Problem
from raysft.metrics.measures import is_loss, measures_of

TIME = "prediction_ms"  # of a text, where the folds are trained; no matter of rows
NO_AIM = {"ece": "is low too where nothing is known, so it is no aim", "f1_weighted": "is no aim here; use f1_macro"}


def objectives_of(config: JobConfig) -> dict[str, str]:
    """Measure -> "max" or "min"; the choice is made by the first."""
    written = config.tune.objectives if config.tune else None
    if written is not None:
        return dict(written)
    return {"f1_macro": "max", "loss": "min"} if "f1_macro" in measures_of(config) else {"loss": "min"}


def objective_problems(job: Job) -> Iterator[Problem]:
    """Measures that this job does not have or that are no aim, and directions that are the worse ones."""
    known = [name for name in measures_of(job.config) if name not in NO_AIM]
    for place, (name, direction) in enumerate(objectives_of(job.config).items()):
        better = "min" if is_loss(name) or name == TIME else "max"
        text = ""
        if name == TIME and not place:
            text = f"cannot be the first, by which rows are compared; begin with {known[0]}"
        elif name in NO_AIM:
            text = f"{NO_AIM[name]}; this job may have {', '.join(known)}"
        elif name not in (*known, TIME):
            text = f"this job measures {', '.join(known)}, and {TIME} beside them; found {name}"
        elif direction != better:
            text = f"is the better the {'lower' if better == 'min' else 'higher'}: write {better}, found {direction}"
        if text:
            yield Problem(job.where("tune", "objectives", name), f"tune.objectives.{name}", text)
