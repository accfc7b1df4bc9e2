"""Labels, label sets, tags and spans as people have them become one canonical string, and come back from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.cells import Unusable
from raysft.corpus.cleaning import clean
from raysft.corpus.targets import label_set, labels_of, one_label, plain_text, spans_of, tagged_text

WNUT = Path(__file__).parents[2] / "../shared/data/wnut17"
TEXT = st.text(st.characters(codec="utf-8"))


def reason_of(call: Any, *cells: Any) -> tuple[str, str]:
    with pytest.raises(Unusable) as raised:
        call(*cells)
    return raised.value.reason, raised.value.detail


ONE = [("a", "a"), (" a\r\n", "a"), (3, "3"), (3.0, "3"), (True, "true"), (False, "false"), (0, "0"), ("[a]", "[a]")]


@pytest.mark.parametrize(("cell", "label"), ONE)
def test_one_label(cell: Any, label: str) -> None:
    assert one_label(cell) == label


@pytest.mark.parametrize("cell", [["a", "b"], ["a"], '["a", "b"]', "['a', 'b']"])
def test_a_list_needs_multi_label(cell: Any) -> None:
    reason, detail = reason_of(one_label, cell)
    assert reason == "several_labels"
    assert detail.endswith("set data.multi_label: true")


@pytest.mark.parametrize("cell", [None, "", " ", "\ufeff", float("nan")])
def test_nothing_is_no_label(cell: Any) -> None:
    assert reason_of(one_label, cell) == ("missing_label", "")
    assert reason_of(label_set, cell, None) == ("missing_label", "")


def test_an_object_is_no_label() -> None:
    assert reason_of(one_label, {"a": 1})[0] == "label_is_not_text"
    assert reason_of(label_set, [["a"]], None)[0] == "label_is_not_text"


SETS = [
    (["b", "a", "b"], None, ("a", "b")),
    ([3, True, 1.0, None, ""], None, ("1", "3", "true")),
    ('["b", "a, c"]', None, ("a, c", "b")),
    ("['b', 'a']", None, ("a", "b")),
    ("a", None, ("a",)),
    (7, None, ("7",)),
    ("a, b", "/", ("a, b",)),
    ("b / a", "/", ("a", "b")),
    (["a/b"], "/", ("a/b",)),  # a list is cut already
    ('["a", "b"]', " ", ('"b"]', '["a",')),  # what is written is done
]


@pytest.mark.parametrize(("cell", "separator", "labels"), SETS)
def test_several_labels(cell: Any, separator: str | None, labels: tuple[str, ...]) -> None:
    assert labels_of(label_set(cell, separator)) == labels


@pytest.mark.parametrize("cell", [[], "[]", ["", None]])
def test_an_empty_set_is_no_label(cell: Any) -> None:
    assert reason_of(label_set, cell, None) == ("missing_label", "")


@pytest.mark.parametrize(
    ("cell", "mark"), [("b; a;", ";"), ("b|a", "|"), ("b , a", ","), ("a", ";"), ('["a", "b"]', "|")]
)
def test_the_separator_of_the_corpus_is_the_one_that_cuts(cell: str, mark: str) -> None:
    assert set(labels_of(label_set(cell, None, mark))) == {"a", "b"} & set(re.findall("[ab]", cell))
    assert reason_of(label_set, f" {mark} ", None, mark) == ("missing_label", "")


@pytest.mark.parametrize(
    ("cell", "found", "said"),
    [
        ("Food, Drink;Travel", ";", ", in 'Food, Drink;Travel', while the first rows have ; between labels"),
        ("New York, NY", None, ", in 'New York, NY', while the first rows have no separator"),
    ],
)
def test_another_separator_than_that_of_the_corpus_is_not_guessed_at(cell: str, found: str | None, said: str) -> None:
    assert reason_of(label_set, cell, None, found) == ("bad_labels", f"{said}; set data.label_separator")
    assert labels_of(label_set(cell, ";", found)) == tuple(sorted(cell.split(";")))  # what is written counts


def test_half_a_list_is_not_cut_at_its_commas() -> None:
    assert reason_of(label_set, "['a' 'b', c]", None)[0] == "bad_labels"


@given(st.lists(TEXT))
def test_sets_do_not_depend_on_order_or_repeats(labels: list[str]) -> None:
    known = {clean(label) for label in labels} - {""}
    if known:
        found = label_set(labels, None)
        assert labels_of(found) == tuple(sorted(known))
        assert label_set([*reversed(labels), *labels], None) == found == label_set(json.dumps(labels), None)
        assert label_set(list(labels_of(found)), None) == found


TAGGED = [
    (["EU", "rejects", "German", "call"], ["B-ORG", "O", "B-MISC", "O"]),
    ('["EU", "rejects", "German", "call"]', '["B-ORG", "O", "B-MISC", "O"]'),
    ("['EU', 'rejects', 'German', 'call']", "['B-ORG', 'O', 'B-MISC', 'O']"),
    ("EU rejects  German call", "B-ORG O B-MISC O"),
    ("EU rejects German call", ["ORG", "O", "MISC", "O"]),
    ("EU rejects German call", [[0, 2, "ORG"], [11, 17, "MISC"]]),
    ("EU rejects German call", "[[11, 17, \"MISC\"], [0, 2, \"ORG\"], [0, 2, \"ORG\"]]"),
    ("EU rejects German call", "[(0, 3, 'ORG'), (10, 17, 'MISC')]"),  # space at the edges
    (b" EU rejects German call", [[1, 3, "ORG"], [12, 18, "MISC"]]),
    ("EU rejects German call", [{"start": 0, "end": 2, "type": "ORG"}, {"start": 11, "end": 17, "tag": "MISC"}]),
    ("EU rejects German call", [{"start": 0, "end": 2, "label": "ORG"}, {"start": 11, "end": 17, "entity": "MISC"}]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "label"), TAGGED)
def test_tags_and_spans_are_the_same_target(text: Any, label: Any) -> None:
    assert tagged_text(text, label) == ("EU rejects German call", '[[0,2,"ORG"],[11,17,"MISC"]]')


def test_a_text_without_entities_is_a_target_too() -> None:
    assert tagged_text("EU rejects", "O O") == tagged_text("EU rejects", []) == ("EU rejects", "[]")
    assert tagged_text("EU rejects", "[]") == tagged_text(["EU", "rejects"], ["O", "O"]) == ("EU rejects", "[]")


def test_tokens_are_cleaned_and_empty_ones_go() -> None:
    text, label = tagged_text(["\ufeff", "Cafe\u0301", "\x00", "New York", 7], ["O", "B-A", "O", "B-B", "I-B"])
    assert text == "Café NewYork 7"
    assert spans_of(label) == [(0, 4, "A"), (5, 14, "B")]


NO_TARGETS = [
    (["a", "b"], ["O"], "tags_do_not_match", "2 tokens and 1 tags"),
    ("a b", "O O O", "tags_do_not_match", "2 tokens and 3 tags"),
    (["a", "b"], [], "tags_do_not_match", "2 tokens and 0 tags"),
    (["a"], [3], "bad_tag", "3 is a number without a name; write tags such as B-PER"),
    (["a", "b"], ["O", ["O"]], "bad_tag", "a list of 1 among tags"),
    (["a", "\x00"], ["B-X", "I-X"], "blank_token", "nothing is left of token 2, X"),
    ([], [], "blank_text", ""),
    (["\x00"], ["O"], "blank_text", ""),
    ([["a"]], ["O"], "text_is_not_text", "found a list of 1"),
    ("a", None, "missing_label", ""),
    ("a", " ", "missing_label", ""),
    (" ", [], "blank_text", ""),
    (["a"], [[0, 1, "X"]], "bad_span", "spans beside a list of tokens; write one tag for each token"),
    ("abc", [[2, 2, "X"]], "bad_span", "'[2, 2, \"X\"]' does not fit a text of 3 characters"),
    ("abc", [[2, 4, "X"]], "bad_span", "'[2, 4, \"X\"]' does not fit a text of 3 characters"),
    ("abc", [[-1, 2, "X"]], "bad_span", "'[-1, 2, \"X\"]' does not fit a text of 3 characters"),
    ("abc", [[0, 1.0, "X"]], "bad_span", "start and end must be whole numbers, found '[0, 1.0, \"X\"]'"),
    ("abc", [[0, True, "X"]], "bad_span", "start and end must be whole numbers, found '[0, true, \"X\"]'"),
    ("abc", [[0, 1, " "]], "bad_span", "'[0, 1, \" \"]' has no type"),
    ("abc", [{"start": 0, "end": 1}], "bad_span", "'{\"start\": 0, \"end\": 1}' has no type"),
    ("abc", [{"end": 1}], "bad_span", "start and end must be whole numbers, found '{\"end\": 1}'"),
    ("abc", [[0, 1]], "bad_span", "found a list of 2, wanted [start, end, type]"),
    ("abc", [[0, 2, "X"], [1, 3, "Y"]], "bad_span", "[0, 2, 'X'] and [1, 3, 'Y'] overlap in the clean text"),
    ("abc", [[0, 2, "X"], [0, 2, "Y"]], "bad_span", "[0, 2, 'X'] and [0, 2, 'Y'] overlap in the clean text"),
    ("a \x00 c", [[1, 4, "X"]], "bad_span", "nothing is left of a X: it covers space or control characters only"),
    ("a\ud800", [[0, 1, "X"]], "not_utf8", "in the text"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "label", "reason", "detail"), NO_TARGETS)
def test_what_is_no_target_says_why(text: Any, label: Any, reason: str, detail: str) -> None:
    assert reason_of(tagged_text, text, label) == (reason, detail)


def test_spans_count_characters_of_the_text_in_the_file() -> None:
    text, label = tagged_text("\ufeff\r\n 🙂 Cafe\u0301\r\nZoë ", [[6, 11, "PLACE"], [13, 16, "PER"]])
    assert text == "🙂 Café\nZoë"
    assert [(text[start:end], name) for start, end, name in spans_of(label)] == [("Café", "PLACE"), ("Zoë", "PER")]


# Letters that nothing outside of a piece can change: no marks at its edges.
LETTERS = [*"ab\r\n\t \x00\x85\ufeff\u2028🙂é가", "e\u0301", "q\u0307\u0323", "\u1100\u1161"]
PIECES = st.lists(st.sampled_from(LETTERS)).map("".join)


@given(st.lists(st.tuples(PIECES, st.booleans()), max_size=8))
def test_spans_keep_their_text(pieces: list[tuple[str, bool]]) -> None:
    pieces = [(f"{piece}x", marked) for piece, marked in pieces]
    spans, text = [], ""
    for number, (piece, marked) in enumerate(pieces):
        if marked:
            spans.append({"start": len(text), "end": len(text) + len(piece), "label": f"L{number}"})
        text += piece
    if text:
        found, label = tagged_text(text, spans)
        assert found == clean(text)
        moved = [(found[start:end], name) for start, end, name in spans_of(label)]
        assert moved == [(clean(piece), f"L{number}") for number, (piece, marked) in enumerate(pieces) if marked]


TOKENS = st.lists(st.tuples(TEXT.map(lambda text: f"x{text}"), st.sampled_from(["O", "B-A", "I-A", "I-B"])), min_size=1)


@given(TOKENS)
def test_tags_cover_whole_tokens(rows: list[tuple[str, str]]) -> None:
    text, label = tagged_text([token for token, _ in rows], [tag for _, tag in rows])
    assert text == clean(text)
    words = text.split(" ")
    assert len(words) == len(rows)
    covered = [word for start, end, _ in spans_of(label) for word in text[start:end].split(" ")]
    assert covered == [word for word, (_, tag) in zip(words, rows, strict=True) if tag != "O"]


def test_a_text_needs_no_tags_to_be_read() -> None:
    assert plain_text(["a", "\x00", "b"]) == plain_text(" a b") == plain_text('["a", "b"]') == "a b"


@pytest.mark.skipif(not WNUT.is_dir(), reason="the shared corpora are not here")
def test_real_tags_are_all_understood() -> None:
    sentences = 0
    for path in sorted(WNUT.rglob("*.conll")):
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            rows = [line.split("\t") for line in block.splitlines() if "\t" in line]
            if rows:
                tokens, tags = [row[0] for row in rows], [row[1] for row in rows]
                assert len(spans_of(tagged_text(tokens, tags)[1])) == sum(tag.startswith("B-") for tag in tags)
                sentences += 1
    assert sentences > 1000
