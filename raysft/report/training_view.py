"""How training went, beside what the plan said of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from raysft.report.facts import ReportFacts, series
from raysft.report.numbers import count, percent, seconds

STAGES = {
    "data_s": "Reading, audit and tokens",
    "train_s": "Training, start of the workers included",
    "evaluate_s": "Scores and reload check",
}


class Planned(NamedTuple):
    """One number that was predicted, what it became, and why it was predicted."""

    what: str
    planned: str
    happened: str
    why: str


def facts_of_training(facts: ReportFacts) -> list[tuple[str, str]]:
    """(name, value) pairs; what is not known is left out."""
    outcome, plan = facts.outcome, facts.plan
    spent = outcome.get("seconds", 0.0)
    pairs = [
        ("Steps", _count(outcome.get("last_step"))),
        ("Checkpoint kept", f"step {count(outcome['best_step'])}" if "best_step" in outcome else ""),
        ("Continued from", _resumed(outcome)),
        ("Rows trained", _count(outcome.get("examples"))),
        ("Rows per second", f"{outcome['examples'] / spent:,.1f}" if spent and "examples" in outcome else ""),
        ("Tokens per second", count(outcome["tokens"] / spent) if spent and "tokens" in outcome else ""),
        ("Padding", _share(padding(outcome))),
        ("Precision", str(outcome.get("precision", ""))),
        ("Device", str(outcome.get("device", ""))),
        ("Workers", _count(plan.get("workers"))),
        ("Micro-batch", f"up to {count(plan['micro_batch'])} of the longest rows" if "micro_batch" in plan else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def padding(outcome: dict[str, Any]) -> float | None:
    """Share of the computed positions that were padding."""
    padded = outcome.get("padded")
    return 1 - outcome["tokens"] / padded if padded and "tokens" in outcome else None


def planned(facts: ReportFacts) -> list[Planned]:
    """The plan's numbers beside the measured ones."""
    plan, outcome = facts.plan, facts.outcome
    if not plan:
        return []
    why = plan.get("why", {})
    return [
        Planned(
            "Steps",
            _count(plan.get("total_steps")),
            _count(outcome.get("last_step")),
            f"{why.get('steps_per_epoch', '')} an epoch" if why.get("steps_per_epoch") else "",
        ),
        Planned("Tokens", _count(plan.get("tokens")), _count(outcome.get("tokens")), "lengths of the training texts"),
        Planned("Padding", _share(plan.get("padding_share")), _share(padding(outcome)), "batches of the first epoch"),
        Planned(
            "Training and validation",
            _seconds(plan.get("train_s")),
            _seconds(trained_seconds(facts)),
            why.get("train_s", ""),
        ),
        Planned("Memory", _gibibytes(plan.get("memory_bytes")), "not measured", why.get("memory_bytes", "")),
    ]


def trained_seconds(facts: ReportFacts) -> float | None:
    """Seconds in steps and in the validation after each epoch: what the plan's `train_s` predicts."""
    steps = facts.outcome.get("seconds")
    return None if steps is None else float(steps) + sum(series(facts.history, "eval_s")[1])


def stages(facts: ReportFacts) -> list[tuple[str, str]]:
    """Seconds of each stage of the command that ended the run; a stage done by an earlier command is left out."""
    return [(name, seconds(facts.timing[key])) for key, name in STAGES.items() if facts.timing.get(key)]


def _resumed(outcome: dict[str, Any]) -> str:
    step = outcome.get("resumed_from")
    return "" if step is None else f"step {count(step)}, after an interruption"


def _count(number: float | None) -> str:
    return "" if number is None else count(number)


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _seconds(value: float | None) -> str:
    return "" if value is None else seconds(value)


def _gibibytes(value: float | None) -> str:
    return "" if value is None else f"{value / 2**30:.1f} GiB"
