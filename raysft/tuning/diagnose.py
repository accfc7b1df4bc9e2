"""Whether a configuration learns too much or too little, from its curves over the folds, and what to do about it.

Every statement rests on a paired comparison of two epochs on the same rows, or on two numbers that it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raysft.tuning.parameter import Parameter
from raysft.tuning.results import Trial, between_epochs, oriented

SURE = 2.0  # standard errors
GAP = 3.0  # validation loss in training losses, from which the rows are known by heart


@dataclass(frozen=True)
class Diagnosis:
    """kind: overfitting | underfitting | well fitted. findings: sentences; advice: what to try, most useful first."""

    kind: str
    findings: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def diagnose(trial: Trial, epochs: int) -> Diagnosis:
    """From the means over the folds, training against validation, best epoch against last. epochs: of the job."""
    measure, way = trial.primary, trial.objectives[trial.primary]
    last = len(trial.curve("loss"))
    losses, scores = trial.curve("loss"), trial.curve(measure)
    lowest = 1 + int(np.argmin(losses))
    trained = _training_loss(trial)
    findings = [
        f"after epoch {trial.epoch} of {last}: training loss {trained[trial.epoch - 1]:.3f}, validation loss "
        f"{losses[trial.epoch - 1]:.3f}, {measure} {scores[trial.epoch - 1]:.3f}"
    ]
    worse_loss = between_epochs(trial, "loss", last, lowest)
    fell = oriented(between_epochs(trial, measure, trial.epoch, last), way)
    if trial.epoch < last and fell.z > SURE:
        gap = f"{fell.value:.3f} ± {fell.error:.3f}"
        findings.append(f"{measure} is {gap} worse after the last epoch than after epoch {trial.epoch}")
        return Diagnosis("overfitting", findings, _less(trial, epochs))
    if worse_loss.z > SURE:
        findings.append(
            f"the validation loss is {worse_loss.value:.3f} ± {worse_loss.error:.3f} higher after the last epoch than "
            f"after epoch {lowest}, while {measure} is not worse: it grows too sure of what it gets wrong"
        )
        return Diagnosis("overfitting", findings, ["train.label_smoothing: 0.1", "train.average: 0.99", *_more_rows()])
    before = max(1, last - max(1, last // 4))
    rising = oriented(between_epochs(trial, measure, last, before), way)
    if last > 1 and trial.epoch == last and rising.z > SURE:
        findings.append(
            f"{measure} still rose by {rising.value:.3f} ± {rising.error:.3f} from epoch {before} to the last one"
        )
        return Diagnosis("underfitting", findings, _more(epochs))
    if trained[-1] > 0 and losses[-1] > GAP * trained[-1]:
        findings.append(
            f"the validation loss is {losses[-1] / max(trained[-1], 1e-9):.1f} times the training loss, and no longer "
            "falls: the training rows are known by heart, and only other rows can tell more"
        )
        return Diagnosis("well fitted", findings, _more_rows())
    return Diagnosis("well fitted", findings)


def edges(settings: dict[str, Any], parameters: Sequence[Parameter]) -> list[str]:
    """Where the choice stands at the end of a range that could go on, for people."""
    found = []
    for each in parameters:
        value = settings.get(each.key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        known = sorted(v for v in each.limits() if isinstance(v, int | float) and not isinstance(v, bool))
        ends = each.choices is None or len(known) > 2  # of two values one is always taken
        if ends and value in (known[0], known[-1]):
            side = "lowest" if value == known[0] else "highest"
            found.append(f"{each.key}: {value:g} is the {side} value of the search; better ones may lie beyond")
    return found


def _training_loss(trial: Trial) -> list[float]:
    count = min(len(fold.train_loss) for fold in trial.folds.values())
    return [float(np.mean([fold.train_loss[at] for fold in trial.folds.values()])) for at in range(count)]


def _less(trial: Trial, epochs: int) -> list[str]:
    return [
        f"train.epochs: {max(1, trial.epoch)} instead of {epochs}, whose rates fall sooner",
        "more regularisation: model.dropout, train.weight_decay, train.label_smoothing, or fewer parts that train "
        "(model.freeze, model.lora)",
        "a smaller model.base",
        *_more_rows(),
    ]


def _more(epochs: int) -> list[str]:
    return [
        f"train.epochs: {2 * epochs} instead of {epochs}",
        "a higher train.learning_rate, or a smaller train.batch_size, which takes more steps",
        "a larger model.base, or fewer parts that rest (model.freeze)",
    ]


def _more_rows() -> list[str]:
    return ["more labelled rows; those with the smallest f1 by class first"]
