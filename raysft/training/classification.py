"""One label a row: cross-entropy, and the scores of a classifier."""

from __future__ import annotations

import torch
from torch import nn

from raysft.config.sections import TrainSection
from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.scores import point_metrics
from raysft.training.forward import predict
from raysft.training.objective import Batch, Forward, padded


class Classification:
    """The objective of `task: classification` with one label a row. Targets are labels, int64 (B,)."""

    def __init__(
        self,
        train: TokenizedRows,
        validation: TokenizedRows,
        settings: TrainSection,
        pad_id: int,
        device: torch.device,
    ) -> None:
        self._train, self._validation = train, validation
        self._settings, self._pad_id, self._device = settings, pad_id, device

    def weight(self, rows: Micro, epoch: int) -> float:
        return float(len(rows))

    def batch(self, rows: Micro, epoch: int) -> Batch:
        return self._batch(self._train, rows)

    def _batch(self, part: TokenizedRows, rows: Micro) -> Batch:
        ids, mask = padded(part, rows, self._pad_id)
        labels = torch.from_numpy(part.label[rows].astype("int64"))
        on = self._device
        return Batch({"input_ids": ids.to(on), "attention_mask": mask.to(on)}, labels.to(on))

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        smoothing = self._settings.label_smoothing
        return nn.functional.cross_entropy(logits.float(), batch.targets, reduction="sum", label_smoothing=smoothing)

    def evaluate(self, forward: Forward) -> dict[str, float]:
        if not len(self._validation):
            return {}
        logits = predict(forward, lambda rows: self._batch(self._validation, rows), self._validation.lengths)
        return point_metrics(self._validation.label, logits)
