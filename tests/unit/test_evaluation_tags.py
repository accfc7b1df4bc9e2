"""The dictionary beside a tagger, and its coloured examples."""

from __future__ import annotations

from raysft.evaluation.tags import dictionary, look_up
from raysft.report.tagged import SHOWN, pieces

TEXTS = ["New York is not York", "Ann met New York Times", "ann and Ann"]
SPANS = [
    [(0, 8, "LOC"), (16, 20, "LOC")],
    [(0, 3, "PER"), (8, 22, "ORG")],
    [(8, 11, "PER")],
]


def test_a_dictionary_takes_the_longest_entity_from_left_to_right() -> None:
    known = dictionary(TEXTS, SPANS)
    text = "The New York Times of New York, by Ann-York"
    found = look_up(text, known)
    assert [(text[start:end], name) for start, end, name in found] == [
        ("New York Times", "ORG"),
        ("New York", "LOC"),
        ("Ann", "PER"),
        ("York", "LOC"),
    ]
    assert look_up("new york ann", known) == [] == look_up("", known) == look_up("x", {})


def test_of_two_types_the_more_frequent_counts() -> None:
    known = dictionary(["Paris", "Paris", "Paris"], [[(0, 5, "LOC")], [(0, 5, "PER")], [(0, 5, "PER")]])
    assert look_up("Paris!", known) == [(0, 5, "PER")]


def test_pieces_are_the_text_with_its_entities() -> None:
    found = pieces("Ann is in Bern", [(0, 3, "PER"), (10, 14, "LOC")], ["LOC", "PER"])
    assert [(each.text, each.type, each.colour) for each in found] == [
        ("Ann", "PER", 1),
        (" is in ", "", 0),
        ("Bern", "LOC", 0),
    ]
    assert [each.text for each in pieces("abc", [], [])] == ["abc"]


def test_of_a_long_text_a_part_is_shown() -> None:
    text = "x" * 1000 + "Bern" + "y" * 1000
    found = pieces(text, [(1000, 1004, "LOC")], ["LOC"], (900, 900 + SHOWN))
    assert [each.text for each in found] == ["… ", "x" * 100, "Bern", "y" * (SHOWN - 104), " …"]
