"""What a run is told while it trains: to stop, or that a node is about to be taken away. It saves, and then it ends.

The ranks run in lockstep, so all of them must hear of it at the same step. They ask together, and with the answer they
get the step at which they ask again: about ASK_S later, as the first rank reckons. Asking takes 2 ms with one worker
and 4 ms with two (the least of 300 times on two busy cores; the medians were 3 and 11 ms), most of it Ray's barrier.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from raysft.errors import Kept, RaysftError
from raysft.training import ranks

STOP = "stop"
MOVE = "move"
ASK_S = 2.0
Source = Callable[[], str]  # STOP, MOVE or ""; asked by all ranks together, and the first one's answer counts


class Moving(RaysftError):
    """A node is about to be taken away, so the run goes on elsewhere, from the step that was saved."""


class Notices:
    """Asks a source, if there is one, at steps that all ranks know."""

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._next, self._every = 0, 1  # steps
        self._asked, self._asked_at = 0, time.monotonic()

    def at(self, step: int) -> str:
        """What the run is told after this step; "" where that is nothing, or where it is not the time to ask."""
        return "" if step < self._next else self.now(step)

    def now(self, step: int) -> str:
        """What the run is told after this step, whenever it was asked last."""
        if self._source is None:
            return ""
        told = self._source()
        told, self._every = ranks.on_first_rank(lambda: (told, self._pace(step)))
        self._next = step + self._every
        return told

    def _pace(self, step: int) -> int:
        """Steps until the next question: as many as there are in ASK_S, and no more than twice as many as before."""
        now = time.monotonic()
        each = (now - self._asked_at) / max(1, step - self._asked)
        self._asked, self._asked_at = step, now
        return max(1, min(2 * self._every, int(ASK_S / max(each, 1e-6))))


def heed(told: str, step: int) -> None:
    """Once the step is saved. Raises Kept or Moving for what the run was told, on all ranks alike."""
    if told == STOP:
        raise Kept(f"interrupted after step {step}, which is saved", f"The same command goes on from step {step}.")
    if told == MOVE:
        raise Moving(f"a node is about to be taken away: step {step} is saved, and training goes on elsewhere")
