"""What a sweep has on storage: a line for each configuration that was proposed and what became of it, and its folds.

A line is on disk before anything is built on it, and a fold that is done is never trained again, so that the same
command goes on after any interruption.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.storage.layout import SweepFolder
from raysft.tuning.fold import HeldOut, read_held_out, read_record
from raysft.tuning.parameter import Settings
from raysft.tuning.results import FoldScores, Trial
from raysft.tuning.work import FoldId

Array = np.ndarray[Any, Any]


@dataclass
class Known:
    """A configuration, as the lines tell it."""

    settings: Settings
    stopped: str = ""
    behind: int | None = None  # the configuration that it could not catch
    values: dict[str, float] | None = None  # its objectives, once it was stopped or was done


@dataclass(frozen=True)
class Record:
    """The trials of one search: of the sweep, or of one of its nested ones. without: the fold that took no part."""

    folder: SweepFolder
    without: int | None = None

    def load(self) -> tuple[dict[int, Known], float]:
        """(configurations by number, seconds spent on this search so far). A torn last line is left out."""
        found: dict[int, Known] = {}
        spent = 0.0
        if not self.folder.trials.exists():
            return found, spent
        for text in self.folder.trials.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # torn, perhaps within a character
                continue
            if line.get("without") != self.without:
                continue
            spent = max(spent, float(line.get("spent", 0.0)))
            if "settings" in line:
                found[line["trial"]] = Known(line["settings"])
            elif "values" in line:
                known = found[line["trial"]]
                known.stopped, known.behind = line.get("stopped", ""), line.get("behind")
                known.values = line["values"]
            elif "again" in line:
                found[line["trial"]] = Known(found[line["trial"]].settings)
        return found, spent

    def proposed(self, trial: int, settings: Settings, spent: float) -> None:
        self._append({"trial": trial, "settings": settings}, spent)

    def ended(self, trial: Trial, values: Mapping[str, float], spent: float) -> None:
        """With all folds done, or stopped before."""
        stopped = {"stopped": trial.stopped, "behind": trial.behind} if trial.stopped else {}
        self._append({"trial": trial.number, "values": dict(values), **stopped}, spent)

    def again(self, trial: int, spent: float) -> None:
        """In the race again, after it was stopped."""
        self._append({"trial": trial, "again": True}, spent)

    def failed(self, trial: int, why: str, spent: float) -> None:
        """For people: the same command tries again."""
        self._append({"trial": trial, "failed": why}, spent)

    def spent(self, spent: float) -> None:
        self._append({}, spent)

    def _append(self, line: dict[str, Any], spent: float) -> None:
        mark = {} if self.without is None else {"without": self.without}
        self.folder.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**line, **mark, "spent": round(spent, 1)}, ensure_ascii=False) + "\n"
        with self.folder.trials.open("a+b") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read() not in (b"", b"\n")
            file.write((b"\n" if torn else b"") + text.encode())
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class Units:
    """Which unit each row belongs to: those of one customer, say, are one."""

    row_id: Array  # int64, sorted
    unit: Array  # int, of each

    def sums(self, row_id: Array, values: Array) -> Array:
        """Values of texts, or of their pieces, summed over units: (..., n) -> (..., u), by the number of the unit."""
        place = self.unit[np.searchsorted(self.row_id, row_id)]
        _, index = np.unique(place, return_inverse=True)
        count = int(index.max()) + 1 if len(index) else 0
        flat = values.reshape(-1, len(row_id)).astype(np.float64)
        summed = np.stack([np.bincount(index, weights=each, minlength=count) for each in flat])
        return summed.reshape(*values.shape[:-1], count)


def scores_of(folder: SweepFolder, trial: int, fold: FoldId, units: Units) -> FoldScores | None:
    """A fold that is done; None where it is not."""
    place = folder.fold(trial, str(fold))
    if not place.done.exists():
        return None
    record, held_out = read_record(place), read_held_out(place, influence_only=True)
    # 2 operations a parameter and position forward, 4 backward where it trains (Kaplan et al. 2020, section 2.1).
    flops = record.padded * (2.0 * record.parameters + 4.0 * record.trained)
    own = _by_unit(held_out, units)
    return FoldScores(
        scores=record.scores,
        influence=own,
        seconds=record.seconds,
        train_loss=record.train_loss,
        parameters=record.parameters,
        flops=flops,
    )


def _by_unit(held_out: HeldOut, units: Units) -> dict[str, Array]:
    return {name: units.sums(held_out.row_id, values) for name, values in held_out.influence.items()}
