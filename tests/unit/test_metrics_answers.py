"""Exact match and token F1 of answers: laws, the official definition, and intervals over units."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.metrics.answers import (
    NAMES,
    answer_difference,
    answer_estimates,
    answer_scores,
    exact_match,
    one_line,
    token_f1,
    words_of,
)

WORDS = st.lists(st.sampled_from(["The", "an", "a", "Order", "order.", "42", "größer", "…", "?!", "don't"]), max_size=8)
SAID = st.text(max_size=30) | WORDS.map(" ".join)


def official_f1(prediction: str, truth: str) -> float:
    """compute_f1 of evaluate-v2.0.py of SQuAD, written down again."""

    def tokens(text: str) -> list[str]:
        text = "".join(each for each in text.lower() if each not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    wanted, found = tokens(truth), tokens(prediction)
    same = sum((Counter(wanted) & Counter(found)).values())
    if not wanted or not found:
        return float(wanted == found)
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


@given(SAID, SAID)
def test_f1_is_the_official_one_symmetric_and_between_0_and_1(answer: str, reference: str) -> None:
    found = token_f1(answer, reference)
    assert found == token_f1(reference, answer)
    assert 0 <= found <= 1
    assert found == pytest.approx(official_f1(answer, reference), abs=1e-12)


@given(SAID, SAID)
def test_f1_is_1_where_the_bags_are_equal_and_0_where_they_share_nothing(answer: str, reference: str) -> None:
    mine, theirs = words_of(answer), words_of(reference)
    assert (token_f1(answer, reference) == 1) == (mine == theirs)
    assert (token_f1(answer, reference) == 0) == (not mine & theirs and bool(mine or theirs))


@given(st.permutations(["order", "42", "is", "late", "late"]))
def test_the_order_of_words_does_not_count_for_f1(words: list[str]) -> None:
    assert token_f1(" ".join(words), "Late, late is the order 42!") == 1


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("", "", 1), ("", "the", 1), ("?!", " \n", 1), ("", "x", 0), ("x", "", 0),
        ("a parcel", "the parcel", 1), ("It is late", "it is on time", 4 / 7), ("x x y", "x", 2 / 4),
    ],
)  # fmt: skip
def test_f1_spelled_out(answer: str, reference: str, f1: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(f1)


@given(st.text(max_size=40))
def test_exact_match_does_not_see_white_space_and_sees_everything_else(text: str) -> None:
    spread = "\n\t ".join(["", *text.split(), ""])
    assert exact_match(spread, text) and one_line(one_line(text)) == one_line(text)
    assert not exact_match(text + "x", text)


def test_exact_match_spelled_out() -> None:
    assert exact_match(" On\n Monday ", "On Monday") and not exact_match("on Monday", "On Monday")
    assert not exact_match("On Monday.", "On Monday") and exact_match("", " \n")
    assert not exact_match("no where", "nowhere")


def test_estimates_hold_their_values_and_say_how_many_rows() -> None:
    scores = answer_scores(["a b", "x", "y", "late"], ["a b", "x", "z", "late now"])
    found = answer_estimates(scores, np.arange(4))
    assert tuple(found) == NAMES
    assert found["exact_match"].value == 0.5 and found["token_f1"].value == pytest.approx((1 + 1 + 0 + 2 / 3) / 4)
    for each in found.values():
        assert 0 <= each.low < each.value < each.high <= 1 and each.n == 4


def test_rows_of_one_unit_count_as_one_in_the_interval() -> None:
    right = np.tile([1.0, 0.0], 50)
    alone = answer_estimates({"exact_match": right, "token_f1": right}, np.arange(100))["exact_match"]
    together = answer_estimates({"exact_match": right, "token_f1": right}, np.arange(100) % 10)["exact_match"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_where_all_is_right_the_interval_still_has_a_width() -> None:
    found = answer_estimates(answer_scores(["x"] * 20, ["x"] * 20), np.arange(20))["exact_match"]
    assert found.value == found.high == 1 and 0.7 < found.low < 0.95
    one = answer_estimates(answer_scores(["x"], ["y"]), np.arange(1))["exact_match"]
    assert one.value == one.low == 0 and one.high > 0.5 and one.n == 1


def test_a_difference_is_paired() -> None:
    random = np.random.default_rng(0)
    hard = random.random(200)
    found = answer_difference(np.minimum(1, hard + 0.1), hard, np.arange(200))
    assert found.low > 0 and found.value == pytest.approx(0.095, abs=0.02)
    assert answer_difference(hard, hard, np.arange(200)).value == 0
