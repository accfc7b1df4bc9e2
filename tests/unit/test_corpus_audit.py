"""Repeats, contradictions and leaks are found and acted on as asked, and the books balance."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.config.sections import AuditSection
from raysft.corpus.audit import (
    findings,
    label_variants,
    lengths_summary,
    mark_rejected,
    near_duplicates,
    rejected_by_reason,
)
from raysft.corpus.rows import ROW, same_text
from raysft.errors import DataError

Row = tuple[str, str, str]  # origin, text, label
REPORT = AuditSection(duplicates="report", conflicts="report", leakage="report")


def table(rows: list[Row], reasons: list[str | None] | None = None) -> pa.Table:
    """Rows of one file per origin, line by line."""
    return pa.Table.from_pylist(
        [
            {
                "origin": origin,
                "source": f"{origin}.csv",
                "line": line,
                "text": text,
                "label": label,
                "group": "",
                "reason": (reasons or [None] * len(rows))[line],
                "detail": "",
            }
            for line, (origin, text, label) in enumerate(rows)
        ],
        schema=ROW,
    )


def marked(rows: list[Row], **actions: Any) -> list[tuple[str | None, str]]:
    settings = REPORT.model_copy(update=actions)
    return [(row["reason"], row["detail"]) for row in mark_rejected(table(rows), settings).to_pylist()]


KEPT = (None, "")


def test_the_first_of_equal_rows_is_kept() -> None:
    rows = [("train", "Hello  there", "x"), ("train", "hello there", "x"), ("train", "HELLO there ", "x")]
    assert marked(rows, duplicates="drop") == [
        KEPT,
        ("duplicate", "same as train.csv:0"),
        ("duplicate", "same as train.csv:0"),
    ]
    assert marked(rows, duplicates="report") == [KEPT] * 3
    assert findings(table(rows)) == {"duplicates": 2, "conflicting_labels": 0, "leakage": 0}


def test_all_rows_of_a_contradiction_are_rejected_each_naming_the_other() -> None:
    rows = [("train", "a", "x"), ("train", "A", "y"), ("train", "a ", "x"), ("train", "b", "x")]
    assert marked(rows, conflicts="quarantine") == [
        ("conflicting_labels", "'y' at train.csv:1"),
        ("conflicting_labels", "'x' at train.csv:0"),
        ("conflicting_labels", "'y' at train.csv:1"),
        KEPT,
    ]
    assert marked(rows, conflicts="report") == [KEPT] * 4
    with pytest.raises(
        DataError, match=r"3 rows: conflicting_labels, the first at train\.csv:0 \('y' at train\.csv:1\)"
    ):
        marked(rows, conflicts="fail")


def test_training_rows_that_stand_in_a_held_out_file_are_rejected_whatever_their_label() -> None:
    rows = [("train", "a", "x"), ("train", "b", "x"), ("validation", "B", "y"), ("test", "a", "y"), ("test", "c", "x")]
    assert marked(rows, leakage="drop") == [
        ("leakage", "also at test.csv:3"),
        ("leakage", "also at validation.csv:2"),
        KEPT,
        KEPT,
        KEPT,
    ]
    assert marked(rows, leakage="report") == [KEPT] * 5
    with pytest.raises(DataError, match="2 rows: leakage"):
        marked(rows, leakage="fail")


def test_a_validation_row_that_stands_in_the_test_file_leaks_and_the_test_row_stays() -> None:
    rows = [("validation", "a", "x"), ("test", "a", "x"), ("test", "a", "y")]
    assert marked(rows, leakage="drop", duplicates="drop", conflicts="quarantine") == [
        ("leakage", "also at test.csv:1"),
        KEPT,
        KEPT,
    ]


def test_rows_that_were_rejected_before_count_for_nothing() -> None:
    rows = [("train", "a", "x"), ("train", "a", "y"), ("train", "a", "x"), ("test", "a", "x")]
    before: list[str | None] = ["not_utf8", "missing_label", None, "blank_text"]
    after = mark_rejected(table(rows, before), AuditSection()).column("reason").to_pylist()
    assert after == before


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["train", "train", "validation", "test"]),
        st.sampled_from(["a", "A ", "b", "B", "c", "d  e", "d e"]),
        st.sampled_from(["x", "y"]),
    ),
    max_size=14,
)
ACTIONS = st.fixed_dictionaries(
    {
        "duplicates": st.sampled_from(["drop", "report"]),
        "conflicts": st.sampled_from(["quarantine", "report"]),
        "leakage": st.sampled_from(["drop", "report"]),
    }
)


@given(ROWS, ACTIONS, st.randoms(use_true_random=False))
@example([], {"duplicates": "drop", "conflicts": "quarantine", "leakage": "drop"}, random.Random(0))
def test_the_books_balance(rows: list[Row], actions: dict[str, str], draw: random.Random) -> None:
    before = [draw.choice([None, None, None, "blank_text"]) for _ in rows]
    given_rows = table(rows, before)
    found = mark_rejected(given_rows, REPORT.model_copy(update=actions))
    # Nothing but reason and detail changes, and no row comes or goes.
    others = [name for name in ROW.names if name not in ("reason", "detail")]
    assert found.schema.equals(ROW) and found.select(others).equals(given_rows.select(others))
    after = found.column("reason").to_pylist()
    assert all(late == early for late, early in zip(after, before, strict=True) if early)
    assert sum(rejected_by_reason(found).values()) + after.count(None) == len(rows)
    # What is dropped is no longer there; what is only reported is still counted.
    left = findings(found)
    assert left["duplicates"] == 0 or actions["duplicates"] == "report"
    assert left["conflicting_labels"] == 0 or actions["conflicts"] == "report"
    assert left["leakage"] == 0 or actions["leakage"] == "report"
    # A row of the person's own test file is never rejected for its text.
    assert all(late == early for (origin, *_), late, early in zip(rows, after, before, strict=True) if origin == "test")


@given(ROWS)
def test_the_default_audit_keeps_each_training_text_once_with_one_label(rows: list[Row]) -> None:
    found = mark_rejected(table(rows), AuditSection()).to_pylist()
    kept = [same_text(row["text"]) for row in found if row["reason"] is None and row["origin"] == "train"]
    assert len(kept) == len(set(kept))
    texts = {same_text(text) for _, text, _ in rows}
    for text in texts:  # and loses a text only when there is a cause
        labels = {label for origin, each, label in rows if origin == "train" and same_text(each) == text}
        held = any(origin != "train" and same_text(each) == text for origin, each, _ in rows)
        assert (text in kept) == (len(labels) == 1 and not held)


# --- near duplicates


def pieces(text: str) -> set[str]:
    """4-letter pieces, written again from the description: letters, digits and single spaces, case aside."""
    letters = " ".join("".join(c for c in text.casefold() if c.isalnum() or c == " ").split()) or text
    return {letters[at : at + 4] for at in range(len(letters) - 3)} or {letters}


def jaccard(first: str, second: str) -> float:
    return len(pieces(first) & pieces(second)) / len(pieces(first) | pieces(second))


def alike_texts(seed: int) -> list[str]:
    """Twelve sentences and three copies of each with up to three words changed."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(30)]
    texts = [draw.choices(words, k=draw.randint(3, 12)) for _ in range(12)]
    for text in texts[:12]:
        for _ in range(3):
            copy = list(text)
            for _ in range(draw.randint(0, 3)):
                copy[draw.randrange(len(copy))] = draw.choice(words)
            texts.append(copy)
    return [" ".join(text) for text in texts]


@pytest.mark.parametrize(("threshold", "recall"), [(0.5, 0.95), (0.7, 0.97), (0.8, 0.98), (0.9, 1.0)])
def test_near_duplicates_are_those_of_an_exact_comparison_of_all_pairs(threshold: float, recall: float) -> None:
    """Never a wrong pair; of the right ones at least `recall` (6 seeds, about 200 pairs at 0.5)."""
    found_pairs = exact_pairs = 0
    for seed in range(6):
        texts = alike_texts(seed)
        exact = {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(texts[i], texts[j]) >= threshold}
        found = near_duplicates(texts, threshold)
        assert found == sorted(set(found)) and set(found) <= exact
        found_pairs, exact_pairs = found_pairs + len(found), exact_pairs + len(exact)
    assert exact_pairs > 50
    assert found_pairs >= recall * exact_pairs


@given(st.lists(st.text(max_size=12), max_size=8))
def test_equal_texts_are_always_a_pair_and_pairs_are_never_wrong(texts: list[str]) -> None:
    found = near_duplicates(texts, 0.8)
    for i, j in found:
        assert i < j and jaccard(texts[i], texts[j]) >= 0.8
    for i, j in combinations(range(len(texts)), 2):
        if texts[i] == texts[j]:
            assert (i, j) in found


def test_texts_of_signs_only_are_compared_as_they_are() -> None:
    assert near_duplicates(["🙂🙂🙂", "🙂🙂🙂", "!!!", "", ""], 0.8) == [(0, 1), (3, 4)]


def test_a_threshold_of_one_turns_it_off() -> None:
    assert near_duplicates(["same", "same"], 1) == []


# --- labels and lengths


def test_labels_that_differ_by_case_spacing_or_signs_are_named_together() -> None:
    labels = ["Refund", "refund ", "re-fund", "delivery", "Delivery", "C++", "?", "!", "ärger", "ÄRGER"]
    assert label_variants([*labels, "other"]) == [
        ["Delivery", "delivery"],
        ["Refund", "re-fund", "refund "],
        ["ÄRGER", "ärger"],
    ]
    assert label_variants(["a", "b", "a"]) == []


def test_lengths_are_summed_up() -> None:
    found = lengths_summary(np.arange(1, 101), cut=5)
    assert found == {"mean": 50.5, "p50": 50, "p90": 90, "p99": 99, "max": 100, "cut": 5, "cut_share": 0.05}
    assert lengths_summary(np.array([], int), cut=0)["max"] == 0
