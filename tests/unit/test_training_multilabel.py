"""Where a row may have several labels: the threshold that is set, else the best on the validation part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from raysft.config.sections import TrainSection
from raysft.metrics.label_sets import best_threshold, point_metrics
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.multilabel import MultiLabel, has_labels
from tests.support.label_sets import LABELS, label_set_rows, tokenized

ROWS = 24
LOGITS = np.random.default_rng(2).standard_normal((ROWS, len(LABELS))).astype(np.float32)


@pytest.fixture(scope="module")
def base(base_folder: Any) -> Base:
    return resolve_base(str(base_folder))


def judged(base: Base, threshold: float | None) -> tuple[dict[str, float], Any]:
    """What is found with these logits, and which labels the rows have."""
    rows = tokenized(base, label_set_rows(ROWS))
    objective = MultiLabel(rows, rows, TrainSection(threshold=threshold), 0, torch.device("cpu"), LABELS)
    # Rows are told apart by their targets and tokens; each gets the logits of its place.
    place = {rows.tokens(row).tobytes(): row for row in range(ROWS)}

    def forward(batch: Any) -> torch.Tensor:
        ids = [
            each[mask.bool()].numpy().astype(rows.tokens(0).dtype)
            for each, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
        ]
        return torch.from_numpy(LOGITS[[place[each.tobytes()] for each in ids]])

    return objective.judge(forward).scores, has_labels(rows, range(ROWS), len(LABELS))


@pytest.mark.parametrize("threshold", [0.2, 0.7])
def test_labels_are_given_from_the_threshold_that_is_set(base: Base, threshold: float) -> None:
    scores, true = judged(base, threshold)
    assert scores["threshold"] == threshold
    assert scores["f1_macro"] == pytest.approx(point_metrics(true, LOGITS, threshold)["f1_macro"])


def test_unless_one_is_set_it_is_the_best_on_these_rows(base: Base) -> None:
    scores, true = judged(base, None)
    assert scores["threshold"] == best_threshold(true, LOGITS)
    assert scores["f1_micro"] >= max(judged(base, each)[0]["f1_micro"] for each in (0.2, 0.5, 0.7))
