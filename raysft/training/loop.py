"""The training loop, read from top to bottom. It knows nothing of Ray and runs under any debugger.

    for each epoch: for each step: micro-batches -> loss -> gradient -> clip -> update
                    then evaluate, keep the best, save a checkpoint

Losses are summed over rows and divided once by the rows of the whole step, over all micro-batches and ranks.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from raysft.config.sections import TrainSection
from raysft.corpus.sampler import Step, epoch_steps, padded_tokens, steps_per_epoch
from raysft.corpus.tokens import TokenizedRows
from raysft.errors import TrainingFailed
from raysft.metrics.scores import point_metrics
from raysft.model.groups import Group
from raysft.training import checkpoint, ranks
from raysft.training.checkpoint import Progress
from raysft.training.dropout import RowRandom, use_row_dropout
from raysft.training.forward import collate, predict_logits
from raysft.training.precision import autocast
from raysft.training.schedule import rate_factor

LOG_STEPS = 10  # steps whose losses are read back together, so that the device never waits for the host


@dataclass
class Loop:
    """One run's parts and where it is."""

    model: nn.Module
    groups: list[Group]
    settings: TrainSection
    micro_batch: int
    train: TokenizedRows
    validation: TokenizedRows | None
    device: torch.device
    precision: str
    pad_id: int
    checkpoints: Path
    metrics: Path
    progress: Progress = field(default_factory=Progress)
    resumed_from: int | None = None  # step of the checkpoint this run started from

    def __post_init__(self) -> None:
        self.model.to(self.device)
        self._random = use_row_dropout(self.model) if self.device.type == "cpu" else RowRandom()
        parameters = [
            {"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay} for g in self.groups
        ]
        self.optimizer = torch.optim.AdamW(parameters, fused=True)
        self.per_epoch = steps_per_epoch(len(self.train), self.settings.batch_size)
        self.total_steps = self.per_epoch * self.settings.epochs
        self._losses = torch.zeros(LOG_STEPS, device=self.device)
        self._norms = torch.zeros(LOG_STEPS, device=self.device)
        self._pending: list[dict[str, Any]] = []

    def run(self) -> Progress:
        """Train from wherever the newest valid checkpoint is to the end; returns the final progress."""
        self._resume()
        self._module = DistributedDataParallel(self.model) if ranks.world_size() > 1 else self.model
        while self.progress.step < self.total_steps:
            epoch, done = divmod(self.progress.step, self.per_epoch)
            steps = epoch_steps(
                self.train.lengths, self.settings.batch_size, self.micro_batch, self.settings.seed, epoch
            )
            self.model.train()
            for step in steps[done:]:
                self._step(step)
            self._end_of_epoch(epoch + 1)
        ranks.require_same_weights(self.model, "at the end")
        return self.progress

    def _resume(self) -> None:
        found = ranks.on_first_rank(lambda: checkpoint.newest(self.checkpoints))
        if found is not None:
            self.progress = checkpoint.load(found, self.model, self.optimizer)
            self.resumed_from = self.progress.step
        ranks.on_first_rank(lambda: _keep_until(self.metrics, self.progress.step))
        ranks.require_same_weights(self.model, "at the start")

    def _step(self, step: Step) -> None:
        """One optimizer update on one global batch."""
        started = time.perf_counter()
        progress, settings = self.progress, self.settings
        factor = rate_factor(progress.step, self.total_steps, settings.warmup, settings.schedule)
        for group, peak in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = peak.learning_rate * factor
        rows = sum(len(micro) for micro in step)
        loss = self._forward_backward(step, rows)
        limit = settings.clip_norm if settings.clip_norm is not None else math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        slot = len(self._pending)
        self._losses[slot], self._norms[slot] = loss, norm
        progress.step += 1
        progress.examples += rows
        progress.tokens += int(sum(self.train.lengths[micro].sum() for micro in step))
        progress.padded += padded_tokens(self.train.lengths, [step])
        self._pending.append({"step": progress.step, "rate": settings.learning_rate * factor})
        last_of_epoch = progress.step % self.per_epoch == 0
        first = progress.step == 1
        if len(self._pending) == LOG_STEPS or last_of_epoch or first:
            self._write_losses()
        progress.seconds += time.perf_counter() - started
        if first:
            ranks.require_same_weights(self.model, "after the first step")
        if settings.save_every and progress.step % settings.save_every == 0 and not last_of_epoch:
            self._write_losses()
            self._save()

    def _forward_backward(self, step: Step, rows: int) -> torch.Tensor:
        """Gradients of the whole step in every rank; returns this rank's share of the mean loss."""
        world = ranks.world_size()
        mine = list(range(ranks.rank(), len(step), world))
        share = torch.zeros((), device=self.device)
        # A rank without a micro-batch in a short last step still takes part in the all-reduce, with weight zero.
        for index in mine or [0]:
            self._seed_dropout(step[index], index)
            last = index == (mine or [0])[-1]
            waiting = self._module.no_sync() if world > 1 and not last else nullcontext()  # type: ignore[operator]
            with waiting:
                batch = collate(self.train, step[index], self.pad_id, self.device)
                with autocast(self.device, self.precision):
                    logits = self._module(**batch.inputs()).logits
                loss = (
                    cross_entropy(
                        logits.float(),
                        batch.labels,
                        reduction="sum",
                        label_smoothing=self.settings.label_smoothing,
                    )
                    / rows
                )
                if not mine:
                    loss = loss * 0
                (loss * world).backward()  # DDP averages over the ranks; the loss is already divided by all rows
            share += loss.detach()
        return share

    def _seed_dropout(self, rows: np.ndarray[Any, Any], index: int) -> None:
        """Masks that do not depend on what this process drew before: per row on CPU, per micro-batch on GPU."""
        seed, step = self.settings.seed, self.progress.step
        self._random.start(seed, step // self.per_epoch, rows, self.train.lengths[rows])
        if self.device.type != "cpu":
            torch.manual_seed(int(np.random.SeedSequence([seed, step, index]).generate_state(1)[0]))

    def _write_losses(self) -> None:
        """Read back the pending losses in one go, check them and append them to metrics.jsonl."""
        if not self._pending:
            return
        count = len(self._pending)
        losses = ranks.total(self._losses[:count].clone()).tolist()
        norms = self._norms[:count].tolist()
        for line, loss, norm in zip(self._pending, losses, norms, strict=True):
            line |= {"loss": loss, "grad_norm": norm, "epoch": line["step"] / self.per_epoch}
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingFailed(
                    f"the loss or its gradient is not finite at step {line['step']} (loss {loss}, gradient norm {norm})",
                    "Lower train.learning_rate and train.head_learning_rate, or use --set train.precision=fp32.",
                )
        spent = max(self.progress.seconds, 1e-9)
        self._pending[-1] |= {
            "seconds": round(self.progress.seconds, 3),
            "examples_per_s": round(self.progress.examples / spent, 2),
            "total_steps": self.total_steps,
        }
        lines, self._pending = self._pending, []
        ranks.on_first_rank(lambda: _append(self.metrics, lines))

    def _end_of_epoch(self, epoch: int) -> None:
        """Evaluate, remember the best, save."""
        self._write_losses()
        if self.validation is not None and len(self.validation):
            started = time.perf_counter()
            logits = predict_logits(self.model, self.validation, self.pad_id, self.device, self.precision)
            found = point_metrics(self.validation.label, logits)
            score = -found["loss"] if self.settings.select == "loss" else found[self.settings.select]
            candidate = [score, -found["loss"]]
            if not self.progress.best or candidate > self.progress.best:
                self.progress.best, self.progress.best_step = candidate, self.progress.step
            line = {
                "step": self.progress.step,
                "epoch": epoch,
                "eval_s": round(time.perf_counter() - started, 3),
            }
            line |= {f"validation_{name}": value for name, value in found.items()}
            ranks.on_first_rank(lambda: _append(self.metrics, [line]))
        else:
            self.progress.best_step = self.progress.step
        self._save()

    def _save(self) -> None:
        ranks.on_first_rank(lambda: checkpoint.save(self.checkpoints, self.model, self.optimizer, self.progress))


def _append(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _keep_until(path: Path, step: int) -> None:
    """Drop lines after `step`, which the resumed run will write again; a torn last line goes with them."""
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            if json.loads(text)["step"] <= step:
                kept.append(text + "\n")
        except ValueError:
            continue
    path.write_text("".join(kept), encoding="utf-8")
