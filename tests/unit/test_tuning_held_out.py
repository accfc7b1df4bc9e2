"""Every row is judged by the model that has not seen it, and all rows together give the scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raysft.metrics.interval import estimates
from raysft.metrics.judged import Judged, judge_counts, judge_label_sets, judge_losses, judge_one_label
from raysft.metrics.label_sets import label_set_estimates
from raysft.metrics.scores import Array
from raysft.metrics.tags import Counts, tag_estimates
from raysft.tuning.held_out import Part, out_of_fold
from raysft.tuning.work import FoldId, Work
from tests.support.sweeps import work_in

ROWS, LABELS = 60, ("a", "b", "c")
CHANCE = np.random.default_rng(4)
LABEL, UNIT = CHANCE.integers(0, 3, ROWS), np.arange(ROWS) // 3
LOGITS = CHANCE.standard_normal((ROWS, 3)) + 2 * np.eye(3)[LABEL]
FOLD = CHANCE.permutation(ROWS) % 3
ROW_ID = np.arange(ROWS) * 10 + 7
PARTS = [Part(1, FoldId(0), 2), Part(1, FoldId(1), 2), Part(1, FoldId(2), 2)]
REL, ABS = 1e-5, 1e-6  # float32 on storage


def corpus() -> pa.Table:
    return pa.table(
        {
            "row_id": ROW_ID,
            "source": ["rows.csv"] * ROWS,
            "line": ROW_ID + 1,
            "text": [f"text {number}" for number in ROW_ID],
            "label": [LABELS[label] for label in LABEL],
            "label_id": LABEL,
            "unit": UNIT,
        }
    )


def leave(work: Work, trial: int, fold: FoldId, epochs: list[Judged]) -> None:
    """What training leaves of a fold."""
    folder = work.fold_folder(trial, fold)
    folder.path.mkdir(parents=True)
    found = {f"found:{name}": np.stack([each.found[name] for each in epochs]) for name in epochs[0].found}
    moved = {f"influence:{name}": np.stack([each.influence[name] for each in epochs]) for name in epochs[0].influence}
    np.savez(folder.held_out, row_id=epochs[0].row_id, **found, **moved)  # type: ignore[arg-type]


def judged_in(fold: int, logits: Array) -> Judged:
    own = np.flatnonzero(fold == FOLD)
    return judge_one_label(ROW_ID[own], LABEL[own], logits[own])


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A first epoch that is always wrong, a second with the scores, a third that is always wrong."""
    found = work_in(tmp_path, {"train.epochs": [3]})
    wrong = np.eye(3)[(LABEL + 1) % 3] * 9.0
    for fold in range(3):
        leave(found, 1, FoldId(fold), [judged_in(fold, each) for each in (wrong, LOGITS, wrong)])
    return found


def test_scores_of_all_folds_are_those_of_all_rows_together_after_that_epoch(work: Work) -> None:
    """Means over folds would be others: macro-F1 of few rows differs. Intervals are those of the units."""
    found, _ = out_of_fold(work, PARTS, corpus(), LABELS)
    order = np.concatenate([np.flatnonzero(fold == FOLD) for fold in range(3)])
    expected = estimates(LABEL[order], LOGITS[order], UNIT[order])
    assert found.keys() == expected.keys()
    for name in expected:
        if name != "ece":  # a confidence at the edge of a bin
            assert asdict(found[name]) == pytest.approx(asdict(expected[name]), rel=REL, abs=ABS), name
    assert found["accuracy"].value == (LOGITS.argmax(axis=1) == LABEL).mean() and found["accuracy"].n == ROWS


def test_every_row_has_a_line_with_who_judged_it_and_what_it_said(work: Work) -> None:
    _, table = out_of_fold(work, PARTS, corpus(), LABELS)
    rows = sorted(table.to_pylist(), key=lambda row: row["row_id"])
    assert [row["row_id"] for row in rows] == ROW_ID.tolist()
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    for at, row in enumerate(rows):
        assert (row["text"], row["line"], row["source"]) == (f"text {ROW_ID[at]}", ROW_ID[at] + 1, "rows.csv")
        assert (row["trial"], row["fold"], row["label"]) == (1, FOLD[at], LABELS[LABEL[at]])
        assert row["predicted"] == LABELS[LOGITS[at].argmax()]
        assert row["confidence"] == pytest.approx(np.exp(log_p[at].max()), abs=1e-6)
        assert row["log_probability_of_label"] == pytest.approx(log_p[at, LABEL[at]], abs=1e-5)


def test_without_scores_the_lines_are_the_same(work: Work) -> None:
    found, table = out_of_fold(work, PARTS, corpus(), LABELS, scored=False)
    assert found == {} and table.equals(out_of_fold(work, PARTS, corpus(), LABELS)[1])


def test_each_fold_may_be_judged_by_another_configuration_after_another_epoch(work: Work) -> None:
    """As where a search is nested."""
    leave(work, 5, FoldId(1, nested=True), [judged_in(1, np.eye(3)[LABEL])])
    parts = [PARTS[0], Part(5, FoldId(1, nested=True), 1), Part(1, FoldId(2), 3)]
    found, table = out_of_fold(work, parts, corpus(), LABELS)
    said = np.where(FOLD == 0, LOGITS.argmax(axis=1), np.where(FOLD == 1, LABEL, (LABEL + 1) % 3))
    assert found["accuracy"].value == pytest.approx((said == LABEL).mean())
    who = {(row["fold"], row["trial"]) for row in table.to_pylist()}
    assert who == {(0, 1), (1, 5), (2, 1)}


def test_entities(tmp_path: Path) -> None:
    work = work_in(tmp_path, {"train.epochs": [3]})
    true, given = CHANCE.integers(0, 3, (2, ROWS, 2))
    counts = Counts(np.minimum(true, given), true, given, CHANCE.random(ROWS) * 5, CHANCE.integers(1, 9, ROWS))
    order = np.argsort(FOLD, kind="stable")
    for fold in range(3):
        own = np.flatnonzero(fold == FOLD)
        mine = Counts(*(each[own] for each in (counts.hits, true, given, counts.losses, counts.units)))
        leave(work, 1, FoldId(fold), [judge_counts(ROW_ID[own], mine)])
    found, table = out_of_fold(work, [Part(1, FoldId(fold), 1) for fold in range(3)], corpus(), LABELS)
    whole = Counts(*(each[order] for each in (counts.hits, true, given, counts.losses, counts.units)))
    for name, expected in tag_estimates(whole, UNIT[order]).items():
        assert asdict(found[name]) == pytest.approx(asdict(expected), rel=REL, abs=ABS), name
    rows = sorted(table.to_pylist(), key=lambda row: row["row_id"])
    assert [row["true"] for row in rows] == true.sum(axis=1).tolist()
    assert [row["given"] for row in rows] == given.sum(axis=1).tolist()
    assert [row["hits"] for row in rows] == counts.hits.sum(axis=1).tolist()
    assert [row["loss"] for row in rows] == pytest.approx((counts.losses / counts.units).tolist(), rel=1e-5)
    assert "predicted" not in table.column_names


def test_several_labels_a_row(tmp_path: Path) -> None:
    work = work_in(tmp_path, {"train.epochs": [3]})
    targets = CHANCE.random((ROWS, 3)) < 0.4
    leave(work, 1, FoldId(0), [judge_label_sets(ROW_ID, targets, LOGITS, 0.4)])
    found, table = out_of_fold(work, [Part(1, FoldId(0), 1)], corpus(), LABELS)
    expected = label_set_estimates(targets, LOGITS, 0.4, UNIT)
    for name in expected:
        assert asdict(found[name]) == pytest.approx(asdict(expected[name]), rel=REL, abs=ABS), name
    assert table.column("true").to_pylist() == targets.sum(axis=1).tolist()


def test_texts_are_judged_by_their_tokens_and_their_error_is_that_of_the_units(tmp_path: Path) -> None:
    """Two pieces of each row, which is one line; how the mean varies where whole units are drawn anew."""
    work = work_in(tmp_path, {"train.epochs": [3]})
    own, tokens = np.repeat(np.arange(ROWS), 2), CHANCE.integers(1, 30, 2 * ROWS)
    level = 2 + CHANCE.standard_normal(ROWS // 3)
    sums = tokens * (level[UNIT[own]] + 0.1 * CHANCE.standard_normal(2 * ROWS))
    leave(work, 1, FoldId(0), [judge_losses(ROW_ID[own], sums, tokens, {"loss": 0.0})])
    found, table = out_of_fold(work, [Part(1, FoldId(0), 1)], corpus(), LABELS)
    loss = found["loss"]
    assert found.keys() == {"loss"} and loss.value == pytest.approx(sums.sum() / tokens.sum())
    units = [np.flatnonzero(UNIT[own] == unit) for unit in range(ROWS // 3)]
    drawn = CHANCE.integers(0, len(units), (4000, len(units)))
    of_sums, of_tokens = (np.array([each[unit].sum() for unit in units]) for each in (sums, tokens))
    spread = (of_sums[drawn].sum(axis=1) / of_tokens[drawn].sum(axis=1)).std()
    assert loss.high - loss.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert (loss.low + loss.high) / 2 == pytest.approx(loss.value)
    assert loss.n == len(table) == ROWS and table.column("row_id").to_pylist() == ROW_ID.tolist()
    whole = sums.reshape(ROWS, 2).sum(axis=1) / tokens.reshape(ROWS, 2).sum(axis=1)
    assert table.column("loss").to_pylist() == pytest.approx(whole.tolist(), rel=1e-5)
