"""A fold that several workers train together: what each of them does. Imports Ray nowhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from raysft.errors import RaysftError
from raysft.storage.commit import writing
from raysft.storage.layout import FoldFolder
from raysft.training import ranks
from raysft.training.worker import Task, device_of, prepare_loop
from raysft.tuning.director import NEARLY
from raysft.tuning.fold import precision_on, train_fold

LEFT = "left off"


@dataclass(frozen=True)
class FoldWorker:
    """Train the fold of a task, as one of the ranks; checkpoints are kept until it is done, so that it can go on.

    precision: where the sweep keeps it. deadline: in seconds since 1970, after which they leave off with the epoch,
    unless the fold is nearly done.
    """

    measures: Sequence[str]
    precision: Path
    deadline: float | None = None

    def __call__(self, task: Task) -> str | RaysftError:
        """`done`, or LEFT. Errors meant for people are returned, so that nothing retries them."""
        folder = FoldFolder(task.run.path)
        try:
            with writing(task.run.path), ExitStack() as held:
                precision = precision_on(self.precision, task.config.train.precision, device_of(task))
                make_loop, _ = ranks.all_or_none(lambda: prepare_loop(task, held, precision))
                loop, settings = make_loop(), task.config.train
                epochs = min(settings.epochs, settings.stop_at or settings.epochs)
                for _ in train_fold(loop, folder, self.measures):
                    if self._late(loop.sampler.epochs_done(loop.progress.step) / epochs):
                        return LEFT
        except RaysftError as error:
            return error
        return "done"

    def _late(self, share: float) -> bool:
        """Whether to leave off after this share of the epochs; all ranks ask together, and the first one's clock
        counts."""
        deadline = self.deadline
        if deadline is None or share >= NEARLY:
            return False
        return ranks.on_first_rank(lambda: time.time() > deadline)
