"""Dropout whose masks belong to rows, so that micro-batches and workers never change a result.

torch draws dropout from one stream per process: another number of workers gives every row another mask. Here each row
draws from a generator of its own, seeded by (seed, epoch, row). It is also faster on CPU: on processors other than
Intel's torch draws each mask with one thread (12% of a step with all-MiniLM-L6-v2, measured with torch.profiler).
On GPU torch's own dropout is kept, seeded per micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.corpus.packing import Layout

LEVELS = 256  # a mask costs one random byte an element, so rates are multiples of 1/256


class RowRandom:
    """The generators of the rows at hand."""

    def __init__(self) -> None:
        self._generators: list[np.random.Generator] = []
        self._places: list[tuple[int, int, int]] = []  # sequence, first and last token of each row
        self._sequences = 0

    def start(self, seed: int, epoch: int, rows: np.ndarray[Any, Any], layout: Layout) -> None:
        """Begin a forward pass over these row positions, which stand in a batch as the layout says."""
        self._generators = [np.random.Generator(np.random.SFC64([seed, epoch, int(row)])) for row in rows]
        ends = layout.start + layout.lengths
        self._places = list(zip(layout.sequence.tolist(), layout.start.tolist(), ends.tolist(), strict=True))
        self._sequences = layout.shape[0]

    def replaying(self) -> AbstractContextManager[None]:
        """A context in which the masks drawn from now on are drawn once more; taken when a layer begins.

        Activation checkpointing computes a layer again in the backward pass: its generators go back to where the layer
        began (2 microseconds a row), and afterwards on to where they were.
        """
        generators = list(self._generators)
        return self._at(generators, _states(generators))

    @contextmanager
    def _at(self, generators: list[np.random.Generator], began: list[Any]) -> Iterator[None]:
        now, before = self._generators, _states(generators)
        self._generators = generators
        _set_states(generators, began)
        try:
            yield
        finally:
            _set_states(generators, before)
            self._generators = now

    def keep(self, shape: torch.Size, rate: float) -> torch.Tensor | None:
        """A mask of 0 and 1/(1-rate) for hidden states (B, T, H) or (B, H); None when B is not the sequences at hand.

        (B, H) has a row each, so that none may be packed.
        """
        rows = self._sequences if len(shape) == 3 else len(self._places)
        if len(shape) not in (2, 3) or shape[0] != rows:
            return None
        drop = round(rate * LEVELS)
        drawn = np.zeros(shape, dtype=np.uint8)
        for generator, (sequence, start, end) in zip(self._generators, self._places, strict=True):
            place = drawn[sequence] if len(shape) == 2 else drawn[sequence, start:end]
            place[...] = np.frombuffer(generator.bytes(place.size), dtype=np.uint8).reshape(place.shape)
        return (torch.from_numpy(drawn) >= drop).to(torch.float32).mul_(LEVELS / (LEVELS - drop))


def _states(generators: list[np.random.Generator]) -> list[Any]:
    return [generator.bit_generator.state for generator in generators]


def _set_states(generators: list[np.random.Generator], states: list[Any]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state


class RowDropout(nn.Module):
    """Takes the place of nn.Dropout; has no parameters, so the saved model is unchanged."""

    def __init__(self, p: float, random: RowRandom) -> None:
        super().__init__()
        self.p = p
        self._random = random

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return hidden
        mask = self._random.keep(hidden.shape, self.p)
        return nn.functional.dropout(hidden, self.p) if mask is None else hidden * mask


def use_row_dropout(model: nn.Module) -> RowRandom:
    """Replace every nn.Dropout of the model; returns the generators to `start` before each forward pass."""
    random = RowRandom()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, RowDropout(child.p, random))
    return random
