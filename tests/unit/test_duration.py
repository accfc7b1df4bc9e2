"""Lengths of time: the two largest units, where the second still tells something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.duration import UNITS, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((-3, "0 s"), (0, "0 s"), (42, "42 s"), (59.6, "1 min"), (60, "1 min"), (140, "2 min 20 s"), (720, "12 min")),
        *((3599, "59 min"), (3600, "1 h"), (5400, "1 h 30 min"), (40_000, "11 h"), (200_000, "2 d 7 h")),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words


@given(st.floats(0, 1e8))
def test_a_span_is_what_it_says_to_a_tenth(seconds: float) -> None:
    parts = span(seconds).split()
    said = sum(int(count) * dict(UNITS)[unit] for count, unit in zip(parts[::2], parts[1::2], strict=True))
    assert said <= round(seconds) and round(seconds) - said <= 0.1 * seconds
