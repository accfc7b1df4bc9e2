"""Which folds validate in turn, and what of the data makes that impossible."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from raysft.config import Job
from raysft.folds.assign import GIVEN
from raysft.preparation.prepared import Prepared
from raysft.tuning.record import Units

OWN = 0  # the number under which the person's own validation rows are the only fold


def cv_folds(job: Job, prepared: Prepared) -> list[int]:
    """The folds that validate in turn, each once; by time all but the oldest, which has nothing older to learn from.

    Where the person brought validation rows these are the only fold. Raises JobFileError where nothing validates.
    """
    if prepared.k:
        return list(range(1 if prepared.order == "time" else 0, prepared.k))
    folds = pq.read_table(prepared.folder.corpus(sealed=False), columns=["fold"]).column("fold").to_numpy()
    if (folds == GIVEN).any():
        return [OWN]
    raise job.problem("folds.k", "a search needs rows that validate, and there are none; use folds.k: 5, or name some")


def refuse_small_classes(job: Job, prepared: Prepared) -> None:
    """Raise JobFileError where a label has fewer rows than there are folds: some fold would not know it."""
    if job.config.task != "classification" or not prepared.k:
        return
    counts = {
        label: sum(rows for fold, rows in per_fold.items() if int(fold) >= 0)
        for label, per_fold in prepared.stored_labels.items()
    }
    small = {label: rows for label, rows in counts.items() if rows < prepared.k}
    if not small:
        return
    fewest = min(small.values())
    shown = ", ".join(f"{label} ({rows})" for label, rows in sorted(small.items(), key=lambda each: each[1])[:5])
    more = f" and {len(small) - 5} more" if len(small) > 5 else ""
    fix = f"use folds.k: {fewest}" if fewest > 1 else "leave them out or label more rows"
    raise job.problem(
        "folds.k",
        f"each of {prepared.k} folds needs a row of every label to be validated on; fewer rows have "
        f"{shown}{more}; {fix}",
    )


def units_of(prepared: Prepared) -> Units:
    """Which rows belong together."""
    corpus = pq.read_table(prepared.folder.corpus(sealed=False), columns=["row_id", "unit"])
    _, unit = np.unique(corpus.column("unit").to_numpy(), return_inverse=True)
    return Units(corpus.column("row_id").to_numpy(), unit)
