"""Out-of-fold predictions: every row judged by the model that has not seen it, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.metrics.influence import of_ratio
from raysft.metrics.interval import Estimate, decided_estimates
from raysft.metrics.scores import Decided
from raysft.metrics.tags import Counts, tag_estimates
from raysft.tuning.fold import HeldOut, read_held_out
from raysft.tuning.work import FoldId, Work

Array = np.ndarray[Any, Any]
WIDTH = 1.96  # standard errors of a 95% interval


@dataclass(frozen=True)
class Part:
    """A fold, and who judges it after which epoch, counted from 1."""

    trial: int
    fold: FoldId
    epoch: int


def out_of_fold(
    work: Work, parts: Sequence[Part], corpus: pa.Table, labels: Sequence[str], scored: bool = True
) -> tuple[dict[str, Estimate], pa.Table]:
    """(scores of the rows of all parts together, with their intervals; a line for each row). scored: else none.

    corpus: the open rows, in the order of row_id.
    """
    each_part = [_by_row(_at(read_held_out(work.fold_folder(part.trial, part.fold)), part.epoch)) for part in parts]
    counts = [len(each["row_id"]) for each in each_part]
    found = _joined(each_part)
    places = np.searchsorted(corpus.column("row_id").to_numpy(), found.pop("row_id"))
    rows = corpus.take(pa.array(places))
    table = rows.select(["row_id", "source", "line", "text", "label"])
    for name, values in (("trial", [part.trial for part in parts]), ("fold", [part.fold.fold for part in parts])):
        table = table.append_column(name, pa.array(np.repeat(values, counts), pa.int32()))
    for name, column in _columns(found, labels).items():
        table = table.append_column(name, column)
    return _estimates(found, rows, len(labels)) if scored else {}, table


def _at(held_out: HeldOut, epoch: int) -> dict[str, Array]:
    return {"row_id": held_out.row_id, **{name: values[epoch - 1] for name, values in held_out.found.items()}}


def _by_row(found: dict[str, Array]) -> dict[str, Array]:
    """Where a long text is judged piece by piece: what its pieces found, summed."""
    rows, row = np.unique(found["row_id"], return_inverse=True)
    if len(rows) == len(row):
        return found
    summed = {"row_id": rows}
    for name, values in found.items():
        if name != "row_id":
            summed[name] = np.zeros((len(rows), *values.shape[1:]), np.result_type(values.dtype, np.float64))
            np.add.at(summed[name], row, values)
    return summed


def _joined(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _columns(found: dict[str, Array], labels: Sequence[str]) -> dict[str, pa.Array]:
    if "predicted" in found:
        names = pa.array([labels[number] for number in found["predicted"].tolist()], pa.string())
        confidence = pa.array(found["confidence"].astype(np.float64))
        return {"predicted": names, "confidence": confidence, "log_probability_of_label": pa.array(found["log_p"])}
    columns = {"loss": pa.array((found["losses"] / np.maximum(found["units"], 1)).astype(np.float64))}
    if "hits" in found:
        for name in ("hits", "true", "given"):
            columns[name] = pa.array(found[name].sum(axis=1).astype(np.int64))
    return columns


def _estimates(found: dict[str, Array], rows: pa.Table, classes: int) -> dict[str, Estimate]:
    units = rows.column("unit").to_numpy()
    if "predicted" in found:
        own = rows.column("label_id").to_numpy()
        confidence, losses = found["confidence"].astype(np.float64), -found["log_p"].astype(np.float64)
        return decided_estimates(Decided(own, found["predicted"].astype(np.int64), confidence, losses, classes), units)
    if "hits" in found:
        hits, true, given = (found[name].astype(np.int64) for name in ("hits", "true", "given"))
        return tag_estimates(
            Counts(hits, true, given, found["losses"].astype(np.float64), found["units"].astype(np.int64)), units
        )
    return {"loss": _ratio(found["losses"].astype(np.float64), found["units"].astype(np.float64), units)}


def _ratio(sums: Array, counts: Array, units: Array) -> Estimate:
    """A mean over tokens, whose error is that of the units."""
    value = float(sums.sum() / max(1.0, counts.sum()))
    _, unit = np.unique(units, return_inverse=True)
    error = math.sqrt(float((np.bincount(unit, weights=of_ratio(sums, counts)) ** 2).sum()))
    return Estimate(value, value - WIDTH * error, value + WIDTH * error, len(sums))
