"""What makes two words different and what does not; how many texts are compared at once."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import numpy as np
import pytest

from raysft.audit import pieces
from raysft.corpus.cleaning import clean


def same_pieces(first: str, second: str) -> bool:
    return bool(pieces.overlap([first, second], np.array([[0, 1]]))[0] == 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("मेरा कार्ड दिन में खो गया", "मेरा कार्ड दीन में खो गया"),  # day, poor: two vowel signs
        ("बाल", "बल"),  # hair, strength: with a vowel sign, without
        ("ช่วยหาที่ดีให้หน่อย", "ช่วยหาที่ดูให้หน่อย"),  # good, to look
        ("ไกล้", "ไกล"),  # a tone mark
        ("கல்", "கால்"),  # stone, leg
        ("কলা", "কালি"),
    ],
)
def test_words_that_differ_in_a_vowel_sign_are_different(first: str, second: str) -> None:
    assert not same_pieces(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("مُحَمَّدٌ كَتَبَ رِسَالَةً", "محمد كتب رسالة"),
        ("هٰذا", "هذا"),
        ("שָׁלוֹם עֲלֵיכֶם", "שלום עליכם"),
        ("Я живу́ в го́роде", "Я живу в городе"),  # stress, as in textbooks
        ("İstanbul", "istanbul"),  # casefold leaves a dot above
        ("love it ❤️", "love it ❤"),
        ("press 1️⃣", "press 1"),
    ],
)
def test_marks_that_people_leave_out_do_not_count(first: str, second: str) -> None:
    assert same_pieces(first, second)
    assert same_pieces(clean(first), clean(second))


def test_clean_texts_are_the_same_however_their_accents_are_written() -> None:
    text = "Où est passé le reçu de l'été dernier ? Ça m'inquiète, Noël approche."
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert composed != apart
    assert same_pieces(clean(composed), clean(apart))


def test_portions_are_all_pairs_in_order_and_none_loads_too_much() -> None:
    draw = np.random.default_rng(3)
    sizes = draw.choice([0, 1, 20, 60, 300], 40).astype(np.int32)
    pairs = draw.integers(0, len(sizes), (500, 2))
    parts = list(pieces.portions(pairs, sizes, 100, 7))
    assert (np.concatenate(parts) == pairs).all()
    assert all(len(part) == 1 or (len(part) <= 7 and sizes[part].sum() <= 100) for part in parts)
    for part, after in pairwise(parts):
        assert len(part) == 7 or sizes[part].sum() + sizes[after[0]].sum() > 100, "no portion is smaller than need be"


def test_short_texts_are_compared_many_at_once() -> None:
    pairs = np.arange(100_000).reshape(-1, 2)
    parts = list(pieces.portions(pairs, np.full(100_000, 45, np.int32), pieces.LOAD, 20_000))
    assert [len(part) for part in parts] == [20_000, 20_000, 10_000]
    assert list(pieces.portions(pairs[:0], np.zeros(0, np.int32), 100, 20_000)) == []
