"""metrics.jsonl: loss, rate and gradient norm of every step, scores of every evaluation.

Losses stay on the device and are read back together, LOG_STEPS at a time, so that the device never waits for the host.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from raysft.errors import TrainingFailed
from raysft.training import ranks
from raysft.training.checkpoint import Progress

LOG_STEPS = 10


class Journal:
    """One line per step and per evaluation, in order; rank 0 writes."""

    def __init__(self, path: Path, device: torch.device, per_epoch: int, total_steps: int) -> None:
        self._path, self._per_epoch, self._total_steps = path, per_epoch, total_steps
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
        self._lines.append({"step": step, "epoch": step / self._per_epoch, "rate": rate})

    def write(self, progress: Progress, current_s: float) -> None:
        """Read back and append what is pending; `current_s` is the time of the step at hand.

        Raises TrainingFailed at the first number that is not finite.
        """
        if not self._lines:
            return
        count = len(self._lines)
        losses = ranks.total(self._losses[:count].clone()).tolist()
        norms = self._norms[:count].tolist()
        for line, loss, norm in zip(self._lines, losses, norms, strict=True):
            _require_finite(line["step"], loss, norm)
            line |= {"loss": loss, "grad_norm": norm}
        seconds = progress.seconds + current_s
        self._lines[-1] |= {
            "seconds": round(seconds, 3),
            "examples_per_s": round(progress.examples / max(seconds, 1e-9), 2),
            "total_steps": self._total_steps,
        }
        self._append(self._lines)
        self._lines = []

    def evaluation(self, step: int, scores: dict[str, float], seconds: float) -> None:
        """Append the validation scores after an epoch."""
        line = {"step": step, "epoch": step // self._per_epoch, "eval_s": round(seconds, 3)}
        self._append([line | {f"validation_{name}": value for name, value in scores.items()}])

    def keep_until(self, step: int) -> None:
        """Drop lines after `step`, which a resumed run will write again; a torn last line goes with them."""
        ranks.on_first_rank(lambda: _truncate(self._path, step))

    def _append(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)

        def write() -> None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)

        ranks.on_first_rank(write)


def _require_finite(step: int, loss: float, norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingFailed(
            f"the loss or its gradient is not finite at step {step} (loss {loss}, gradient norm {norm})",
            "Lower train.learning_rate and train.head_learning_rate, or use --set train.precision=fp32.",
        )


def _truncate(path: Path, step: int) -> None:
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            if json.loads(text)["step"] <= step:
                kept.append(text + "\n")
        except ValueError:
            continue
    path.write_text("".join(kept), encoding="utf-8")
