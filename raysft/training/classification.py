"""One label a row: cross-entropy or focal loss, and the scores of a classifier."""

from __future__ import annotations

import numpy as np
import torch

from raysft.config.sections import TrainSection
from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.judged import Judged, judge_one_label
from raysft.training.labelled import LabelledRows
from raysft.training.losses import gamma_of, softmax_losses
from raysft.training.objective import Batch, Forward
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
        self._settings = settings
        counts = np.bincount(train.label, minlength=len(labels))
        weights = label_weights(settings.class_weights, labels, counts)
        require_weight(float(weights[train.label].sum()))
        self._weights = torch.from_numpy(weights).to(device, torch.float32)
        self._rows = LabelledRows(train, validation, _labels, weights[train.label], pad_id, device)

    def weight(self, rows: Micro, epoch: int) -> float:
        return self._rows.weight(rows)

    def batch(self, rows: Micro, epoch: int) -> Batch:
        return self._rows.batch(rows)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        settings = self._settings
        losses = softmax_losses(logits.float(), batch.targets, settings.label_smoothing, gamma_of(settings))
        return (losses * self._weights[batch.targets]).sum()

    def judge(self, forward: Forward) -> Judged:
        logits, part = self._rows.logits(forward), self._rows.validation
        return Judged() if logits is None else judge_one_label(part.row_id, part.label, logits)


def _labels(part: TokenizedRows, rows: Micro) -> torch.Tensor:
    return torch.from_numpy(part.label[rows].astype(np.int64))
