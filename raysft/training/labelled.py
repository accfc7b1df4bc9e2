"""What the objectives of labelled rows share: batches of padded rows, and logits of the validation part."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.training.forward import predict
from raysft.training.objective import Batch, Forward, padded

Array = np.ndarray[Any, Any]


class Targets(Protocol):
    """The targets of some rows of a part, on the CPU."""

    def __call__(self, part: TokenizedRows, rows: Micro) -> torch.Tensor: ...


class LabelledRows:
    """Training and validation rows as batches with their targets. weights: of each training row, float (rows,)."""

    def __init__(
        self,
        train: TokenizedRows,
        validation: TokenizedRows,
        targets: Targets,
        weights: Array,
        pad_id: int,
        device: torch.device,
    ) -> None:
        self._train, self.validation, self._targets = train, validation, targets
        self._weights, self._pad_id, self._device = weights, pad_id, device

    def weight(self, rows: Micro) -> float:
        """Sum of the weights of these training rows."""
        return float(self._weights[rows].sum())

    def batch(self, rows: Micro) -> Batch:
        """These training rows."""
        return self._batch(self._train, rows)

    def logits(self, forward: Forward) -> Array | None:
        """Of every validation row, float32 (rows, C); None where there is no such part."""
        if not len(self.validation):
            return None
        part = self.validation
        return predict(forward, lambda rows: self._batch(part, rows), part.lengths, self._device)

    def _batch(self, part: TokenizedRows, rows: Micro) -> Batch:
        ids, mask = padded(part, rows, self._pad_id)
        on = self._device
        return Batch({"input_ids": ids.to(on), "attention_mask": mask.to(on)}, self._targets(part, rows).to(on))
