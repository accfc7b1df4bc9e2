"""The training loop, read from top to bottom. It knows nothing of Ray and runs under any debugger.

    for each epoch: for each step: micro-batches -> loss -> gradient -> clip -> update
                    then evaluate, keep the best, save a checkpoint

Losses are summed over targets and divided once by the weight of the whole step, over all micro-batches and ranks.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config.sections import TrainSection
from raysft.corpus.sampler import Micro, Step, epoch_steps, padded_tokens, steps_per_epoch
from raysft.corpus.tokens import TokenizedRows
from raysft.model.groups import parameter_groups
from raysft.training import checkpoint, ranks
from raysft.training.checkpoint import Progress
from raysft.training.dropout import RowRandom, use_row_dropout
from raysft.training.forward import evaluating
from raysft.training.journal import Journal
from raysft.training.objective import Objective
from raysft.training.optimizer import build_optimizer
from raysft.training.parallel import Parallel
from raysft.training.precision import Precision
from raysft.training.schedule import rate_factor


@dataclass
class Loop:
    """One run's parts and where it is."""

    model: nn.Module
    objective: Objective
    settings: TrainSection
    micro_batch: int
    train: TokenizedRows
    precision: Precision
    checkpoints: Path
    metrics: Path
    progress: Progress = field(default_factory=Progress)
    resumed_from: int | None = None  # step of the checkpoint this run started from

    def __post_init__(self) -> None:
        self.device = self.precision.device
        self.model.to(self.device)
        self._random = use_row_dropout(self.model) if self.device.type == "cpu" else RowRandom()
        self._parallel = Parallel(self.model)
        self.groups = parameter_groups(self.model, self.settings)  # after sharding, which replaces parameters
        self.optimizer = build_optimizer(self.groups, self.settings)
        self.per_epoch = steps_per_epoch(len(self.train), self.settings.batch_size)
        self.total_steps = self.per_epoch * self.settings.epochs
        self._journal = Journal(self.metrics, self.device, self.per_epoch, self.total_steps)

    def run(self) -> Progress:
        """Train from wherever the newest valid checkpoint is to the end; returns the final progress."""
        self._resume()
        while self.progress.step < self.total_steps:
            epoch, done = divmod(self.progress.step, self.per_epoch)
            self.model.train()
            for step in self._steps(epoch)[done:]:
                self._step(step)
            self._evaluate()
            self._save()
        ranks.require_same_weights(self.model, "at the end")
        return self.progress

    def _steps(self, epoch: int) -> list[Step]:
        settings = self.settings
        return epoch_steps(self.train.lengths, settings.batch_size, self.micro_batch, settings.seed, epoch)

    def _resume(self) -> None:
        found = ranks.on_first_rank(lambda: checkpoint.newest(self.checkpoints))
        if found is not None:
            self.progress = checkpoint.load(found, self.model, self.optimizer)
            self.resumed_from = self.progress.step
        self._journal.keep_until(self.progress.step)
        ranks.require_same_weights(self.model, "at the start")

    def _step(self, step: Step) -> None:
        """One update on one global batch, and what has to happen after it."""
        started = time.perf_counter()
        self._update(step)
        self._count(step)
        done = self.progress.step
        ends_epoch = done % self.per_epoch == 0
        saves = bool(self.settings.save_every) and done % (self.settings.save_every or 1) == 0 and not ends_epoch
        if self._journal.full or ends_epoch or saves or done == 1:
            self._journal.write(self.progress, time.perf_counter() - started)
        self.progress.seconds += time.perf_counter() - started
        if done == 1:
            ranks.require_same_weights(self.model, "after the first step")
        if saves:
            self._save()

    def _update(self, step: Step) -> None:
        """Rate, gradient, clip, update."""
        settings = self.settings
        factor = rate_factor(self.progress.step, self.total_steps, settings.warmup, settings.schedule)
        for group, peak in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = peak.learning_rate * factor
        loss = self._gradient(step)
        limit = math.inf if settings.clip_norm is None else settings.clip_norm
        norm = self._parallel.clip(self.model.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._journal.step(self.progress.step + 1, settings.learning_rate * factor, loss, norm)

    def _gradient(self, step: Step) -> torch.Tensor:
        """Leave the gradient of the whole step in every rank; returns this rank's share of the mean loss."""
        world, epoch = ranks.world_size(), self.progress.step // self.per_epoch
        whole = sum(self.objective.weight(micro, epoch) for micro in step)
        mine = list(range(ranks.rank(), len(step), world))
        # A rank without a micro-batch in a short last step still takes part in the all-reduce, with weight zero.
        turns, weight = (mine, 1.0) if mine else ([0], 0.0)
        share = torch.zeros((), device=self.device)
        for index in turns:
            with self._parallel.accumulating(last=index == turns[-1]):
                loss = self._loss(step[index], index, epoch) * (weight / whole)
                # The ranks' gradients are averaged; the loss is already divided by the weight of all of them.
                torch.autograd.backward(loss * world)
            share += loss.detach()
        return share

    def _loss(self, rows: Micro, index: int, epoch: int) -> torch.Tensor:
        """Summed loss of one micro-batch, in float32."""
        self._seed_dropout(rows, index, epoch)
        batch = self.objective.batch(rows, epoch)
        with self.precision.forward():
            logits = self._parallel.module(**batch.inputs).logits
        return self.objective.loss(logits, batch)

    def _seed_dropout(self, rows: Micro, index: int, epoch: int) -> None:
        """Masks that do not depend on what this process drew before: per row on CPU, per micro-batch on GPU."""
        seed, step = self.settings.seed, self.progress.step
        self._random.start(seed, epoch, rows, self.train.lengths[rows])
        # For whatever draws elsewhere: all of it on GPU, functional dropout inside some architectures on CPU.
        torch.manual_seed(int(np.random.SeedSequence([seed, step, index]).generate_state(1)[0]))

    def _count(self, step: Step) -> None:
        self.progress.step += 1
        self.progress.examples += sum(len(micro) for micro in step)
        self.progress.tokens += int(sum(self.train.lengths[micro].sum() for micro in step))
        self.progress.padded += padded_tokens(self.train.lengths, [step])

    def _evaluate(self) -> None:
        """Score the validation part and remember the best; without one the last step is the best."""
        started = time.perf_counter()
        self.model.eval()
        found = self.objective.evaluate(evaluating(self.model, self.precision))
        self.model.train()
        if not found:
            self.progress.best_step = self.progress.step
            return
        score = -found["loss"] if self.settings.select == "loss" else found[self.settings.select]
        candidate: list[Any] = [score, -found["loss"]]  # equal scores: the lower loss
        if not self.progress.best or candidate > self.progress.best:
            self.progress.best, self.progress.best_step = candidate, self.progress.step
        self._journal.evaluation(self.progress.step, found, time.perf_counter() - started)

    def _save(self) -> None:
        ranks.on_first_rank(lambda: checkpoint.save(self.checkpoints, self.model, self.optimizer, self.progress))
