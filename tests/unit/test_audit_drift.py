"""Drift is seen where it was put, not seen where there is none, and the same each time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.audit.drift import Side, drift_finding, label_drift, length_drift
from raysft.audit.drift_words import LEAST_ROWS, choose_rows, word_drift

Array = np.ndarray[Any, Any]
WORDS = [f"word{number}" for number in range(60)]
CODES = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def texts(rows: int, seed: int, extra: str = "", share: float = 0.0) -> list[str]:
    random = np.random.default_rng(seed)
    drawn = [" ".join(random.choice(WORDS, 8)) for _ in range(rows)]
    return [f"{text} {extra}" if random.random() < share else text for text in drawn]


@given(CODES, CODES, st.integers(1, 50))
def test_chosen_rows_agree_in_their_labels(first: list[int], second: list[int], rows: int) -> None:
    a, b = np.array(first), np.array(second)
    mine, theirs = choose_rows(a, b, seed=1, rows=rows)
    assert a[mine].tolist() == b[theirs].tolist()
    assert len(set(mine.tolist())) == len(mine) and len(set(theirs.tolist())) == len(theirs)
    assert len(mine) <= max(rows, len(np.intersect1d(a, b)))
    assert set(a[mine].tolist()) == set(first) & set(second)
    again = choose_rows(a, b, seed=1, rows=rows)
    assert all(np.array_equal(x, y) for x, y in zip((mine, theirs), again, strict=True))


def test_the_same_words_tell_nothing() -> None:
    found = [word_drift(texts(200, seed), texts(200, seed + 100)) or {} for seed in range(5)]
    assert np.mean([each["auc"] for each in found]) == pytest.approx(0.5, abs=0.04)
    assert sum(each["low"] < 0.5 < each["high"] for each in found) >= 4
    assert sum(len(each["first"]) + len(each["second"]) for each in found if each["low"] < 0.5) <= 3


def test_labels_of_few_rows_do_not_hide_drift() -> None:
    """One row of each label a side: held out alone, its label reminds of the other side, which was learnt from."""
    rows = 150
    names = [f"subject{n} topic{n} matter{n} theme{n}" for n in range(rows)]
    first, second = ([" ".join(pair) for pair in zip(names, texts(rows, seed), strict=True)] for seed in (1, 2))
    blind = word_drift(first, second[1:] + second[:1])
    aware = word_drift(first, second, labels=np.arange(rows))
    assert blind is not None and aware is not None
    assert blind["high"] < 0.4 < aware["low"]


def test_another_word_is_seen_and_named() -> None:
    found = word_drift(texts(300, 1), texts(300, 2, "lockdown", 0.9))
    assert found is not None and found["low"] > 0.6
    assert found["second"][0]["word"] == "lockdown"
    assert found["second"][0]["first"] == 0 and found["second"][0]["second"] > 100
    assert found == word_drift(texts(300, 1), texts(300, 2, "lockdown", 0.9))
    section = {"between": ["train", "test"], "labels": None, "words": found, "lengths": None}
    finding = drift_finding(section, "fail")
    assert (finding.level, finding.found, finding.action) == ("warning", 1, "fail")
    assert finding.examples[0].text == "lockdown" and "in 0 texts of train" in finding.examples[0].detail


def test_near_duplicates_do_not_fake_it() -> None:
    """Twenty copies of ten texts a side, each side its own: only their units say that there is nothing to learn."""
    first = [text for text in texts(10, 1) for _ in range(20)]
    second = [text for text in texts(10, 2) for _ in range(20)]
    units = np.repeat(np.arange(10), 20), np.repeat(np.arange(10, 20), 20)
    naive, honest = word_drift(first, second), word_drift(first, second, units=units)
    assert naive is not None and honest is not None
    assert naive["auc"] > 0.99
    assert honest["low"] < 0.5 or honest["auc"] < 0.7
    assert honest["high"] - honest["low"] > naive["high"] - naive["low"]


def test_few_rows_and_texts_without_words() -> None:
    assert word_drift(texts(LEAST_ROWS - 1, 1), texts(500, 2)) is None
    found = word_drift(["?"] * 60, ["!"] * 60)
    assert found is not None and found["auc"] == 0.5 and found["first"] == []


def test_writing_without_spaces() -> None:
    first, second = (
        ["我的卡什么时候到" + c for c in "一二三四五六七八九十" * 8],
        ["请问退款需要多久" + c for c in "一二三四五六七八九十" * 8],
    )
    found = word_drift(first, second)
    assert found is not None and found["auc"] > 0.99 and found["first"] and found["second"]


def test_words_hold_no_personal_data() -> None:
    """What tells the parts apart is personal in every text, some of it across the letter at which texts are cut."""
    private = "jane.doe@example.com or 0171 1234567 or 4111 1111 1111 1111 or 99887766"
    plain = texts(100, 1)
    found = word_drift(plain, [f"{text} {private}" for text in texts(100, 2)])
    assert found is not None and found["low"] > 0.9, "that the parts differ is seen"
    cut = word_drift(plain, [f"{'x' * 1987} {private}" for _ in plain])
    said = json.dumps([found, cut])
    assert found["second"] and not [part for part in ("jane", "doe", "0171", "4111", "1234567", "9988") if part in said]


def test_a_word_of_one_unit_is_not_telling() -> None:
    """One customer of either side says a word of his own in each of forty texts."""
    first, second = texts(200, 1), texts(200, 2)
    first[:40], second[:40] = (
        [f"{text} {word}" for text in side[:40]] for side, word in ((first, "ahoy"), (second, "hi"))
    )
    own = np.r_[np.zeros(40), np.arange(1, 161)].astype(np.int64)
    alone, together = word_drift(first, second), word_drift(first, second, (own, own + 1000))
    assert alone is not None and together is not None
    assert {"ahoy", "hi"} <= {each["word"] for side in ("first", "second") for each in alone[side]}
    assert not {"ahoy", "hi"} & {each["word"] for side in ("first", "second") for each in together[side]}


def rows_of(**counts: int) -> Side:
    """So many rows of each label, every row a unit of its own."""
    values = np.repeat(np.arange(len(counts)), list(counts.values()))
    return Side(values, np.arange(len(values)))


def apart(first: Side, second: Side) -> tuple[Side, Side]:
    """The same with no unit on both sides."""
    return first, Side(second.values, second.units + 10**6)


def test_shares_of_labels() -> None:
    same = label_drift(*apart(rows_of(a=500, b=500), rows_of(a=248, b=252)), ["a", "b"])
    assert same["distance"] < 0.02 and same["p_value"] > 0.5
    sides = apart(rows_of(a=500, b=500), rows_of(a=450, b=50))
    other = label_drift(*sides, ["a", "b"])
    assert other["distance"] == pytest.approx(0.4) and other["p_value"] < 0.001 and other["n"] == [1000, 500]
    assert other["most"][0] == {"label": "a", "first": 0.5, "second": 0.9}
    assert other == label_drift(*sides, ["a", "b"]), "the seed decides"
    nothing = Side(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert label_drift(nothing, rows_of(a=1), ["a"])["p_value"] == label_drift(nothing, nothing, [])["p_value"] == 1.0
    assert label_drift(*apart(rows_of(a=3), rows_of(a=9)), ["a"]) == {
        "n": [3, 9],
        "distance": 0.0,
        "by_chance": 0.0,
        "p_value": 1.0,
        "most": [],
    }


def test_chance_is_what_two_samples_of_the_same_show() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(30))
    seen, expected = [], []
    for _ in range(40):
        drawn = (Side(random.choice(30, n, p=shares), np.arange(n)) for n in (800, 200))
        found = label_drift(*apart(*drawn), [str(name) for name in range(30)])
        seen.append(found["distance"])
        expected.append(found["by_chance"])
    assert np.mean(seen) == pytest.approx(np.mean(expected), rel=0.1)


def customers(number: int, random: np.random.Generator, most: float = 0.0) -> tuple[Side, Side]:
    """(labels, lengths) of customers with 20 rows each, who have their own habits; `most` moves all to one label."""
    labels, lengths = [], []
    for _ in range(number):
        habit = (1 - most) * random.dirichlet(np.full(8, 0.5)) + most * np.eye(8)[0]
        labels.append(random.choice(8, 20, p=habit))
        lengths.append(random.poisson(random.gamma(6, 2), 20))
    unit = np.repeat(np.arange(number), 20)
    return Side(np.concatenate(labels), unit), Side(np.concatenate(lengths), unit)


def test_customers_of_one_population_do_not_differ() -> None:
    """100 and 20 customers: as single rows their labels and lengths differ in most draws, as customers hardly ever."""
    random = np.random.default_rng(3)
    p_values, far, naive = [], 0, 0
    for _ in range(100):
        (labels, lengths), (labels_2, lengths_2) = customers(100, random), customers(20, random)
        p_values.append(label_drift(*apart(labels, labels_2), list("abcdefgh"))["p_value"])
        found = length_drift(*apart(lengths, lengths_2))
        far += found["distance"] > found["by_chance"]
        rows = [Side(each.values, np.arange(len(each.values))) for each in (labels, labels_2)]
        naive += label_drift(*apart(*rows), list("abcdefgh"))["p_value"] < 0.001
    assert naive > 50 and far <= 2
    assert sum(p <= 0.05 for p in p_values) <= 12 and min(p_values) > 0.001
    assert 0.4 < np.mean(p_values) < 0.6


def test_customers_of_another_population_do_differ() -> None:
    random = np.random.default_rng(4)
    found = [
        label_drift(*apart(customers(100, random)[0], customers(20, random, 0.4)[0]), list("abcdefgh"))["p_value"]
        for _ in range(20)
    ]
    assert sum(p < 0.001 for p in found) >= 18


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_lengths_as_scipy_compares_them(first: list[int], second: list[int]) -> None:
    from scipy.stats import ks_2samp

    one, two = (Side(np.array(each), np.arange(len(each))) for each in (first, second))
    found = length_drift(one, two)
    assert found["distance"] == pytest.approx(ks_2samp(first, second).statistic, abs=1e-4)
    assert found["medians"][0] == np.percentile(first, 50, method="inverted_cdf")
    assert found["n"] == [len(first), len(second)]


def test_the_finding_weighs_each_difference() -> None:
    alike = {
        "between": ["train", "test"],
        "labels": label_drift(*apart(rows_of(a=50, b=50), rows_of(a=50, b=50)), "ab"),
    }
    assert drift_finding(alike, "report").level == "fine"
    short, long = (Side(np.full(500, words), np.arange(500)) for words in (5, 50))
    unlike = {
        "between": ["train", "test"],
        "labels": label_drift(*apart(rows_of(a=5000, b=5000), rows_of(a=4200, b=5800)), "ab"),
        "words": None,
        "lengths": length_drift(*apart(short, long)),
    }
    finding = drift_finding(unlike, "report")
    assert (finding.found, finding.level) == (2, "warning")
    assert "Shares of labels differ by 8%" in finding.explanation and "medians 5 and 50" in finding.explanation
    mild = {**unlike, "lengths": None}
    assert drift_finding(mild, "report").level == "note"
    nothing = Side(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert drift_finding({"between": ["train", "test"], "lengths": length_drift(nothing, nothing)}, "report").found == 0
