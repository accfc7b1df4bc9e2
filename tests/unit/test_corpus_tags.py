"""Every scheme of tags gives the same entities; what is no tag is named."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.cells import Unusable
from raysft.corpus.tags import entities, plain_types

Entity = tuple[int, int, str]

SCHEMES = [
    ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # BIO
    ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
    ("I-PER I-PER O I-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # IOB1
    ("I-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
    ("I-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),  # a new type is a new entity
    ("O I-PER", [(1, 2, "PER")]),  # I- without B-
    ("B-PER E-PER S-PER O", [(0, 2, "PER"), (2, 3, "PER")]),  # BIOES
    ("B-PER I-PER L-PER U-LOC U-LOC", [(0, 3, "PER"), (3, 4, "LOC"), (4, 5, "LOC")]),  # BILOU
    ("B-PER M-PER E-PER I-PER", [(0, 3, "PER"), (3, 4, "PER")]),  # BMES
    ("PER PER O LOC PER", [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "PER")]),  # plain types
    ("B_PER I_PER o", [(0, 2, "PER")]),
    ("B-ORG-part I-ORG-part", [(0, 2, "ORG-part")]),
    ("E-mail E-mail O phone", [(0, 2, "E-mail"), (3, 4, "phone")]),  # no scheme ends what never begins
    ("O E-mail", [(1, 2, "E-mail")]),
    ("U-turn name", [(0, 1, "U-turn"), (1, 2, "name")]),
    ("S-PER O U-LOC", [(0, 1, "PER"), (2, 3, "LOC")]),  # entities of one token are all that a sentence may have
    ("O O", []),
    ("", []),
]


@pytest.mark.parametrize(("tags", "found"), SCHEMES)
def test_schemes(tags: str, found: list[Entity]) -> None:
    assert entities(tags.split()) == found


BAD = [
    ("O 3", "3 is a number without a name; write tags such as B-PER"),
    ("O ['B-PER',", "found \"['B-PER',\"; known are O, a type, and a type after B- I- E- S- L- U- or M-"),
    ("B O", "found 'B'; known are O, a type, and a type after B- I- E- S- L- U- or M-"),
    ("B- O", "found 'B-'; known are O, a type, and a type after B- I- E- S- L- U- or M-"),
    ("B-PER PER", "'PER' has no B- or I- as the others have"),
]


@pytest.mark.parametrize(("tags", "detail"), BAD)
def test_what_is_no_tag_is_named(tags: str, detail: str) -> None:
    with pytest.raises(Unusable) as raised:
        entities(tags.split())
    assert (raised.value.reason, raised.value.detail) == ("bad_tag", detail)


def test_an_empty_tag_is_none() -> None:
    with pytest.raises(Unusable, match="bad_tag"):
        entities(["O", ""])


@pytest.mark.parametrize(
    ("tags", "plain"),
    [
        ("B-PER I-PER O", False),
        ("I-PER O", False),
        ("B-PER L-PER U-LOC O", False),
        ("S-PER U-LOC", False),
        ("B-PER PER", False),  # a slip, which its row is rejected for
        ("E-mail O", True),
        ("U-turn name", True),
        ("PER O", True),
        ("O o", None),
        ("", None),
    ],
)
def test_a_scheme_is_seen_from_all_tags_together(tags: str, plain: bool | None) -> None:
    assert plain_types(tags.split()) == plain


def test_what_the_corpus_has_decides_for_a_sentence() -> None:
    assert entities(["S-Bahn", "O"], plain=True) == [(0, 1, "S-Bahn")]
    assert entities(["E-PER", "O"], plain=False) == [(0, 1, "PER")]
    with pytest.raises(Unusable, match="bad_tag"):
        entities(["B-PER", "PER"], plain=False)


def written(length: int, found: list[Entity], first: str, inside: str, last: str, only: str) -> list[str]:
    tags = ["O"] * length
    for start, end, name in found:
        marks = [only] if end - start == 1 else [first, *[inside] * (end - start - 2), last]
        tags[start:end] = [f"{mark}-{name}" for mark in marks]
    return tags


@st.composite
def sentences(draw: st.DrawFn) -> tuple[int, list[Entity]]:
    """(tokens, entities that do not overlap)."""
    places = sorted(draw(st.sets(st.integers(0, 30), max_size=12)))
    pairs = zip(places[::2], places[1::2], strict=False)
    found = [(start, end, draw(st.sampled_from(["PER", "LOC", "B-rand", "é"]))) for start, end in pairs]
    return 30, found


@given(sentences())
def test_every_scheme_gives_the_entities_back(sentence: tuple[int, list[Entity]]) -> None:
    length, found = sentence
    for marks in ("BIIB", "BIES", "BILU", "BMES"):
        assert entities(written(length, found, *marks)) == found


@given(sentences())
def test_iob1_gives_the_entities_back(sentence: tuple[int, list[Entity]]) -> None:
    length, found = sentence
    tags = written(length, found, "I", "I", "I", "I")
    for before, (start, _, name) in pairwise(found):
        if before[1:] == (start, name):  # only a neighbour of the same type needs a B
            tags[start] = f"B-{name}"
    assert entities(tags) == found
