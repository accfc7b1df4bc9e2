"""What passes between Ray Tune and who says what is trained next. Imports Ray nowhere.

Tune would wrap an error that is raised in its hooks into one of its own, and a search that nobody stops would wait for
ever: the first error is kept here, everything ends, and run_search raises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from raysft.errors import NotAllowed, NotFound, OutputError, RaysftError
from raysft.tuning.director import FoldJob, Orders

T = TypeVar("T")
Found = tuple[Any, ...]  # ("epoch", ...) | ("done",) | ("left",) | ("failed", why) | ("unwritable", message, next step)
OF_THE_MACHINE = (NotAllowed, NotFound)  # no fault of a configuration, and perhaps gone with another process
RETRIES = 2  # of a fold whose actor or node died, each in another process


@dataclass
class Relay:
    """One search. slots: most folds that train at a time. error: the first one that was raised in a hook."""

    orders: Orders
    slots: int
    error: Exception | None = None
    _lost: list[FoldJob] = field(default_factory=list)  # to be begun once more
    _losses: Counter[FoldJob] = field(default_factory=Counter)

    def over(self) -> bool:
        """Whether nothing will be trained any more."""
        return self._safely(self.orders.nothing_left, otherwise=True)

    def next(self) -> FoldJob | None:
        """What to train now; None: nothing, for now or for good."""
        return self._safely(self._next, otherwise=None)

    def stops(self, job: FoldJob, found: Found) -> bool:
        """Tell what a step found; whether the fold ends with it."""
        return self._safely(lambda: self._tell(job, found), otherwise=True)

    def died(self, job: FoldJob, why: str, waited: bool = False) -> None:
        """The process of a fold died, and Tune starts no other one for it: as often as it may, or because the fold
        waited for its first step in a process that had trained others."""
        self._safely(lambda: self._died(job, why, waited), otherwise=None)

    def _next(self) -> FoldJob | None:
        if self._lost:
            return self._lost.pop(0)
        return self.orders.next() if self.orders.running < self.slots else None

    def _died(self, job: FoldJob, why: str, waited: bool) -> None:
        if waited and self._losses[job] < RETRIES:
            self._losses[job] += 1
            self._lost.append(job)  # to its search it is still being trained
        else:
            self.orders.failed(job, why)

    def _tell(self, job: FoldJob, found: Found) -> bool:
        kind, *facts = found
        if kind == "epoch":
            return self.orders.epoch(job, *facts)
        if kind == "unwritable":
            raise OutputError(*facts)
        if kind == "done":
            self.orders.done(job)
        elif kind == "left":
            self.orders.left(job)
        else:
            self.orders.failed(job, facts[0])
        return True

    def _safely(self, action: Callable[[], T], otherwise: T) -> T:
        if self.error is not None:
            return otherwise
        try:
            return action()
        except Exception as error:  # noqa: BLE001  # raised again by run_search
            self.error = error
            self.orders.stop(words(error))
            return otherwise


def answer_to(error: Exception) -> Found:
    """What a step that raised this tells. Raises the error itself where another process may do better: one in which
    CUDA failed once fails from then on, whatever it trains."""
    if isinstance(error, OutputError):
        return "unwritable", error.message, error.next_step
    if isinstance(error, RaysftError) and not isinstance(error, OF_THE_MACHINE):
        return "failed", words(error)
    raise error


def words(error: BaseException) -> str:
    """In one line, for people; of an error that Ray brought from another process its cause."""
    error = getattr(error, "cause", None) or error
    if isinstance(error, RaysftError):
        return error.message
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"
