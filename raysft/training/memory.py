"""Out of memory: smaller micro-batches, and more of them; the global batch and its trajectory stay as they are.

One worker finds out while it trains: the step is computed again with every micro-batch cut in two. Several workers
cannot: who runs out leaves the others waiting in an exchange. So they agree beforehand, by trying what takes most.
(On GPU dropout masks belong to micro-batches, so there another size gives other masks.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from raysft.corpus.sampler import Micro, Step
from raysft.errors import NoCapacity
from raysft.training import ranks
from raysft.training.checkpoint import Progress

T = TypeVar("T")
CPU_MESSAGES = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


class MicroBatch:
    """In how many parts each micro-batch of the plan is computed: 1, and twice as many whenever memory runs out."""

    def __init__(self, cut: Callable[[Micro, int], Step] = lambda micro, parts: np.array_split(micro, parts)) -> None:
        """cut: a micro-batch into so many parts, at most one a row."""
        self._cut = cut
        self.parts = 1
        self._changed = False  # since `news` was last asked

    def pieces(self, step: Step) -> Step:
        """The step with every micro-batch cut into its parts."""
        return [piece for micro in step for piece in self._cut(micro, min(self.parts, len(micro)))]

    def compute(self, gradient: Callable[[Step], torch.Tensor], step: Step, clear: Callable[[], None]) -> torch.Tensor:
        """`gradient` of the step, from the beginning whenever memory ran out; `clear` drops what was accumulated.

        Raises NoCapacity when a single row does not fit; with several workers RuntimeError, which ends all of them.
        """
        while True:
            loss, failure = _attempt(lambda: gradient(self.pieces(step)))
            if loss is not None:
                return loss
            if ranks.world_size() > 1:
                raise RuntimeError(
                    f"out of memory; use a smaller train.micro_batch, with which this run goes on ({failure})"
                )
            clear()
            self._halve(self.pieces(step), failure)

    def agree(self, trial: Callable[[Micro], None], heaviest: list[Micro], clear: Callable[[], None]) -> None:
        """Halve until a part of each of the `heaviest` fits on every rank; `trial` computes its gradient, without
        exchange."""
        for micro in heaviest:

            def attempt(micro: Micro = micro) -> str:
                _, failure = _attempt(lambda: trial(self.pieces([micro])[0]))
                clear()
                return failure

            # "" where it fits, and only then.
            while failure := max(ranks.gather_or_none(attempt)):
                self._halve(self.pieces([micro]), failure)

    def resume(self, progress: Progress) -> None:
        """Go on with what fitted before."""
        self.parts = max(self.parts, progress.micro_batch_parts)

    def news(self, progress: Progress) -> dict[str, int]:
        """What metrics.jsonl says when the size has changed, once; the checkpoint keeps it."""
        if not self._changed:
            return {}
        self._changed, progress.micro_batch_parts = False, self.parts
        return {"micro_batch_parts": self.parts}

    def _halve(self, pieces: Step, failure: str) -> None:
        if max(map(len, pieces)) == 1:
            raise NoCapacity(
                f"out of memory with one row in a micro-batch: {failure}",
                "Go on with --set train.activation_checkpointing=true; or start another run (--set name=NAME) with a "
                "smaller model.max_length or model.base.",
            )
        self.parts, self._changed = 2 * self.parts, True


def _attempt(compute: Callable[[], T]) -> tuple[T | None, str]:
    """(result, "") or, out of memory, (None, the allocator's words). Gives back what the failed attempt held."""
    try:
        return compute(), ""
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failure = (str(error) or type(error).__name__).splitlines()[0]
    # Only now, with the error and its frames gone, are the activations free.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None, failure


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, of torch on GPU or CPU or of Python, had nothing left to give."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in CPU_MESSAGES)
