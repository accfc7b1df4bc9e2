"""Numbers that went wrong: updates that are not finite are never applied, and losses that jump are pointed out.

Whether an update is applied is decided on the device, by the global gradient norm, the same on every rank; a GPU is
not waited for. What came of it is known when the losses are read back (training/journal.py), on a CPU at once.
A step that was left out still counts: its rows were seen and the schedule moves on. Only weights, moments and the
optimizer's own count of steps stay as they were.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from raysft.corpus.sampler import Step
from raysft.errors import TrainingFailed
from raysft.training.checkpoint import Progress
from raysft.training.scaler import LossScaler

MOST_SKIPPED = 20  # updates in a row that are left out before the run stops
SHOWN_ROWS = 8
WINDOW, WARM = 50, 20  # losses looked back upon, and how many of them it takes
SPIKE = 8.0  # deviations above the median
SMALLEST_DEVIATION = 0.05  # of the first losses: late losses lie so close together that any would stand out
MAD_TO_SIGMA = 1.4826  # of a normal distribution
Places = Callable[[list[int]], list[str]]  # where the rows of these row_ids stand, for people


def by_row_id(row_ids: list[int]) -> list[str]:
    return [f"row_id {row_id}" for row_id in row_ids]


class Guard:
    """Applies updates, leaves out those that are not finite, and says what became of each."""

    def __init__(self, policy: str, scaler: LossScaler, row_ids: np.ndarray[Any, Any], places: Places) -> None:
        self._policy, self._scaler = policy, scaler  # policy: train.on_nonfinite
        self._row_ids, self._places = row_ids, places
        self._batches: dict[int, Step] = {}  # of the steps whose losses were not read back yet
        self.spikes = Spikes()
        self.alarm = False  # the last update was left out and that is known already

    def apply(self, optimizer: torch.optim.Optimizer, norm: torch.Tensor, step: int, batch: Step) -> None:
        """Update the weights unless the gradient norm is not finite. norm: float32 scalar, before clipping."""
        bad = ~torch.isfinite(norm)
        self._batches[step] = batch
        self.alarm = bad.device.type == "cpu" and bool(bad)
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # torch's fused kernels look at it
            optimizer.step()
            del optimizer.found_inf  # type: ignore[attr-defined]
        elif not bad:  # waits for the device: optimizers that are not fused decide on the host
            optimizer.step()
        self._scaler.update(bad)

    def report(self, step: int, loss: float, norm: float, progress: Progress) -> dict[str, Any]:
        """What metrics.jsonl says of one step, in order of steps; counts what was left out.

        loss: mean over the batch, of all ranks. Raises TrainingFailed as train.on_nonfinite asks.
        """
        batch = self._batches.pop(step)
        if math.isfinite(loss) and math.isfinite(norm):
            progress.skipped_in_a_row = 0
            jumped = {"spike": True} if self.spikes.feed(loss) else {}
            return {"loss": loss, "grad_norm": norm} | jumped
        overflow = self._scaler.enabled and math.isfinite(loss)  # the scale's doing, and mended by halving it
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        if (self._policy == "stop" and not overflow) or progress.skipped_in_a_row >= MOST_SKIPPED:
            raise self._failure(step, loss, norm, batch, progress)
        known = {name: value for name, value in (("loss", loss), ("grad_norm", norm)) if math.isfinite(value)}
        return known | ({"overflow": True} if overflow else {"skipped": True})

    def _failure(self, step: int, loss: float, norm: float, batch: Step, progress: Progress) -> TrainingFailed:
        row_ids = self._row_ids[np.concatenate(batch)].tolist()
        rows = ", ".join(self._places(row_ids[:SHOWN_ROWS])) + (", ..." if len(row_ids) > SHOWN_ROWS else "")
        again = f", the {progress.skipped_in_a_row}th step in a row" if progress.skipped_in_a_row > 1 else ""
        go_on = "Go on without such steps with --set train.on_nonfinite=skip. " if self._policy == "stop" else ""
        return TrainingFailed(
            f"the loss or its gradient is not finite at step {step} (loss {loss}, gradient norm {norm}){again}; the "
            f"update was not applied. Its batch of {len(row_ids)} rows: {rows}",
            f"{go_on}Look at these rows; or start another run (--set name=NAME) with a lower train.learning_rate and "
            "train.head_learning_rate, or with train.precision=fp32.",
        )


class Spikes:
    """Losses far above those before: more than SPIKE robust deviations above the median of the last WINDOW.

    The deviation is the median absolute one, scaled to a normal distribution's, and at least SMALLEST_DEVIATION of
    the median of the first WARM losses. A pure function of the losses in their order.
    """

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._start = 0.0

    def feed(self, loss: float) -> bool:
        """Whether this loss, the next in order, is a spike."""
        jumped = len(self._last) >= WARM and loss > self._limit()
        self._last.append(loss)
        if len(self._last) == WARM and not self._start:
            self._start = statistics.median(self._last)
        return jumped

    def feed_all(self, losses: Iterable[float]) -> None:
        """Look back upon these, as if they had been fed one by one."""
        for loss in losses:
            self.feed(loss)

    def _limit(self) -> float:
        median = statistics.median(self._last)
        deviation = MAD_TO_SIGMA * statistics.median([abs(loss - median) for loss in self._last])
        return median + SPIKE * max(deviation, SMALLEST_DEVIATION * self._start)


def applied(line: dict[str, Any]) -> bool:
    """Whether a line of metrics.jsonl is of a step whose update was applied."""
    return "loss" in line and not (line.get("skipped") or line.get("overflow"))


def warning(line: dict[str, Any]) -> str:
    """What a line of metrics.jsonl asks attention for; "" for most lines."""
    step = f"step {line.get('step')}"
    if line.get("spike"):
        helps = "a lower train.learning_rate or train.clip_norm helps, in another run (--set name=NAME)"
        return f"{step}: the loss jumped to {line['loss']:.3f}; {helps}"
    if line.get("skipped"):
        return f"{step}: left out, its loss or gradient is not finite (train.on_nonfinite: skip)"
    if parts := line.get("micro_batch_parts"):
        return f"{step}: out of memory; micro-batches are 1/{parts} as large from here on, the batch is what it was"
    return ""
