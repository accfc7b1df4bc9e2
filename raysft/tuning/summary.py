"""What a sweep found, as result.json holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysft.metrics.interval import Estimate
from raysft.preparation.prepared import Prepared
from raysft.tuning.choose import Choice
from raysft.tuning.diagnose import diagnose, edges
from raysft.tuning.director import Director
from raysft.tuning.held_out import Part, out_of_fold
from raysft.tuning.importance import importance_of
from raysft.tuning.outcome import SweepResult
from raysft.tuning.propose import algorithm_of
from raysft.tuning.results import Difference, Trial
from raysft.tuning.rows import trial_rows
from raysft.tuning.work import FoldId, Work


def summarise(
    work: Work,
    director: Director,
    choice: Choice,
    candidates: Sequence[Trial],
    prepared: Prepared,
    timing: dict[str, float],
) -> SweepResult:
    """Of a search that has ended; also writes the out-of-fold predictions of the candidates, the configurations among
    which was chosen."""
    race, space, job = director.race, work.space, work.space.job
    (taken,) = [trial for trial in candidates if trial.number == choice.trial]
    scores = _out_of_fold(work, choice, candidates, prepared)
    rows = trial_rows(race)
    for row in rows:
        if row["trial"] in scores:
            row["out_of_fold"] = _plain(scores[row["trial"]])
    return SweepResult(
        name=job.config.name,
        task=job.config.task,
        status=director.status,
        objectives=race.objectives,
        folds=list(race.folds),
        epochs=race.epochs_of(taken),
        algorithm=algorithm_of(space, space.tune),
        trials=rows,
        chosen={
            "trial": taken.number,
            "settings": taken.settings,
            "epoch": taken.epoch,
            "why": choice.why,
            "best": choice.best,
            "runner_up": choice.runner_up,
            "ahead": None if choice.ahead is None else _difference(choice.ahead),
            "out_of_fold": _plain(scores[taken.number]),
            "threshold_fitted": _fits_threshold(work, taken),
            "edges": edges(taken.settings, space.parameters),
        },
        front=choice.front,
        importance=importance_of(space, race),
        diagnosis=asdict(diagnose(taken, race.epochs_of(taken))),
        timing=timing,
        rows=prepared.audit["rows"],
        report=str(work.folder.report),
        predictions=str(work.folder.predictions),
        names=space.names(),
    )


def _out_of_fold(
    work: Work, choice: Choice, candidates: Sequence[Trial], prepared: Prepared
) -> dict[int, dict[str, Estimate]]:
    """Scores with intervals of the chosen configuration, the best and the runner-up, by their numbers; a bootstrap of
    each of hundreds would take longer than it tells."""
    shown = {choice.trial, choice.best, choice.runner_up}
    corpus = pq.read_table(prepared.folder.corpus(sealed=False))
    scores, tables = {}, []
    for trial in candidates:
        parts = [Part(trial.number, FoldId(fold), trial.epoch) for fold in sorted(trial.folds)]
        found, table = out_of_fold(work, parts, corpus, prepared.labels, scored=trial.number in shown)
        tables.append(table)
        if found:
            scores[trial.number] = found
    pq.write_table(pa.concat_tables(tables, promote_options="default"), work.folder.predictions)
    return scores


def _fits_threshold(work: Work, taken: Trial) -> bool:
    """Whether rows have several labels from a threshold that was chosen on each fold itself."""
    config = work.space.applied(taken.settings).config
    return config.data.multi_label and config.train.threshold is None


def _plain(scores: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: asdict(each) for name, each in scores.items()}


def _difference(ahead: Difference) -> dict[str, float]:
    low, high = ahead.interval()
    return {"value": ahead.value, "low": low, "high": high, "p": ahead.p}
