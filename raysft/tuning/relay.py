"""What passes between Ray Tune and who says what is trained next. Imports Ray nowhere.

Tune would wrap an error that is raised in its hooks into one of its own, and a search that nobody stops would wait for
ever: the first error is kept here, everything ends, and run_search raises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from raysft.errors import NoRoom, NotAllowed, NotFound, OutputError, RaysftError, UnlikeNode
from raysft.storage.pretrained import BaseCorrupt
from raysft.tuning.director import FoldJob, Orders

T = TypeVar("T")
# ("epoch", ...) | ("done",) | ("left",) | ("failed", why) | ("no room", error) | ("ends", error)
Found = tuple[Any, ...]
# No other configuration would fare better, and the same command goes on.
OF_ALL = (OutputError, UnlikeNode, BaseCorrupt)
OF_THE_MACHINE = (NotAllowed, NotFound)  # no fault of a configuration, and perhaps gone with another process
RETRIES = 2  # of a fold whose actor or node died, each in another process


@dataclass
class Relay:
    """One search. slots: most folds that train at a time; fewer once there was no room for so many. error: the first
    one that was raised in a hook. given_up: whether its folds wait for room, and its budget is spent."""

    orders: Orders
    slots: int
    error: Exception | None = None
    given_up: bool = False
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

    def waiting(self, jobs: Sequence[FoldJob]) -> None:
        """All folds that were begun wait for room, and none is trained: no epoch will tell that the budget is spent."""
        self._safely(lambda: self._give_up(jobs), otherwise=None)

    def _give_up(self, jobs: Sequence[FoldJob]) -> None:
        if not self.given_up and self.orders.is_over():
            for job in jobs:
                self.orders.left(job)
            self.given_up = True

    def _next(self) -> FoldJob | None:
        if self.orders.running - len(self._lost) >= self.slots:  # to its search a lost fold is still being trained
            return None
        return self._lost.pop(0) if self._lost else self.orders.next()

    def _died(self, job: FoldJob, why: str, waited: bool) -> None:
        if waited and self._losses[job] < RETRIES:
            self._losses[job] += 1
            self._lost.append(job)
        else:
            self.orders.failed(job, why)

    def _tell(self, job: FoldJob, found: Found) -> bool:
        kind, *facts = found
        if kind == "epoch":
            return self.orders.epoch(job, *facts)
        if kind == "ends":
            raise facts[0]
        if kind == "no room":
            self._no_room(job, facts[0])
            return True
        if kind == "done":
            self.orders.done(job)
        elif kind == "left":
            self.orders.left(job)
        else:
            self.orders.failed(job, facts[0])
        return True

    def _no_room(self, job: FoldJob, error: NoRoom) -> None:
        """The fold is begun once more when another one ends. Raises the error where none is being trained."""
        others = self.orders.running - len(self._lost) - 1
        if not others:
            raise error
        self.slots = others
        self._lost.append(job)
        self.orders.say(f"trial {job.trial}, fold {job.fold}: {error.message}; {others} at a time from now on")

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
    if isinstance(error, NoRoom):
        return "no room", error
    if isinstance(error, OF_ALL):
        return "ends", error
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
