"""What a model is taught: rows -> inputs and targets -> a loss that can be summed; and how well it does.

The loop knows nothing else of a task. B rows of a micro-batch, T tokens of the longest of them, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.judged import Judged


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the device."""

    inputs: dict[str, torch.Tensor]  # arguments of the model's forward pass: input_ids, attention_mask (B, T) int64
    targets: torch.Tensor  # what `loss` compares the logits with; its shape is the objective's affair


Forward = Callable[[Batch], torch.Tensor]  # logits of a batch, in evaluation mode, under the run's precision


class Objective(Protocol):
    """One task. Losses are sums over targets; the loop divides them once by the weight of the whole step."""

    def weight(self, rows: Micro, epoch: int) -> float:
        """What these rows count in the mean: their number, or the sum of their weights or targets. No device work."""

    def batch(self, rows: Micro, epoch: int) -> Batch:
        """These rows of the training part as a batch. Pure: it depends on seed, epoch and rows alone."""

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The weighted sum of the losses of a batch's targets: float32 scalar. logits: any float type."""

    def judge(self, forward: Forward) -> Judged:
        """What the validation part says, `loss` among the scores; the ranks share the work. Empty without such a
        part."""


def padded(rows: TokenizedRows, positions: np.ndarray[Any, Any], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(input_ids, attention_mask) of the rows at `positions`, padded to their longest: int64 (B, T)."""
    lengths = rows.lengths[positions]
    mask = np.arange(int(lengths.max()))[None, :] < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate([rows.tokens(position) for position in positions])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))
