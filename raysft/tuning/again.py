"""A sweep that is asked for again: whether more is wanted of it than was done, and what of its result still holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raysft.config.tuning import TuneSection
from raysft.tuning.director import budget_of
from raysft.tuning.outcome import SweepResult
from raysft.tuning.parameter import canonical
from raysft.tuning.propose import trials_of
from raysft.tuning.space import Space

ASKED = ("trials", "hours", "cost", "price", "refit", "nested")  # of which more may be asked of the same sweep


def asked_of(tune: TuneSection) -> dict[str, Any]:
    """How long to search, and what to do with the choice, as result.json keeps it."""
    return tune.model_dump(mode="json", include=set(ASKED))


def is_finished(found: SweepResult, space: Space) -> bool:
    """Whether nothing is left to do: no configuration failed, which the same command tries again, and nothing more is
    asked for than was then. Less may be."""
    if any(row["status"] == "failed" for row in found.trials):
        return False
    then, now = space.tune.model_copy(update=found.asked), space.tune
    longer = found.status != "done" and budget_of(now)[0] > budget_of(then)[0]
    beside = any(getattr(now, name) and not getattr(then, name) for name in ("refit", "nested"))
    return not (longer or beside or trials_of(space, now) > trials_of(space, then))


def with_what_holds(result: SweepResult, before: SweepResult | None) -> SweepResult:
    """The nested estimate of an earlier result, where the search that it tells the worth of is still the same."""
    if before is None or before.nested is None or result.nested is not None or _search(before) != _search(result):
        return result
    return replace(result, nested=before.nested)


def _search(result: SweepResult) -> str:
    """What was tried, how far, and what came of it."""
    tried = sorted(
        (row["trial"], row["folds_done"], row["status"], canonical(row["settings"])) for row in result.trials
    )
    return canonical([result.status, tried, result.chosen["trial"], result.chosen["epoch"]])
