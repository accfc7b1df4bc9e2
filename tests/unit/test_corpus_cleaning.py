"""A clean text stays as it is, shows what people see, and spans move along with it."""

from __future__ import annotations

import unicodedata

from hypothesis import assume, example, given
from hypothesis import strategies as st

from raysft.corpus.cleaning import clean, readable, same_text
from raysft.corpus.offsets import clean_with_offsets

ODD = [
    *"ae <q=\r\n\t\x00\x0b\x1f\x85\x9f\u2028\u2029\ufeff\u200b\xa0",  # line ends, control characters, spaces
    *"\u0301\u0323\u0327\u0338\u0344\u0f73\u093c",  # marks that compose, are reordered, or decompose
    *"\u1100\u1161\u11a8가각\u0915\u0958\u09c7\u09be\u212b\u2adc\ufb01",  # letters that are put together
    *"🙂👩🏽\u200d\ufe0f\U00011099\U000110ba",
    "\r\n",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(st.sampled_from(ODD)).map("".join)


@given(TEXT)
@example("e\x00\u0301")
@example("\r\n\r")
@example("\x85 \x1f")
@example("\ufeff \u0301")
def test_a_clean_text_is_canonical_and_stays_as_it_is(text: str) -> None:
    found = clean(text)
    assert clean(found) == found
    assert unicodedata.is_normalized("NFC", found)
    assert found == found.strip()
    assert all(c in "\n\t" or unicodedata.category(c) not in {"Cc", "Zl", "Zp"} for c in found)
    assert "\ufeff" not in found


def test_cleaning_keeps_what_people_see() -> None:
    assert clean("\ufeff  Cafe\u0301\r\nau\tlait \x00🙂 ") == "Café\nau\tlait 🙂"
    assert clean("one\rtwo\x85three\u2028four\u2029five\x0csix") == "one\ntwo\nthree\nfour\nfive\nsix"
    assert clean("  plain text ") == "plain text"


@given(TEXT, TEXT)
def test_same_text_ignores_case_and_spacing_only(first: str, second: str) -> None:
    assert same_text(f" {first}\n") == same_text(first)
    assert same_text(first.casefold()) == same_text(first)
    assert (same_text(first) == same_text(second)) == (first.casefold().split() == second.casefold().split())


def test_half_a_character_can_be_shown() -> None:
    assert readable("a\ud83db") == "a\ufffdb"


def whole(text: str) -> str:
    """Cleaned, with the space around: a bar neither composes nor is it a space."""
    return clean(f"|{text}|")[1:-1]


def starts_a_letter(text: str) -> bool:
    return not text or unicodedata.combining(unicodedata.normalize("NFD", text)[0]) == 0


@given(TEXT, TEXT, TEXT)
@example("", "\r\n", "a")
@example("\r\n\r\n", "e\u0301", "\u1100")
@example("\x00\ufeff ", "\u1100\u1161", "\u1161")
def test_a_span_moves_with_its_text(before: str, span: str, after: str) -> None:
    text = before + span + after
    parts = [whole(before), whole(span), whole(after)]
    assume("".join(parts) == whole(text))  # else the span cuts a letter, or a line end of two characters
    assume(all(map(starts_a_letter, parts)))
    cleaned = clean_with_offsets(text)
    start, end = cleaned.move(len(before), len(before) + len(span))
    assert cleaned.text == clean(text)
    if not clean(span):
        assert start >= end
        return
    assert cleaned.text[start:end] == clean(span)
    assert cleaned.text[:start] == (parts[0] + parts[1][: len(parts[1]) - len(parts[1].lstrip())]).lstrip()


@given(TEXT, st.data())
def test_any_span_stays_in_the_text_and_in_order(text: str, data: st.DataObject) -> None:
    offsets = st.integers(0, len(text))
    first, second, third = sorted(data.draw(st.tuples(offsets, offsets, offsets)))
    cleaned = clean_with_offsets(text)
    for start, end in ((first, second), (second, third), (first, third)):
        moved = cleaned.move(start, end)
        assert 0 <= moved[0] <= len(cleaned.text) and 0 <= moved[1] <= len(cleaned.text)
        assert cleaned.text[moved[0] : moved[1]] == cleaned.text[moved[0] : moved[1]].strip()
    for moved_all in (list(map(cleaned.start, range(len(text) + 1))), list(map(cleaned.end, range(len(text) + 1)))):
        assert moved_all == sorted(moved_all)


def test_a_span_that_cuts_a_letter_takes_all_of_it() -> None:
    cleaned = clean_with_offsets("\r\n cafe\u0301!")
    assert cleaned.text == "café!"
    assert cleaned.move(3, 7) == (0, 4)  # "cafe", the accent left out
    assert cleaned.move(7, 8) == (3, 4)  # the accent alone
