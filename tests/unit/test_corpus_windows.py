"""Windows over tagged texts: every token belongs to one, with the tag that its characters say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.encode import IGNORED, TAGS, Encoding, tag_names
from raysft.corpus.windows import Spans, offsets_of, tags_of, window_rows, windows_of
from raysft.metrics.tags import entities_of
from tests.support.tokenizers import unlimited, write_bytes_tokenizer, write_roberta_tokenizer, write_unigram_tokenizer

KINDS = ("words", "bytes", "unigram", "roberta")
NAMES = tag_names(["LOC", "PER"])
WORDS = [
    "parcel",
    "the",
    "unknownish",
    "naïve",
    "你好",
    "🙂🙂",
    "x" * 40,
    "42,",
    "don't",
    "e\u0301",
    "\u0e01\u0e33",
    "a\u2028b",
]
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=16).map(" ".join)
LIMITS = st.integers(8, 40)
Written = list[tuple[int, int, str]]


@pytest.fixture(scope="module")
def files(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        "words": base_folder / "tokenizer.json",
        "bytes": write_bytes_tokenizer(folder / "bytes.json"),
        "unigram": write_unigram_tokenizer(folder / "unigram.json"),
        "roberta": write_roberta_tokenizer(folder / "roberta.json"),
    }


@st.composite
def tagged(draw: st.DrawFn) -> tuple[str, Written]:
    """A text, and spans in it that do not overlap; they may begin and end inside of words."""
    text = draw(TEXT.filter(str.strip))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    return text, [(start, end, draw(st.sampled_from(["PER", "LOC"]))) for start, end in pairs]


def tags_by_hand(text: str, spans: Written, tokenizer: Any) -> list[str]:
    """A tag for each token that holds more than space, from the owner of each character, on the uncut text."""
    owner: list[int | None] = [None] * len(text)
    for number, (start, end, _) in enumerate(spans):
        owner[start:end] = [number] * (end - start)
    encoding = tokenizer.encode(text)
    tags: list[str] = []
    seen: set[int] = set()
    for start, end in (encoding.offsets[place] for place in written(text, encoding)):
        held = [each for each in owner[start:end] if each is not None]
        if not held:
            tags.append("O")
            continue
        tags.append(("I-" if held[0] in seen else "B-") + spans[held[0]][2])
        seen.add(held[0])
    return tags


def written(text: str, encoding: Any) -> list[int]:
    """The tokens that hold more than space, and are not special."""
    places = enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True))
    return [place for place, ((start, end), special) in places if not special and text[start:end].strip()]


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXT, max_size=4), limit=LIMITS)
def test_every_token_belongs_to_one_window(files: dict[str, Path], kind: str, texts: list[str], limit: int) -> None:
    whole = unlimited(files[kind])
    found = list(windows_of(texts, files[kind], limit))
    assert len(found) == len(texts)
    for text, windows in zip(texts, found, strict=True):
        encoding = whole.encode(text)
        kept = written(text, encoding)
        belonging = [np.array(window.ids)[window.belongs] for window in windows]
        assert np.concatenate(belonging).tolist() == [encoding.ids[place] for place in kept]
        assert offsets_of(windows).tolist() == [list(encoding.offsets[place]) for place in kept]
        assert all(len(window.ids) <= limit for window in windows)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=st.lists(tagged(), min_size=1, max_size=4), limit=LIMITS)
def test_tags_are_those_computed_from_characters(
    files: dict[str, Path], kind: str, rows: list[tuple[str, Written]], limit: int
) -> None:
    table = pa.table(
        {
            "row_id": list(range(7, 7 + len(rows))),
            "text": [text for text, _ in rows],
            "label": [json.dumps(spans) for _, spans in rows],
        }
    )
    tokens, lengths = window_rows(table, Encoding(TAGS, files[kind], limit, NAMES))
    found: dict[int, list[str]] = {row: [] for row in table.column("row_id").to_pylist()}
    for row, ids, targets in zip(
        *(tokens.column(n).to_pylist() for n in ("row_id", "input_ids", "targets")), strict=True
    ):
        assert len(ids) == len(targets)
        found[row] += [NAMES[tag % len(NAMES)] for tag in targets if tag != IGNORED]
    whole = unlimited(files[kind])
    assert list(found.values()) == [tags_by_hand(text, spans, whole) for text, spans in rows]
    assert lengths == [len(whole.encode(text).ids) for text, _ in rows]


def test_a_known_sentence_in_one_window_and_in_several(files: dict[str, Path]) -> None:
    """ann and bern are no words of the vocabulary: a piece a letter, of which all but the first go on: depth 2, of 5
    tags each. In `@the.` the tokenizer finds three words, of which `the` begins none as people write it: depth 1."""
    rows = pa.table({"row_id": [3], "text": ["ann is at the bern"], "label": ['[[0,3,"PER"],[10,18,"LOC"]]']})
    tokens, _ = window_rows(rows, Encoding(TAGS, files["words"], 32, NAMES))
    assert tokens.column("targets").to_pylist() == [[-100, 3, 14, 14, 0, 0, 10, 1, 2, 12, 12, 12, -100]]
    tokens, _ = window_rows(rows, Encoding(TAGS, files["words"], 10, NAMES))  # 8 tokens of text, 2 of them shared
    assert tokens.column("row_id").to_pylist() == [3, 3]
    assert tokens.column("targets").to_pylist() == [
        [-100, 3, 14, 14, 0, 0, 10, 1, -100, -100],
        [-100, -100, 2, 12, 12, 12, -100],
    ]
    named = pa.table({"row_id": [3], "text": ["@the."], "label": ['[[0,4,"PER"]]']})
    tokens, _ = window_rows(named, Encoding(TAGS, files["words"], 32, NAMES))
    assert tokens.column("targets").to_pylist() == [[-100, 3, 9, 0, -100]]


@pytest.mark.parametrize("kind", KINDS)
@given(row=tagged(), limit=LIMITS)
def test_the_tags_of_a_text_spell_its_entities(
    files: dict[str, Path], kind: str, row: tuple[str, Written], limit: int
) -> None:
    """Entities of whole tokens come back, whatever the tokenizer makes of the spaces in them."""
    text, spans = row
    encoding = unlimited(files[kind]).encode(text)
    tokens = [encoding.offsets[place] for place in written(text, encoding)]
    reaching = [[token for token in tokens if token[0] < end and token[1] > start] for start, end, _ in spans]
    both = list(zip(spans, reaching, strict=True))
    held = [all(span[0] <= first and last <= span[1] for first, last in own) for span, own in both]
    kept = [(span, own) for (span, own), whole in zip(both, held, strict=True) if own and whole]
    (windows,) = windows_of([text], files[kind], limit)
    arrays = Spans.of([span for span, _ in kept], {tag: index for index, tag in enumerate(NAMES)})
    tags, offsets = tags_of(windows, arrays), offsets_of(windows)
    found = [text[offsets[first, 0] : offsets[last - 1, 1]].strip() for first, last, _ in entities_of(tags)]
    assert found == [text[own[0][0] : own[-1][1]].strip() for _, own in kept]
