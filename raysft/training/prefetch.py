"""Micro-batches of the next step, made by a thread while the device computes this one.

A batch is a pure function of rows and epoch, so it does not matter who makes it, or when. Used on GPU only, where it is
the thread that waits for the copy to the device (from memory that is not pinned, a copy waits for all work before it)
and the host goes on ordering work. On CPU it does not pay: all-MiniLM-L6-v2, batches of 16 rows, 2 threads on 2 cores:
0.13% of a step is spent making batches, and with the thread a step takes 0.97 to 1.01 times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from raysft.corpus.sampler import Micro, Step
from raysft.training.objective import Batch

Make = Callable[[Micro, int], Batch]
Mine = Callable[[Step], list[Micro]]  # the micro-batches of a step that this rank computes


class Prefetch:
    """Gives batches as `make` does, some of them made ahead; and counts how long training waited for them."""

    def __init__(self, make: Make, ahead: bool) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, "prefetch") if ahead else None
        self._coming: dict[bytes, Future[Batch]] = {}
        self._waited_s = 0.0

    def ahead(self, steps: list[Step], epoch: int, mine: Mine) -> Iterator[Step]:
        """The steps of an epoch; while one is being computed, the batches of the next are made."""
        following: list[Step | None] = [*steps[1:], None]
        for step, after in zip(steps, following, strict=True):
            ready = self._coming
            self._coming = ready | self._order(mine(after) if after is not None else [], epoch)
            yield step
            for rows in ready:  # whatever was not taken, since memory ran out and micro-batches became smaller
                self._coming.pop(rows, None)
        self._coming = {}

    def take(self, rows: Micro, epoch: int) -> Batch:
        """The batch of these rows, waited for or made here. Raises what making it raised."""
        started = time.perf_counter()
        coming = self._coming.pop(rows.tobytes(), None)
        batch = self._make(rows, epoch) if coming is None else coming.result()
        self._waited_s += time.perf_counter() - started
        return batch

    def waited(self) -> float:
        """Seconds spent in `take` since the last call."""
        seconds, self._waited_s = self._waited_s, 0.0
        return seconds

    def close(self) -> None:
        """End the thread; what it was making is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, micros: list[Micro], epoch: int) -> dict[bytes, Future[Batch]]:
        if self._pool is None:
            return {}
        return {rows.tobytes(): self._pool.submit(self._make, rows, epoch) for rows in micros}
