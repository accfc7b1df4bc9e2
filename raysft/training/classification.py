"""One label a row: cross-entropy or focal loss, and the scores of a classifier."""

from __future__ import annotations

import numpy as np
import torch

from raysft.config.sections import TrainSection
from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.scores import point_metrics
from raysft.training.forward import predict
from raysft.training.losses import gamma_of, softmax_losses
from raysft.training.objective import Batch, Forward, padded
from raysft.training.weights import label_weights, require_weight


class Classification:
    """The objective of `task: classification` with one label a row. Targets are labels, int64 (B,).

    A row's loss, smoothing included, counts as often as the weight of its label says: weight 2 is the row twice.
    Without smoothing this is torch's `cross_entropy(weight=...)`; with it torch would weigh every class's share of a
    row's target by that class's own weight, which no repetition of rows does.
    Raises JobFileError (train.class_weights), DataError (all training rows weigh 0).
    """

    def __init__(
        self,
        train: TokenizedRows,
        validation: TokenizedRows,
        settings: TrainSection,
        pad_id: int,
        device: torch.device,
        labels: tuple[str, ...] = (),
    ) -> None:
        self._train, self._validation = train, validation
        self._settings, self._pad_id, self._device = settings, pad_id, device
        counts = np.bincount(train.label, minlength=len(labels))
        weights = label_weights(settings.class_weights, labels, counts)
        self._row_weights = weights[train.label]
        require_weight(float(self._row_weights.sum()))
        self._weights = torch.from_numpy(weights).to(device, torch.float32)

    def weight(self, rows: Micro, epoch: int) -> float:
        return float(self._row_weights[rows].sum())

    def batch(self, rows: Micro, epoch: int) -> Batch:
        return self._batch(self._train, rows)

    def _batch(self, part: TokenizedRows, rows: Micro) -> Batch:
        ids, mask = padded(part, rows, self._pad_id)
        labels = torch.from_numpy(part.label[rows].astype("int64"))
        on = self._device
        return Batch({"input_ids": ids.to(on), "attention_mask": mask.to(on)}, labels.to(on))

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        settings = self._settings
        losses = softmax_losses(logits.float(), batch.targets, settings.label_smoothing, gamma_of(settings))
        return (losses * self._weights[batch.targets]).sum()

    def evaluate(self, forward: Forward) -> dict[str, float]:
        if not len(self._validation):
            return {}
        logits = predict(forward, lambda rows: self._batch(self._validation, rows), self._validation.lengths)
        return point_metrics(self._validation.label, logits)
