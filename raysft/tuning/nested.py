"""How good the whole procedure is: search within all folds but one, score what is chosen there on that one, in turn.

The score of the chosen configuration on the folds by which it was chosen flatters it; rows that no choice has seen do
not (Varma, Simon 2006, BMC Bioinformatics 7:91).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from raysft.errors import TrainingFailed
from raysft.events import Listener
from raysft.preparation.prepared import Prepared
from raysft.tuning.choose import choose
from raysft.tuning.director import Director, Errand, FoldJob, Together
from raysft.tuning.engine import run_search
from raysft.tuning.held_out import Part, out_of_fold
from raysft.tuning.parameter import Settings
from raysft.tuning.record import Units
from raysft.tuning.results import Trial
from raysft.tuning.slots import Slots
from raysft.tuning.work import FoldId, Work


def nested_estimate(
    work: Work,
    folds: Sequence[int],
    objectives: dict[str, str],
    epochs: int,
    units: Units,
    slots: Slots,
    prepared: Prepared,
    listener: Listener,
) -> dict[str, Any]:
    """(scores with intervals, what was chosen without each fold), as result.json holds them."""
    searches = {
        fold: Director.of(
            work, [each for each in folds if each != fold], objectives, epochs, units, slots.count, without=fold
        )
        for fold in folds
    }
    for fold, search in searches.items():
        search.told = partial(_tell, listener, fold)
    run_search(work, Together(searches), slots)
    chosen = {fold: _chosen_by(search, fold, listener) for fold, search in searches.items()}
    scoring = {fold: FoldId(fold, nested=True) for fold in folds}
    jobs = [
        FoldJob(trial.number, _with_threshold(work, trial), scoring[fold])
        for fold, trial in chosen.items()
        if not work.fold_folder(trial.number, scoring[fold]).done.exists()
    ]
    errand = Errand(jobs, listener.note)
    run_search(work, errand, slots)
    for job, why in errand.failures.items():
        raise TrainingFailed(
            f"nested: what was chosen without fold {job.fold.fold} could not be scored on it: {why}",
            "Mend the cause; the same command goes on.",
        )
    corpus = pq.read_table(prepared.folder.corpus(sealed=False))
    parts = [Part(trial.number, scoring[fold], trial.epoch) for fold, trial in chosen.items()]
    scores, _ = out_of_fold(work, parts, corpus, prepared.labels)
    return {
        "metrics": {name: asdict(estimate) for name, estimate in scores.items()},
        "chosen": {str(fold): {"settings": trial.settings, "epoch": trial.epoch} for fold, trial in chosen.items()},
    }


def _chosen_by(search: Director, fold: int, listener: Listener) -> Trial:
    """What a search takes that has never seen this fold."""
    finished = search.race.finished
    if not finished:
        raise TrainingFailed(
            f"nested: no configuration was trained without fold {fold}", "The same command goes on; see its lines."
        )
    choice = choose(finished, search.tune.one_standard_error)
    listener.note(f"without fold {fold}: trial {choice.trial}, {choice.why}")
    return search.race.trials[choice.trial]


def _with_threshold(work: Work, trial: Trial) -> Settings:
    """Where a row may have several labels, with the threshold of the inner folds: that of the fold itself flatters."""
    if not work.space.job.config.data.multi_label:
        return trial.settings
    return {**trial.settings, "train.threshold": round(trial.mean("threshold"), 4)}


def _tell(listener: Listener, fold: int, news: str) -> None:
    if news:
        listener.note(f"without fold {fold}: {news}")
