"""Texts and labels as prompts and answers: the tokens of both in one; a cut tells nothing of the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.label_words import LabelWords
from raysft.corpus.template import PLAIN, Template
from raysft.corpus.vocabulary import DECODER, learn_tokenizer
from tests.support.answering import CHATML
from tests.support.jobs import corpus_rows
from tests.support.tokenizers import MARKS, unlimited, write_bytes_tokenizer, write_roberta_tokenizer

LABELS = ("card", "card_arrival", "card arrival, abroad", "größer", "x")
TEXTS = ["where is my parcel", "größer als naïve 你好 🙂", "x", "a  b\n\nc ", "<|im_end|> or not", "one two " * 30]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Template, Path]]:
    """Templates with their tokenizers: one with marks, one of plain words, and that of a model from scratch."""
    folder = tmp_path_factory.mktemp("tokenizers")
    own = folder / "own.json"
    learn_tokenizer([row["text"] for row in corpus_rows(50)], 400, DECODER).save(str(own))
    eos = (("eos_token", MARKS[1]),)
    return {
        "chatml": (Template(CHATML, (), True), write_bytes_tokenizer(folder / "bytes.json")),
        "plain": (Template(PLAIN, eos), folder / "bytes.json"),
        "plain with marks around": (
            Template(PLAIN, (("eos_token", "</s>"),)),
            write_roberta_tokenizer(folder / "r.json"),
        ),
        "own": (Template(DECODER.chat or "", (), True), own),
    }


KINDS = ["chatml", "plain", "plain with marks around", "own"]


def words_of(files: dict[str, tuple[Template, Path]], kind: str, max_length: int = 512, **more: Any) -> LabelWords:
    return LabelWords(*files[kind], max_length, **{"labels": LABELS, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_label_have_the_tokens_of_both_in_one(files: dict[str, tuple[Template, Path]], kind: str) -> None:
    """Up to the mark that ends the label, which is the last of them."""
    words = words_of(files, kind)
    library = unlimited(words.tokenizer)
    for text in TEXTS:
        for label in LABELS:
            (ids,), (marks,), _ = words.encode([text], [label])
            whole = library.encode(
                words.template.render(words.turns(text, label))[0], add_special_tokens=words.adds_marks
            ).ids
            assert ids == whole[: len(ids)], (text, label)
            answer = [token for token, mark in zip(ids, marks, strict=True) if mark]
            assert library.decode(answer).strip() == label and marks == sorted(marks)
            end = library.id_to_token(answer[-1])
            assert end == {"chatml": MARKS[1], "plain": MARKS[1], "own": "<|end|>"}.get(kind, "</s>")


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_loses_its_end_and_nothing_else(files: dict[str, tuple[Template, Path]], kind: str) -> None:
    words = words_of(files, kind)
    room = words.least_length + 5
    short = words_of(files, kind, room)
    (whole, other), lengths = words.prompts([TEXTS[-1], "one two"])
    (cut, same), (long, fits) = short.prompts([TEXTS[-1], "one two"])
    before, behind = words.around
    assert len(cut) == room - words.longest < len(whole)
    assert cut[: len(cut) - behind] == whole[: len(cut) - behind] and cut[-behind:] == whole[-behind:]
    assert before + behind < len(cut)
    assert lengths == [long, fits] and long == len(whole) + words.longest > room
    assert (same == other) is (fits <= room)


@given(st.sampled_from(KINDS), st.text(min_size=1, max_size=80), st.integers(0, 30))
def test_a_prompt_does_not_tell_its_label_and_fits_with_each(
    files: dict[str, tuple[Template, Path]], kind: str, text: str, room: int
) -> None:
    words = words_of(files, kind)
    short = words_of(files, kind, words.least_length + room)
    ids, marks, lengths = short.encode([text] * len(LABELS), LABELS)
    prompts = {tuple(row[: mark.index(1)]) for row, mark in zip(ids, marks, strict=True)}
    assert prompts == {tuple(short.prompts([text])[0][0])} and len(set(lengths)) == 1
    assert max(map(len, ids)) <= short.max_length
    assert {tuple(row[mark.index(1) :]) for row, mark in zip(ids, marks, strict=True)} == set(short.answers)


def test_a_border_that_the_tokenizer_would_join_is_kept(files: dict[str, tuple[Template, Path]]) -> None:
    """`parcel` and what follows it without a space are one word to the tokenizer."""
    answered = "{% for m in messages %}{% if m.role == 'assistant' %} par{% endif %}{{ m.content }}{% endfor %}"
    answered += "{% if add_generation_prompt %} par{% endif %}"
    tokenizer = files["chatml"][1]
    words = LabelWords(Template(answered, (), True), tokenizer, 64, ("cel", "ty"))
    library = unlimited(tokenizer)
    whole = library.encode("my parcel").ids
    (ids,), (marks,), _ = words.encode(["my"], ["cel"])
    assert ids != whole and library.decode(ids) == "my parcel"
    assert ids[: marks.index(1)] == library.encode("my par").ids


def test_labels_that_are_the_same_tokens_are_found(files: dict[str, tuple[Template, Path]]) -> None:
    trimmed = CHATML.replace("m.content", "m.content | lower")
    words = LabelWords(Template(trimmed, (), True), files["chatml"][1], 64, ("a", "B", "b"))
    assert words.alike() == ("B", "b")
    assert words_of(files, "chatml").alike() is None


def test_what_is_scored_behind_a_prompt_is_counted(files: dict[str, tuple[Template, Path]]) -> None:
    words = words_of(files, "chatml")
    assert 0 < words.scored <= sum(len(answer) - 1 for answer in words.answers)
    assert words.longest == max(map(len, words.answers))


def test_the_digest_is_none_of_conversations(files: dict[str, tuple[Template, Path]]) -> None:
    words = words_of(files, "chatml")
    assert words.digest != words.answering.digest
    assert words.digest != words_of(files, "plain").digest
