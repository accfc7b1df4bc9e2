"""Lengths are counted exactly, batch by batch, and the advice on max_length holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.audit.lengths import (
    BINS,
    count_lengths,
    cut_finding,
    histogram,
    lengths_section,
    one_word,
    quantile,
    short_finding,
)

LENGTHS = st.lists(st.integers(1, 5000), min_size=1, max_size=200)


def counted(lengths: list[int]) -> Counter[int]:
    return count_lengths(np.array(lengths, np.int32))


@given(LENGTHS, st.integers(1, 5000))
def test_the_section_says_what_numpy_says(lengths: list[int], limit: int) -> None:
    section = lengths_section(counted(lengths), limit)
    assert section["texts"] == len(lengths) and section["max"] == max(lengths)
    assert section["cut"] == sum(length > limit for length in lengths)
    assert section["mean"] == pytest.approx(np.mean(lengths), abs=0.051)
    assert section["p50"] == np.percentile(lengths, 50, method="inverted_cdf")
    assert section["p99"] == np.percentile(lengths, 99, method="inverted_cdf")


@given(LENGTHS)
def test_enough_cuts_one_percent_at_most_and_no_shorter_one_does(lengths: list[int]) -> None:
    enough = lengths_section(counted(lengths), 10)["enough"]
    assert sum(length > enough for length in lengths) <= 0.01 * len(lengths)
    assert sum(length > enough - 1 for length in lengths) > 0.01 * len(lengths)


@given(LENGTHS)
def test_the_histogram_holds_every_text_once(lengths: list[int]) -> None:
    found = histogram(counted(lengths))
    edges, counts = found["edges"], found["counts"]
    assert len(edges) == len(counts) + 1 <= BINS + 1
    assert sum(counts) == len(lengths)
    assert edges == sorted(set(edges)) and edges[-1] > max(lengths)
    for number, count in enumerate(counts):
        assert count == sum(edges[number] <= length < edges[number + 1] for length in lengths)


@given(LENGTHS, LENGTHS)
def test_counts_of_batches_add_up(first: list[int], second: list[int]) -> None:
    assert counted(first) + counted(second) == counted(first + second)


def test_no_text_at_all() -> None:
    section = lengths_section(Counter(), 128)
    assert (section["texts"], section["mean"], section["p99"], section["max"], section["cut_share"]) == (
        0,
        0.0,
        0,
        0,
        0.0,
    )
    assert cut_finding(section).level == "fine" and quantile({}, 0.5) == 0


@pytest.mark.parametrize(("long", "level"), [(0, "fine"), (1, "note"), (2, "note"), (3, "warning")])
def test_cut_texts_warn_above_two_percent(long: int, level: str) -> None:
    finding = cut_finding(lengths_section(counted([10] * (100 - long) + [200] * long), 128))
    assert (finding.level, finding.found) == (level, long)
    assert ("model.max_length: 200 would cut at most 1%" in finding.explanation) == (long > 1)


def test_texts_of_one_word() -> None:
    assert one_word(["EMI", " refund ", "two words", "Größe?", "我想知道我的卡什么时候到", "x" * 200]) == [0, 1, 3]
    assert short_finding(3, 100).level == "fine"
    note = short_finding(10, 100)
    assert (note.level, note.found) == ("note", 10) and "10.0%" in note.explanation
    assert short_finding(0, 0).level == "fine"
