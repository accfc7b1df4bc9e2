"""What an evaluation keeps of each text is enough to compute its scores again, and each text's share in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.config import JobConfig
from raysft.metrics import label_sets, tags
from raysft.metrics.influence import of_f1_macro_counts
from raysft.metrics.judged import Judged, judge_counts, judge_label_sets, judge_losses, judge_one_label
from raysft.metrics.label_sets import f1_of
from raysft.metrics.measures import measures_of
from raysft.metrics.scores import Array, Decided, decided_metrics, point_metrics
from raysft.metrics.tags import Counts, tag_metrics

SIZES = (st.integers(2, 30), st.integers(2, 5), st.integers(0, 10**6))


def one_label(rows: int, classes: int, seed: int) -> tuple[Array, Array, Array]:
    chance = np.random.default_rng(seed)
    return np.arange(rows) * 2, chance.integers(0, classes, rows), chance.standard_normal((rows, classes)) * 2


def counted(rows: int, kinds: int, seed: int) -> Counts:
    chance = np.random.default_rng(seed)
    true, given_ = chance.integers(0, 3, (2, rows, kinds))
    hits = np.minimum(np.minimum(true, given_), chance.integers(0, 3, (rows, kinds)))
    return Counts(hits, true, given_, chance.random(rows) * 9, chance.integers(1, 9, rows))


def moved(scores: list[float]) -> Array:
    """Influences from what a measure is without each row, as a jackknife has them."""
    return np.asarray(np.mean(scores) - np.array(scores))


@given(*SIZES)
def test_of_one_label_a_row(rows: int, classes: int, seed: int) -> None:
    row_id, labels, logits = one_label(rows, classes, seed)
    judged = judge_one_label(row_id, labels, logits)
    assert judged.scores == point_metrics(labels, logits)
    assert judged.row_id is row_id
    assert {name: (each.dtype.name, each.shape) for name, each in judged.found.items()} == {
        "predicted": ("int32", (rows,)),
        "confidence": ("float32", (rows,)),
        "log_p": ("float32", (rows,)),
    }
    found = judged.found
    again = Decided(
        labels, found["predicted"], found["confidence"].astype(float), -found["log_p"].astype(float), classes
    )
    for name, value in decided_metrics(again).items():
        if name != "ece":  # a confidence at the edge of a bin
            assert value == pytest.approx(judged.scores[name], abs=1e-6)
    without = [point_metrics(np.delete(labels, row), np.delete(logits, row, axis=0)) for row in range(rows)]
    assert judged.influence["f1_macro"] == pytest.approx(moved([each["f1_macro"] for each in without]), abs=1e-9)
    for name in ("accuracy", "loss"):  # by the derivative: less by a share of 1 / n
        by_derivative = moved([each[name] for each in without]) * (rows - 1) / rows
        assert judged.influence[name] == pytest.approx(by_derivative, abs=1e-9)


@given(*SIZES, st.sampled_from([0.2, 0.5, 0.9]))
def test_of_several_labels_a_row(rows: int, classes: int, seed: int, threshold: float) -> None:
    chance = np.random.default_rng(seed)
    targets, logits = chance.random((rows, classes)) < 0.4, chance.standard_normal((rows, classes)) * 2
    judged = judge_label_sets(np.arange(rows), targets, logits, threshold)
    expected = label_sets.point_metrics(targets, logits, threshold)
    assert judged.scores == {**expected, "threshold": threshold}
    hits, true, given_ = (judged.found[name].astype(np.int64) for name in ("hits", "true", "given"))
    assert (true == targets).all() and (hits == (targets & (given_ > 0))).all()
    assert f1_of(hits.sum(), true.sum(), given_.sum()) == pytest.approx(expected["f1_micro"])
    assert judged.found["losses"].sum() / judged.found["units"].sum() == pytest.approx(expected["loss"], rel=1e-5)
    assert judged.influence["loss"].sum() == pytest.approx(0, abs=1e-9)
    without = [
        label_sets.point_metrics(np.delete(targets, row, axis=0), np.delete(logits, row, axis=0), threshold)
        for row in range(rows)
    ]
    assert judged.influence["f1_macro"] == pytest.approx(moved([each["f1_macro"] for each in without]), abs=1e-9)
    accuracy = moved([each["accuracy"] for each in without]) * (rows - 1) / rows
    assert judged.influence["accuracy"] == pytest.approx(accuracy, abs=1e-9)


@given(*SIZES)
def test_of_entities(rows: int, kinds: int, seed: int) -> None:
    counts = counted(rows, kinds, seed)
    judged = judge_counts(np.arange(rows), counts)
    assert judged.scores == tag_metrics(counts)
    found = judged.found
    again = Counts(found["hits"], found["true"], found["given"], found["losses"].astype(float), found["units"])
    assert tag_metrics(again) == pytest.approx(judged.scores, abs=1e-6)
    assert judged.influence["f1_macro"] == pytest.approx(of_f1_macro_counts(counts.hits, counts.true, counts.given))
    step = 1e-6  # how a measure changes where a row counts a little more
    for name, (above, below) in {
        "precision": (counts.hits, counts.given),
        "recall": (counts.hits, counts.true),
        "f1_micro": (2 * counts.hits, counts.true + counts.given),
        "loss": (counts.losses[:, None], counts.units[:, None]),
    }.items():
        if below.sum() == 0:
            continue
        for row in range(min(rows, 4)):
            weights = np.ones(rows) + step * (np.arange(rows) == row)
            more = (weights @ above).sum() / (weights @ below).sum()
            change = (more - judged.scores[name]) / step
            assert judged.influence[name][row] == pytest.approx(change, abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 30)), min_size=1, max_size=20))
def test_of_losses_of_tokens(pieces: list[tuple[float, int]]) -> None:
    sums, tokens = np.array([loss for loss, _ in pieces]), np.array([count for _, count in pieces])
    judged = judge_losses(np.zeros(len(pieces), np.int64), sums, tokens, {"loss": 1.5})
    assert judged.scores == {"loss": 1.5}
    mean = sums.sum() / tokens.sum()
    assert judged.influence["loss"] == pytest.approx((sums - mean * tokens) / tokens.sum())
    assert judged.found["losses"] == pytest.approx(sums) and judged.found["units"].tolist() == tokens.tolist()
    assert (judged.found["losses"].dtype, judged.found["units"].dtype) == (np.float32, np.int32)


def test_without_a_validation_part_nothing_was_found() -> None:
    judged = Judged()
    assert (judged.scores, len(judged.row_id), judged.influence, judged.found) == ({}, 0, {}, {})


@pytest.mark.parametrize(
    ("job", "judged", "name"),
    [
        ({}, judge_one_label(*one_label(9, 3, 0)), "f1_macro"),
        ({}, judge_one_label(*one_label(9, 3, 0)), "accuracy"),
        ({}, judge_one_label(*one_label(9, 3, 0)), "loss"),
        *(
            (
                {"data": {"multi_label": True}},
                judge_label_sets(np.arange(3), np.eye(3) > 0, np.eye(3), 0.5),
                name,
            )
            for name in label_sets.NAMES
        ),
        *(
            ({"task": "token-classification"}, judge_counts(np.arange(9), counted(9, 2, 0)), name)
            for name in tags.NAMES
        ),
        ({"task": "causal-lm"}, judge_losses(np.arange(2), np.ones(2), np.ones(2), {"loss": 1.0}), "loss"),
    ],
)
def test_every_measure_by_which_a_search_may_judge_has_an_influence(
    job: dict[str, Any], judged: Judged, name: str
) -> None:
    """All but those that are refused as no aim (tuning/objectives.py)."""
    data = {"train": "rows.csv", **job.get("data", {})}
    values = {"name": "tiny", **job, "data": data}
    assert name in measures_of(JobConfig.model_validate(values))
    assert len(judged.influence[name]) == len(judged.row_id)
