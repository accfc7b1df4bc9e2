"""metrics.jsonl: loss, rate and gradient norm of every step, scores of every evaluation, and why training ended.

Losses stay on the device and are read back together, LOG_STEPS at a time, so that the device never waits for the host.
Only then is it known how long steps took, so the last line of each such window says how fast the window was.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from raysft.corpus.sampler import Sampler
from raysft.errors import TrainingFailed
from raysft.training import ranks
from raysft.training.checkpoint import Progress
from raysft.training.stability import Guard, applied
from raysft.training.tracking import Tracking

LOG_STEPS = 10


class Journal:
    """One line per step and per evaluation, in order; rank 0 writes."""

    def __init__(self, path: Path, device: torch.device, sampler: Sampler, guard: Guard, tracking: Tracking) -> None:
        self._path, self._device, self._sampler = path, device, sampler
        self._guard, self._tracking = guard, tracking
        self._since = Progress()  # when the window at hand began
        self._losses = torch.zeros(LOG_STEPS, device=device)
        self._norms = torch.zeros(LOG_STEPS, device=device)
        self._lines: list[dict[str, Any]] = []

    @property
    def full(self) -> bool:
        return len(self._lines) == LOG_STEPS

    def step(self, step: int, rate: float, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Remember one update; `loss` is this rank's share of the mean loss."""
        slot = len(self._lines)
        self._losses[slot], self._norms[slot] = loss, norm
        self._lines.append({"step": step, "epoch": self._sampler.epochs_done(step), "rate": rate})

    def remark(self, found: dict[str, Any]) -> None:
        """Add what else happened in the step remembered last."""
        self._lines[-1] |= found

    def write(self, progress: Progress, current_s: float) -> None:
        """Read back and append what is pending; `current_s` is the time of the step at hand.

        Raises TrainingFailed at a number that is not finite, as train.on_nonfinite asks.
        """
        if not self._lines:
            return
        count = len(self._lines)
        losses = ranks.total(self._losses[:count].clone()).tolist()
        norms = self._norms[:count].tolist()
        for place, (line, loss, norm) in enumerate(zip(self._lines, losses, norms, strict=True)):
            try:
                line |= self._guard.report(line["step"], loss, norm, progress)
            except TrainingFailed:
                self._append(self._lines[:place])
                raise
        now = replace(progress, seconds=progress.seconds + current_s)
        self._lines[-1] |= window(self._since, now)
        self._lines[-1] |= {"memory_bytes": peak_memory(self._device), "total_steps": self._sampler.total}
        self._append(self._lines)
        self._since, self._lines = now, []

    def evaluation(self, step: int, scores: dict[str, float], seconds: float) -> None:
        """Append the validation scores after an epoch."""
        line = {"step": step, "epoch": round(self._sampler.epochs_done(step)), "eval_s": round(seconds, 3)}
        self._append([line | {f"validation_{name}": value for name, value in scores.items()}])

    def end(self, step: int, reason: str) -> None:
        """Append the last line: why training ended."""
        self._append([{"step": step, "ended": reason}])

    def begin(self, progress: Progress) -> list[float]:
        """Drop lines after the step where training begins, and the last line of one that had ended: a resumed run will
        write them again; a torn last line goes with them.

        Returns the finite losses of the steps that stay, in order.
        """
        self._since, step = replace(progress), progress.step
        self._tracking.open(step)
        return ranks.on_first_rank(lambda: _truncate(self._path, step))

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        self._tracking.write(lines)
        lines[-1] |= self._tracking.news()
        text = "".join(json.dumps(line) + "\n" for line in lines)

        def write() -> None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)

        ranks.on_first_rank(write)


def window(since: Progress, now: Progress) -> dict[str, float]:
    """How fast the steps between two moments were, over all ranks. Tokens are real ones, without padding.

    data_wait_s: how long the first rank waited for batches, a part of the seconds.
    """
    seconds = max(now.seconds - since.seconds, 1e-9)
    tokens, positions = now.tokens - since.tokens, now.padded - since.padded
    return {
        "seconds": round(now.seconds, 3),
        "examples_per_s": round((now.examples - since.examples) / seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "padding_share": round(1 - tokens / max(1, positions), 4),
        "data_wait_s": round(now.waited - since.waited, 4),
    }


def peak_memory(device: torch.device) -> int:
    """Most bytes so far: of tensors on a GPU, else of this whole process as the system counts them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _truncate(path: Path, step: int) -> list[float]:
    kept, losses = [], []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            if line["step"] <= step and "ended" not in line:
                kept.append(text + "\n")
                losses += [line["loss"]] if applied(line) else []
        except ValueError:
            continue
    path.write_text("".join(kept), encoding="utf-8")
    return losses
