"""A fold that several workers train together: what each of them does. Imports Ray nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from raysft.errors import RaysftError
from raysft.storage.commit import writing
from raysft.storage.layout import FoldFolder
from raysft.training import ranks
from raysft.training.checkpoint import precision_of
from raysft.training.precision import choose
from raysft.training.worker import Task, device_of, prepare_loop
from raysft.tuning.fold import train_fold


@dataclass(frozen=True)
class FoldWorker:
    """Train the fold of a task, as one of the ranks; checkpoints are kept until it is done, so that it can go on."""

    measures: Sequence[str]

    def __call__(self, task: Task) -> str | RaysftError:
        """Errors meant for people are returned, so that nothing retries them."""
        folder = FoldFolder(task.run.path)
        try:
            with writing(task.run.path), ExitStack() as held:
                begun = ranks.on_first_rank(lambda: precision_of(task.run.checkpoints))
                precision = choose(task.config.train.precision, device_of(task), begun)
                make_loop, _ = ranks.all_or_none(lambda: prepare_loop(task, held, precision))
                for _ in train_fold(make_loop(), folder, self.measures):
                    pass
        except RaysftError as error:
            return error
        return "done"
