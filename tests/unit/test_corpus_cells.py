"""Every cell is a text, a list, a date or a part, or says why it is not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.cells import Unusable, group_of, list_of, part_of, short, shown, text_of
from raysft.corpus.times import time_of, written

TEXTS = [
    (" a ", "a"),
    (True, "true"),
    (False, "false"),
    (3, "3"),
    (3.0, "3"),
    (-0.0, "0"),
    (2.5, "2.5"),
    (1e300, "1e+300"),
    (float("inf"), "inf"),
    (Decimal("3.00"), "3"),
    (Decimal("3.10"), "3.10"),
    (b"caf\xc3\xa9", "café"),
    (date(2024, 1, 31), "2024-01-31"),
    (None, ""),
    (float("nan"), ""),
    (Decimal("NaN"), ""),
    (Decimal("sNaN"), ""),
]


@pytest.mark.parametrize(("cell", "text"), TEXTS)
def test_plain_values_become_text(cell: Any, text: str) -> None:
    assert text_of(cell, "label") == text


NO_TEXTS = [
    (["a"], "text_is_not_text", "found a list of 1"),
    ({"a": 1}, "text_is_not_text", "found an object"),
    (timedelta(1), "text_is_not_text", "found a value of type timedelta"),
    (10**101, "text_is_not_text", "found a number of more than 100 digits"),
    ("a\ud800", "not_utf8", "in the text"),
    (b"\xff", "not_utf8", "in the text"),
]


@pytest.mark.parametrize(("cell", "reason", "detail"), NO_TEXTS)
def test_what_is_no_text_says_what_it_is(cell: Any, reason: str, detail: str) -> None:
    with pytest.raises(Unusable) as raised:
        text_of(cell, "text")
    assert (raised.value.reason, raised.value.detail) == (reason, detail)


def test_a_number_too_long_to_print_is_no_text() -> None:
    with pytest.raises(Unusable, match="label_is_not_text"):
        text_of(10**5000, "label")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4))
def test_lists_are_read_from_json(value: list[Any]) -> None:
    assert list_of(json.dumps(value)) == value
    assert list_of(f" {json.dumps(value, ensure_ascii=False)}\n") == value
    assert list_of(tuple(value)) == value


@given(st.lists(st.one_of(st.text(st.characters(codec="utf-8")), st.integers(), st.tuples(st.integers(), st.text()))))
def test_lists_are_read_as_python_prints_them(value: list[Any]) -> None:
    found = list_of(repr(value))
    assert found is None or [tuple(item) if isinstance(item, list) else item for item in found] == value
    if "\x00" not in repr(value):
        assert found is not None


NO_LISTS: list[Any] = [
    "['B-PER' 'O']",  # numpy; Python would join the two
    "['a', print]",
    "[f'{1}']",
    "[1](2)",
    "[" * 100_000,
    "[" * 9 + "'a'" + "]" * 9,
    "[" * 5000 + "1" + "]" * 5000 + "x",
    "[1, 2",
    "['\\x']",
    "[OTHER]",
    "['\x00']",
    "['\ud800",
    "{}",
    "a",
    3,
    None,
    {"a": [1]},
]


def test_what_only_looks_like_a_list_is_none() -> None:
    assert [list_of(cell) for cell in NO_LISTS] == [None] * len(NO_LISTS)


TIMES = [
    (0, 0.0),
    (2.5, 2.5),
    (Decimal("2.5"), 2.5),
    ("1706659200", 1706659200.0),
    (" -1.5e3 ", -1500.0),
    ("2024-01-31", 1706659200.0),
    ("2024-01-31 10:00", 1706695200.0),
    ("2024-01-31T10:00:00", 1706695200.0),
    ("2024-01-31T10:00:00Z", 1706695200.0),
    ("2024-01-31 10:00:00 UTC", 1706695200.0),
    ("2024-01-31 10:00:00.5", 1706695200.5),
    ("2024-01-31T11:00:00+01:00", 1706695200.0),
    ("2024-01-31 11:00:00 +0100", 1706695200.0),
    ("2024/01/31 10:00", 1706695200.0),
    ("31.01.2024 10:00:00", 1706695200.0),
    ("31.1.2024", 1706659200.0),
    ("31 Jan 2024", 1706659200.0),
    ("January 31, 2024", 1706659200.0),
    ("Wed, 31 Jan 2024 11:00:00 +0100", 1706695200.0),
    ("Wed Jan 31 11:00:00 +0100 2024", 1706695200.0),
    (date(2024, 1, 31), 1706659200.0),
    (datetime(2024, 1, 31, 10), 1706695200.0),
    (datetime(2024, 1, 31, 11, tzinfo=timezone(timedelta(hours=1))), 1706695200.0),
]


@pytest.mark.parametrize(("cell", "seconds"), TIMES)
def test_times_as_people_write_them(cell: Any, seconds: float) -> None:
    assert time_of(cell) == seconds


@pytest.mark.parametrize("cell", ["01/02/2024", "soon", "inf", True, [1], 10**309, "1e999", "2024-13-01", "٣"])
def test_what_is_no_time_has_a_reason(cell: Any) -> None:
    with pytest.raises(Unusable) as raised:
        time_of(cell)
    assert raised.value.reason in {"bad_time", "time_is_not_text"}
    assert raised.value.detail


@given(st.datetimes(timezones=st.none() | st.timezones() | st.just(UTC)))
def test_a_date_and_its_text_are_the_same_time(moment: datetime) -> None:
    assert time_of(moment.isoformat()) == pytest.approx(time_of(moment), abs=1)
    if moment.tzinfo is None:
        assert time_of(moment) == time_of(moment.replace(tzinfo=UTC))


@given(st.datetimes(timezones=st.none() | st.just(UTC)), st.sampled_from(["dates", "numbers"]))
def test_a_time_that_is_written_down_is_read_again(moment: datetime, form: str) -> None:
    time = time_of(moment)
    assert time_of(written(time, form), form) == pytest.approx(time, abs=1e-3)
    assert written(None, form) is None and written(1e18, "dates") is None


PARTS = {
    "train": "train",
    "Training": "train",
    " validation": "validation",
    "VALID": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


@pytest.mark.parametrize(("cell", "part"), PARTS.items())
def test_parts_have_many_names(cell: str, part: str) -> None:
    assert part_of(cell) == part


@pytest.mark.parametrize(("cell", "seen"), [("holdout", "'holdout'"), ("", "nothing"), (None, "nothing"), (1, "'1'")])
def test_an_unknown_part_is_named(cell: Any, seen: str) -> None:
    with pytest.raises(Unusable) as raised:
        part_of(cell)
    assert raised.value.reason == "unknown_split"
    assert raised.value.detail.startswith(f"found {seen}; allowed: train,")


def test_a_group_must_have_a_name() -> None:
    assert group_of(7.0) == "7"
    for nothing in (None, " ", float("nan"), "\x00"):
        with pytest.raises(Unusable, match="missing_group"):
            group_of(nothing)


def test_every_cell_can_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "(a list of 1)"
    assert shown(["a", "b\ud800"]) == "a b\ufffd"
    assert shown({"a": "\ud800"}) == '{"a": "\ufffd"}'
    assert shown({(1, 2): 3}) == "(an object)"
    assert shown([10**5000]) == "(a list of 1)"
    assert shown(b"\xff") and shown(None) == ""
    assert short("x" * 100) == repr("x" * 59 + "…")
