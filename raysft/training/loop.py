"""The training loop, read from top to bottom. It knows nothing of Ray and runs under any debugger.

    for each epoch: for each step: micro-batches -> loss -> gradient -> clip -> update
                    then evaluate, keep the best, save a checkpoint

Losses are summed over targets and divided once by the weight of the whole step, over all micro-batches and ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.sampler import Micro, Sampler, Step
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.judged import Judged
from raysft.model.approach import Approach
from raysft.plan.plan import choose_batching
from raysft.training import checkpoint, ranks, stopping
from raysft.training.average import Average
from raysft.training.checkpoint import Progress
from raysft.training.dropout import RowRandom, use_row_dropout
from raysft.training.forward import evaluating
from raysft.training.journal import Journal
from raysft.training.means import start_at_means
from raysft.training.memory import MicroBatch
from raysft.training.notice import Notices, Source, heed
from raysft.training.objective import Objective
from raysft.training.optimizer import after_load, build_optimizer
from raysft.training.parallel import Parallel, is_sharded
from raysft.training.precision import Precision
from raysft.training.prefetch import Prefetch
from raysft.training.scaler import LossScaler
from raysft.training.schedule import rate_factor
from raysft.training.stability import Guard, Places, by_row_id
from raysft.training.tracking import Tracking


@dataclass
class Loop:
    """One run's parts and where it is."""

    model: nn.Module
    objective: Objective
    settings: TrainSection
    micro_batch: int | None  # most rows of a forward pass
    train: TokenizedRows
    precision: Precision
    checkpoints: Path | None  # None: none are kept, and a run that is interrupted begins anew
    metrics: Path
    progress: Progress = field(default_factory=Progress)
    resumed_from: int | None = None  # step of the checkpoint this run started from
    places: Places = by_row_id  # names rows in errors
    model_settings: ModelSection = field(default_factory=ModelSection)  # which of its parts train
    strategy: str = "ddp"  # ddp | fsdp
    micro_tokens: int | None = None  # most positions of a forward pass
    packed: int | None = None  # tokens of a sequence that holds several rows
    tracking: Tracking = field(default_factory=lambda: Tracking({}))
    source: Source | None = None  # tells to stop or to move

    def __post_init__(self) -> None:
        self.device = self.precision.device
        self._random = use_row_dropout(self.model) if self.device.type == "cpu" else RowRandom()
        self.approach = Approach(self.model, self.model_settings, self.settings)
        self._parallel = Parallel(self.model, self.settings, self.strategy, self.precision, self._random)
        self.groups = self.approach.groups()  # after sharding, which replaces parameters
        self.optimizer = build_optimizer(self.groups, self.settings)
        batching = choose_batching(self.settings, self.micro_batch, self.micro_tokens, self.packed)
        self.sampler = Sampler(self.train.lengths, batching, self.settings.seed, self.settings.epochs)
        self.average = Average.of(self.model, self.groups, self.settings.average)
        self._prefetch = Prefetch(self.objective.batch, ahead=self.device.type == "cuda")
        self._micro = MicroBatch(self.sampler.parts)
        self._scaler = LossScaler(self.device, enabled=self.precision.name == "fp16")
        self._guard = Guard(self.settings.on_nonfinite, self._scaler, self.train.row_id, self.places)
        self._journal = Journal(self.metrics, self.device, self.sampler, self._guard, self.tracking)
        self._notices = Notices(self.source)

    @property
    def kept(self) -> Path:
        """Where checkpoints are, of a loop that keeps them."""
        assert self.checkpoints is not None
        return self.checkpoints

    def run(self) -> Progress:
        """Train from wherever the newest valid checkpoint is to the end; returns the final progress."""
        for _ in self.epochs():
            pass
        return self.progress

    def epochs(self) -> Iterator[Judged]:
        """Train as `run` does, and give what each evaluation found, before the epoch's checkpoint is saved.

        Whoever leaves off keeps the checkpoints of the epochs before. Raises Interrupted or Moving where the run is
        told so (training/notice.py), once the step at hand is saved.
        """
        self._resume()
        if self.model_settings.head_start == "means" and self.progress.step == 0:
            start_at_means(self.model, self.objective, self.train, self.precision)
        self._agree_on_micro_batch()
        while not self.progress.ended:
            epoch, done = self.sampler.place(self.progress.step)
            self._begin_epoch(epoch)
            for step in self._prefetch.ahead(self.sampler.steps(epoch)[done:], epoch, self._mine):
                self._step(step)
            yield self._evaluate()
            self._save()
            if not self.progress.ended:
                heed(self._notices.now(self.progress.step), self.progress.step)
        self._prefetch.close()
        self._journal.end(self.progress.step, self.progress.ended)
        ranks.require_same_weights(self.model, "at the end")

    def _begin_epoch(self, epoch: int) -> None:
        if self.approach.begin(epoch):
            self._parallel.rewrap(self.model)
            self._agree_on_micro_batch()
        self.approach.train_mode()

    def _mine(self, step: Step) -> list[Micro]:
        """The micro-batches of a step that this rank computes, turn after turn."""
        pieces = self._micro.pieces(step)
        return [pieces[index] for index, _ in _turns(len(pieces))]

    def _resume(self) -> None:
        folder = self.checkpoints
        found = None if folder is None else ranks.on_first_rank(lambda: checkpoint.newest(folder))
        if found is not None:
            self.progress = checkpoint.load(found, self.model, self.optimizer)
            after_load(self.optimizer)
            self.average.load(checkpoint.load_average(found, self.average.state()))
            self.resumed_from = self.progress.step
        self._scaler.load(self.progress.scaler)
        self._micro.resume(self.progress)
        self._guard.spikes.feed_all(self._journal.begin(self.progress))
        ranks.require_same_weights(self.model, "at the start")

    def _step(self, step: Step) -> None:
        """One update on one global batch, and what has to happen after it."""
        started = time.perf_counter()
        self._update(step)
        self._count(self._micro.pieces(step))
        done = self.progress.step
        ends_epoch = done in self.sampler.ends
        told = "" if ends_epoch else self._notices.at(done)  # at its end, when it is evaluated and saved
        due = bool(self.settings.save_every) and done % (self.settings.save_every or 1) == 0
        saves = bool(told) or (due and not ends_epoch)
        if self._journal.full or self._guard.alarm or ends_epoch or saves or done == 1:
            self._journal.write(self.progress, time.perf_counter() - started)
        self.progress.seconds += time.perf_counter() - started
        if done == 1:
            ranks.require_same_weights(self.model, "after the first step")
        if saves:
            self._save()
        heed(told, done)

    def _update(self, step: Step) -> None:
        """Rate, gradient, clip, update."""
        settings = self.settings
        factor = rate_factor(self.progress.step, self.sampler.total, settings.warmup, settings.schedule, settings.decay)
        for group, peak in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = peak.learning_rate * factor
        loss = self._micro.compute(self._gradient, step, clear=self.optimizer.zero_grad)
        self._scaler.unscale(self.model.parameters())
        limit = math.inf if settings.clip_norm is None else settings.clip_norm
        norm = self._parallel.clip(self.model.parameters(), limit)
        self._guard.apply(self.optimizer, norm, self.progress.step + 1, step)
        self.average.update(self.progress.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        self._journal.step(self.progress.step + 1, settings.learning_rate * factor, loss, norm)
        self._journal.remark(self._micro.news(self.progress))

    def _gradient(self, step: Step) -> torch.Tensor:
        """Leave the gradient of the whole step in every rank; returns this rank's share of the mean loss."""
        world, (epoch, _) = ranks.world_size(), self.sampler.place(self.progress.step)
        whole = sum(self.objective.weight(micro, epoch) for micro in step) or 1.0  # 0: all rows weigh nothing
        turns = _turns(len(step))
        share = torch.zeros((), device=self.device)
        for turn, (index, weight) in enumerate(turns, start=1):
            with self._parallel.accumulating(last=turn == len(turns)):
                loss = self._loss(step[index], index, epoch) * (weight / whole)
                # The ranks' gradients are averaged; the loss is already divided by the weight of all of them.
                torch.autograd.backward(self._scaler.scaled(loss) * world)
            share += loss.detach()
        return share

    def _loss(self, rows: Micro, index: int, epoch: int) -> torch.Tensor:
        """Summed loss of one micro-batch, in float32."""
        self._seed_dropout(rows, index, epoch)
        batch = self._prefetch.take(rows, epoch)
        with self.precision.forward():
            logits = self._parallel.module(**batch.inputs).logits
        return self.objective.loss(logits, batch)

    def _agree_on_micro_batch(self) -> None:
        """Several workers find out beforehand what fits; with fsdp none can compute without the others."""
        if ranks.world_size() > 1 and not is_sharded(self.model):
            self._micro.agree(self._try, self.sampler.heaviest(), clear=self.optimizer.zero_grad)

    def _try(self, rows: Micro) -> None:
        """Forward and backward of one micro-batch, by this rank alone; leaves nothing but gradients of no meaning."""
        self.approach.train_mode()
        self._seed_dropout(rows, 0, 0)
        batch = self.objective.batch(rows, 0)
        with self.precision.forward():
            logits = self.model(**batch.inputs).logits
        torch.autograd.backward(self.objective.loss(logits, batch))

    def _seed_dropout(self, rows: Micro, index: int, epoch: int) -> None:
        """Masks that do not depend on what this process drew before: per row on CPU, per micro-batch on GPU."""
        seed, step = self.settings.seed, self.progress.step
        self._random.start(seed, epoch, rows, self.sampler.layout(rows))
        # For whatever draws elsewhere: all of it on GPU, functional dropout inside some architectures on CPU.
        torch.manual_seed(int(np.random.SeedSequence([seed, step, index]).generate_state(1)[0]))

    def _count(self, step: Step) -> None:
        self.progress.step += 1
        self.progress.examples += sum(len(micro) for micro in step)
        self.progress.tokens += int(sum(self.train.lengths[micro].sum() for micro in step))
        self.progress.padded += self.sampler.positions([step])
        self.progress.waited += self._prefetch.waited()

    def _evaluate(self) -> Judged:
        """Score the validation part, remember the best, and say whether training ends here."""
        started = time.perf_counter()
        self.model.eval()
        with self.average.in_place():
            judged = self.objective.judge(evaluating(self.model, self.precision))
        self.approach.train_mode()
        epoch = round(self.sampler.epochs_done(self.progress.step))
        stopping.judge(self.progress, judged.scores, self.settings, self.sampler.total, epoch)
        if judged.scores:
            self._journal.evaluation(self.progress.step, judged.scores, time.perf_counter() - started)
        return judged

    def _save(self) -> None:
        self.progress.scaler, self.progress.precision = self._scaler.state(), self.precision.name
        if self.checkpoints is None:
            return
        checkpoint.save(self.checkpoints, self.model, self.optimizer, self.progress, self.average.state())


def _turns(pieces: int) -> list[tuple[int, float]]:
    """Which micro-batches of a step this rank computes, and what each weighs.

    Exchanges take all ranks, so each has as many turns; those without a micro-batch of their own weigh nothing.
    """
    world = ranks.world_size()
    mine = [(index, 1.0) for index in range(ranks.rank(), pieces, world)]
    return mine + [(0, 0.0)] * (-(-pieces // world) - len(mine))
