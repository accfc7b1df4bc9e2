"""Which folds validate in turn, and what of the data makes that impossible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from raysft.config import Job
from raysft.corpus.tokens import read_shards
from raysft.folds.assign import GIVEN
from raysft.preparation.prepared import Prepared
from raysft.storage.pretrained import Base
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


def refuse_nested(job: Job, prepared: Prepared, folds: list[int]) -> None:
    """Raise JobFileError where no search can be made without a fold, or none on rows older than those that score."""
    if prepared.order == "time":
        raise job.problem("tune.nested", "a search without a fold would learn from newer ones; set it to false")
    if len(folds) < 3:
        raise job.problem("tune.nested", f"needs at least 3 folds, one of which is left out; there are {len(folds)}")


def refuse_other_rows(job: Job, prepared: list[Prepared]) -> None:
    """Raise JobFileError where some settings leave out other rows than the rest: there would be no common folds."""
    first = _row_ids(prepared[0])
    if all(np.array_equal(first, _row_ids(each)) for each in prepared[1:]):
        return
    raise job.problem(
        "tune.search",
        "the configurations do not have the same rows, so that their scores cannot be compared: some leave out rows "
        "that others keep; set data.audit.wrong_labels: report, or search no key on which hangs which texts fit",
    )


def refuse_other_tokens(job: Job, bases: list[Base]) -> None:
    """Raise JobFileError where a loss per token would be compared between bases that cut texts otherwise."""
    if job.config.language_task is None or job.config.labels_are_words:
        return
    if len({base.tokenizer_sha256 for base in bases}) > 1:
        raise job.problem(
            "tune.search",
            "a loss per token says nothing between bases with different tokenizers; search bases that share one, or "
            "run a sweep for each",
        )


def refuse_other_targets(job: Job, prepared: list[Prepared]) -> None:
    """Raise JobFileError where some settings learn, and score, other tokens of the same answers than the rest."""
    if job.config.task != "generation":
        return
    first = _learnt(prepared[0])
    if all(np.array_equal(first, _learnt(each)) for each in prepared[1:]):
        return
    raise job.problem(
        "tune.search",
        "the configurations do not score the same tokens, so that their losses cannot be compared: of conversations "
        "that are too long some learn fewer answers; set generation.long_prompts: reject, or search no max_length",
    )


def _learnt(prepared: Prepared) -> np.ndarray[Any, Any]:
    """How many tokens of each row are learnt, in the order of their numbers."""
    rows = read_shards(prepared.folder.tokens(sealed=False))
    _, place = np.unique(rows.row_id, return_inverse=True)
    return np.bincount(place, weights=[rows.targets(position).sum() for position in range(len(rows))])


def _row_ids(prepared: Prepared) -> np.ndarray[Any, Any]:
    corpus = pq.read_table(prepared.folder.corpus(sealed=False), columns=["row_id"])
    return np.asarray(corpus.column("row_id").to_numpy())


def units_of(prepared: Prepared) -> Units:
    """Which rows belong together."""
    corpus = pq.read_table(prepared.folder.corpus(sealed=False), columns=["row_id", "unit"])
    _, unit = np.unique(corpus.column("unit").to_numpy(), return_inverse=True)
    return Units(corpus.column("row_id").to_numpy(), unit)
