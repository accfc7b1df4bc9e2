"""Words as people write them: what has one tag in a corpus of tagged texts."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.spaced import word_starts


def words(text: str) -> list[str]:
    starts = word_starts(text).tolist()
    return [text[start:end].strip() for start, end in pairwise([*starts, len(text)])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Order A-10432 never came to Leeds.", ["Order", "A-10432", "never", "came", "to", "Leeds", "."]),
        ("@ann_lee see https://ex.org/a?b=1 #cats", ["@ann_lee", "see", "https://ex.org/a?b=1", "#cats"]),
        ('("Ann Lee"), 2nd', ['("', "Ann", "Lee", '"),', "2nd"]),
        ("Ann's cat, Ann’s.", ["Ann", "'s", "cat", ",", "Ann", "’s."]),
        ("Winter 's Bone", ["Winter", "'s", "Bone"]),
        (":) ... -- \"'", [":)", "...", "--", "\"'"]),
        ("U.S. O'Neil\r\nnaïve e\u0301te\u0301\u00a0x", ["U.S", ".", "O'Neil", "naïve", "e\u0301te\u0301", "x"]),
        ("", []),
        (" \t\n", []),
    ],
)
def test_words_stand_between_spaces_without_the_punctuation_at_their_edges(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(st.sampled_from(" \n\u3000\"'(.),!ab’s@é🙂你\u0301"), max_size=40))
def test_every_character_that_is_no_space_is_in_one_word(text: str) -> None:
    starts = word_starts(text).tolist()
    assert starts == sorted(set(starts)) and all(not text[start].isspace() for start in starts)
    assert "".join(words(text)) == "".join(text.split())
    assert all(not any(letter.isspace() for letter in word) for word in words(text))
    begins = {place for place, letter in enumerate(text) if not letter.isspace() and not text[:place][-1:].strip()}
    assert begins <= set(starts)


def test_a_run_of_punctuation_takes_no_longer_the_longer_it_is() -> None:
    """Linear: a text of a million dots is nothing to wait for (by the square it would take minutes)."""
    began = time.process_time()
    assert len(word_starts("a" + "." * 1_000_000 + "b" + "'" * 1_000_000)) == 2
    assert time.process_time() - began < 5
