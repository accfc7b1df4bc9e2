"""All that a process needs to train any configuration of a sweep on any fold, and what it keeps between two of them.

Imports Ray nowhere.
"""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.config import JobConfig
from raysft.corpus.tokens import TokenizedRows, read_shards
from raysft.model.padding import pad_id
from raysft.model.quantize import is_quantized
from raysft.plan.plan import choose_micro_rows
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import digest_of
from raysft.storage.layout import FoldFolder, SweepFolder
from raysft.storage.pretrained import Base
from raysft.training.frozen import Shelf
from raysft.training.loop import Loop
from raysft.training.tasks import build_model
from raysft.training.vocabulary import leave_out_unused
from raysft.training.worker import Task, device_of, find_base, loop_maker, use_threads
from raysft.tuning.fold import precision_on
from raysft.tuning.parameter import Settings, canonical
from raysft.tuning.search import changes_data
from raysft.tuning.space import Space

Array = np.ndarray[Any, Any]
STATES_BYTES = 4 * 2**30  # of what frozen layers give, on the disk of the output, where processes share it


@dataclass(frozen=True)
class FoldId:
    """The fold that validates. Where a search is nested: another that takes no part, or the fold that scores what was
    chosen without it."""

    fold: int
    without: int | None = None
    nested: bool = False

    def __str__(self) -> str:
        if self.nested:
            return f"{self.fold}-nested"
        return f"{self.fold}" if self.without is None else f"{self.fold}-without-{self.without}"


@dataclass(frozen=True)
class Work:
    """Travels to workers by pickle."""

    space: Space
    folder: SweepFolder
    prepared: dict[str, tuple[Base, Prepared]]  # by the settings that change the data, canonical
    measures: tuple[str, ...]  # whose influences are kept
    threads: int
    gpu: bool
    strategy: str = "ddp"
    timed: bool = False  # whether the time of a prediction counts, which replayed layers would not take

    def data(self, settings: Settings) -> tuple[Base, Prepared]:
        """The base and the data that a configuration is trained with."""
        return self.prepared[canonical({key: value for key, value in settings.items() if changes_data(key)})]

    def fold_folder(self, trial: int, fold: FoldId) -> FoldFolder:
        return self.folder.fold(trial, str(fold))

    def task(self, trial: int, settings: Settings, fold: FoldId) -> Task:
        """What trains this configuration on all folds but this one. Raises JobFileError."""
        base, prepared = self.data(settings)
        job = self.space.applied(settings)
        config = _as_a_fold(job.config)
        return Task(
            config=config,
            job_folder=job.folder,
            base=base,
            data=replace(prepared, validation=fold.fold, without=fold.without),
            run=self.fold_folder(trial, fold),
            micro_batch=choose_micro_rows(config.train),
            threads=self.threads,
            gpu=self.gpu,
            strategy=self.strategy,
        )


def _rests(config: JobConfig) -> bool:
    """Whether frozen layers may give the same again. Where hidden words are learnt, others are hidden in each epoch."""
    freeze = config.model.freeze
    return config.task != "masked-lm" and (freeze.layers > 0 or freeze.pattern is not None)


def _as_a_fold(config: JobConfig) -> JobConfig:
    """Trackers are told of runs; a sweep would tell them of hundreds. All folds are trained to the end: one epoch
    counts for all, the last unless an earlier one is better by a standard error (Trial.epoch)."""
    return config.model_copy(update={"train": config.train.model_copy(update={"track": (), "stop_after": None})})


@dataclass
class Workbench:
    """One process, which trains fold after fold: bases and shards are read once."""

    work: Work
    _models: dict[str, nn.Module] = field(default_factory=dict)
    _bases: dict[str, Base] = field(default_factory=dict)
    _shelves: dict[str, Shelf] = field(default_factory=dict)
    _rows: dict[str, TokenizedRows] = field(default_factory=dict)

    def loop(self, task: Task) -> Loop:
        """A fresh model of the task, ready to be trained; no checkpoints are kept."""
        use_threads(task.threads)
        precision = precision_on(self.work.folder.precision, task.config.train.precision, device_of(task))
        base = self._base(task)
        task.run.path.mkdir(parents=True, exist_ok=True)
        model = self._model(task, base)
        numbers = self._without_unused(task, model)
        loop = loop_maker(task, base, model, precision, None, numbers)()
        self._use_states(task, loop)
        return loop

    def _without_unused(self, task: Task, model: nn.Module) -> Array | None:
        """Tokens that no row has are left out where their embeddings would train."""
        config = task.config
        if config.language_task is not None or config.model.freeze.embeddings or _rests(config):
            return None
        if config.train.optimizer != "adamw":
            return None  # what others do to a row of a matrix depends on all of its rows
        return leave_out_unused(model, self._open_rows(task), pad_id(model))

    def _open_rows(self, task: Task) -> TokenizedRows:
        """The rows of all folds."""
        key = task.data.digest
        if key not in self._rows:
            self._rows[key] = read_shards(task.data.folder.tokens(sealed=False))
        return self._rows[key]

    def _use_states(self, task: Task, loop: Loop) -> None:
        """Where the bottom of the model rests: what it gives is the same in every epoch, fold and configuration, so
        that it is computed once for all of them."""
        if not _rests(task.config) or self.work.timed:
            return
        key, base, folder = task.data.digest, self._base(task).identity, self.work.folder.states
        if key not in self._shelves:
            self._shelves[key] = Shelf(self._open_rows(task), pad_id(loop.model), STATES_BYTES, folder)
        self._shelves[key].attach(loop.model, loop.approach.recipe, loop.precision, base)

    def _base(self, task: Task) -> Base:
        key = str(task.base.folder)  # weights alone do not tell heads apart
        if key not in self._bases:
            self._bases[key] = find_base(task)
        return self._bases[key]

    def _model(self, task: Task, base: Base) -> nn.Module:
        """As build_model gives it, but read from disk only once; a copy in memory is made for each fold."""
        config = task.config
        if config.language_task is not None:  # its hooks know the very modules that they were made for
            return build_model(config, base, task.data.labels)
        settings = config.model.model_dump(mode="json")
        key = digest_of([base.identity, settings, config.train.seed, config.task, config.data.multi_label])
        if key not in self._models:
            self._models.clear()  # one at a time: the memory of a device is planned for one more than trains
            built = build_model(config, base, task.data.labels)
            if is_quantized(built):
                return built
            self._models[key] = built
        return copy.deepcopy(self._models[key])

    def free(self) -> None:
        """Give back what the last fold took on a GPU, for those who share it."""
        gc.collect()  # a model whose layers are replayed is part of a cycle
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
