"""Several labels a row: each label of each row is a decision of its own, by binary cross-entropy.

B rows, C labels. What a step divides by is the number of its decisions, so that its loss is torch's
`BCEWithLogitsLoss()`, the one that transformers computes for `multi_label_classification`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from raysft.config.sections import TrainSection
from raysft.corpus.sampler import Micro
from raysft.corpus.tokens import TokenizedRows
from raysft.metrics.judged import Judged, judge_label_sets
from raysft.metrics.label_sets import best_threshold
from raysft.training.labelled import LabelledRows
from raysft.training.losses import gamma_of, sigmoid_losses
from raysft.training.objective import Batch, Forward
from raysft.training.weights import label_weights, require_weight

Array = np.ndarray[Any, Any]


class MultiLabel:
    """The objective of `task: classification` with `data.multi_label`. Targets are 1 and 0, float32 (B, C).

    A weight belongs to the decisions of the rows that have the label, as if those were repeated; decisions of rows
    without it count once. (torch's `pos_weight` scales the same terms, but does not divide by the weights.)
    Raises JobFileError (train.class_weights), DataError (all decisions weigh 0).
    """

    def __init__(
        self,
        train: TokenizedRows,
        validation: TokenizedRows,
        settings: TrainSection,
        pad_id: int,
        device: torch.device,
        labels: tuple[str, ...],
    ) -> None:
        self._settings, self._classes = settings, len(labels)
        positions, carried = _flat(train)
        weights = label_weights(settings.class_weights, labels, np.bincount(carried, minlength=len(labels)))
        more = np.bincount(positions, weights=weights[carried] - 1, minlength=len(train))
        decisions = len(labels) + more  # of each row, weighted
        require_weight(float(decisions.sum()))
        self._weights = torch.from_numpy(weights).to(device, torch.float32)
        self._true = has_labels(validation, range(len(validation)), len(labels))
        self._rows = LabelledRows(train, validation, self._has, decisions, pad_id, device)

    def weight(self, rows: Micro, epoch: int) -> float:
        return self._rows.weight(rows)

    def batch(self, rows: Micro, epoch: int) -> Batch:
        return self._rows.batch(rows)

    def _has(self, part: TokenizedRows, rows: Micro) -> torch.Tensor:
        return torch.from_numpy(has_labels(part, rows, self._classes).astype(np.float32))

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        settings = self._settings
        losses = sigmoid_losses(logits.float(), batch.targets, settings.label_smoothing, gamma_of(settings))
        return (losses * (1 + batch.targets * (self._weights - 1))).sum()

    def judge(self, forward: Forward) -> Judged:
        """Scores at the threshold that is set, or best on the validation part, which the artifact keeps."""
        logits = self._rows.logits(forward)
        if logits is None:
            return Judged()
        threshold = self._settings.threshold or best_threshold(self._true, logits)
        return judge_label_sets(self._rows.validation.row_id, self._true, logits, threshold)


def has_labels(part: TokenizedRows, rows: Iterable[int], classes: int) -> Array:
    """Which labels these rows have, bool (rows, classes)."""
    found = [part.targets(row) for row in rows]
    has = np.zeros((len(found), classes), bool)
    for place, carried in enumerate(found):
        has[place, carried] = True
    return has


def _flat(part: TokenizedRows) -> tuple[Array, Array]:
    """(position, label) of every label that a row has, int64 each."""
    found = [part.targets(position) for position in range(len(part))]
    positions = np.repeat(np.arange(len(part)), [len(each) for each in found])
    return positions, np.concatenate([np.zeros(0, np.int64), *found]).astype(np.int64)
