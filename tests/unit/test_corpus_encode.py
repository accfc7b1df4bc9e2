"""Tokens, targets and full lengths, each compared with a plain computation of its own on the library's tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.corpus.answers import Answering
from raysft.corpus.beginnings import LOOKED_AT
from raysft.corpus.encode import (
    ANSWERS,
    SEVERAL,
    SINGLE,
    Encoding,
    encode_rows,
    encode_texts,
    from_texts,
)
from raysft.corpus.template import PLAIN, Template
from tests.support.tokenizers import unlimited, write_bytes_tokenizer, write_unigram_tokenizer

KINDS = ("words", "bytes", "unigram")
WORDS = ["parcel", "the", "unknownish", "naïve", "你好", "🙂🙂", "x" * 120, "[SEP]", "42,", "don't", "e\u0301"]
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=16).map(" ".join)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def files(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        "words": base_folder / "tokenizer.json",
        "bytes": write_bytes_tokenizer(folder / "bytes.json"),
        "unigram": write_unigram_tokenizer(folder / "unigram.json"),
    }


def table(**columns: list[Any]) -> pa.Table:
    """Corpus rows; what is not given is empty."""
    rows = len(next(iter(columns.values())))
    whole: dict[str, list[Any]] = {
        "text": [""] * rows,
        "label": [""] * rows,
        "label_id": [-1] * rows,
        "record": [None] * rows,
        **columns,
    }
    types = {"label_id": pa.int32(), "record": pa.string()}
    arrays = {name: pa.array(values, types.get(name)) for name, values in whole.items()}
    return pa.table({"row_id": pa.array(range(10, 10 + rows), pa.int64()), **arrays})


def answers_of(record: list[dict[str, str]]) -> list[str]:
    return [turn["content"] for turn in record if turn["role"] == "assistant"]


# --- texts


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(texts=st.lists(TEXT, max_size=5), limit=st.integers(8, 20))
def test_ids_are_the_library_s_and_lengths_those_without_a_limit(
    files: dict[str, Path], kind: str, texts: list[str], limit: int
) -> None:
    whole = unlimited(files[kind])
    cut = unlimited(files[kind])
    cut.enable_truncation(limit)
    ids, lengths = encode_texts(texts, files[kind], limit)
    assert ids == [cut.encode(text).ids for text in texts]
    assert lengths == [len(whole.encode(text).ids) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(texts=st.lists(TEXT.filter(str.strip), min_size=1, max_size=4), limit=st.integers(8, 20))
def test_full_lengths_of_conversations(files: dict[str, Path], kind: str, texts: list[str], limit: int) -> None:
    record = [[{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}] for text in texts]
    rows = table(text=texts, label=["[]"] * len(texts), record=[json.dumps(each) for each in record])
    template = Template(PLAIN)
    tokens, lengths = encode_rows(rows, answers(files[kind], limit, template))
    read = [template.render(each)[0] for each in record]
    together = [len(unlimited(files[kind]).encode(text).ids) for text in read]
    if kind == "unigram":  # it may join prompt and answer, which are then tokenized apart
        assert all(0 <= length - whole <= 4 for length, whole in zip(lengths, together, strict=True))
    else:
        assert lengths == together
    assert [len(ids) for ids in tokens.column("input_ids").to_pylist()] == [min(limit, each) for each in lengths]


def answers(tokenizer: Path, limit: int, template: Template, learn: str = "answers") -> Encoding:
    return Encoding(ANSWERS, tokenizer, limit, (), Answering(template, tokenizer, limit, learn))


LONG = ["the parcel at 42, ", "naïve 你好 the ", "ann 🙂 e\u0301 "]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", LONG)
def test_of_a_long_text_the_kept_tokens_are_the_same_and_the_length_is_close(
    files: dict[str, Path], kind: str, piece: str
) -> None:
    text = (piece * (4 * LOOKED_AT // len(piece))).strip()
    whole = unlimited(files[kind]).encode(text).ids
    cut = unlimited(files[kind])
    cut.enable_truncation(100)
    ids, lengths = encode_texts(["is it", text, "the"], files[kind], 100)
    assert ids[1] == cut.encode(text).ids and len(ids) == 3
    assert lengths[1] == pytest.approx(len(whole), rel=0.01)
    assert lengths[::2] == [len(unlimited(files[kind]).encode(each).ids) for each in ("is it", "the")]


def test_a_long_text_of_few_tokens_is_read_on(files: dict[str, Path]) -> None:
    """A word of many letters is one unknown token, wherever it is cut."""
    text = "x" * (3 * LOOKED_AT) + " the van"
    ids, lengths = encode_texts([text], files["words"], 16)
    assert ids == [unlimited(files["words"]).encode(text).ids] and lengths == [len(ids[0])]


def test_long_conversations_keep_their_targets(files: dict[str, Path]) -> None:
    text = ("ann is at the bern " * LOOKED_AT).strip()
    few = text[-1000:]
    record, short = (
        json.dumps([{"role": "user", "content": each}, {"role": "assistant", "content": "is it"}])
        for each in (text, few)
    )
    how = answers(files["words"], 64, Template(PLAIN))
    tokens, lengths = encode_rows(table(record=[record, short]), how)
    for name in ("input_ids", "targets"):
        first, second = tokens.column(name).to_pylist()
        assert first == second and len(first) == 64
    assert sum(tokens.column("targets").to_pylist()[0]) == 2
    assert lengths[0] > 1000 * lengths[1]


def test_texts_without_labels(files: dict[str, Path]) -> None:
    rows = from_texts(["where is my parcel", ""], files["words"], 16)
    whole = unlimited(files["words"])
    assert [rows.tokens(0).tolist(), rows.tokens(1).tolist()] == [
        whole.encode("where is my parcel").ids,
        whole.encode("").ids,
    ]
    assert rows.label.tolist() == [-1, -1]


# --- classes


def test_one_class_needs_no_targets(files: dict[str, Path]) -> None:
    rows = table(text=["a b", "c"], label=["x", "y"], label_id=[0, 1])
    tokens, _ = encode_rows(rows, Encoding(SINGLE, files["words"], 16, ("x", "y")))
    assert tokens.column("targets").to_pylist() == [[], []]
    assert tokens.column("label").to_pylist() == [0, 1] and tokens.column("row_id").to_pylist() == [10, 11]


def test_several_classes_are_numbers_of_names(files: dict[str, Path]) -> None:
    rows = table(text=["a b", "c"], label=['["red","blue"]', '["green"]'])
    tokens, _ = encode_rows(rows, Encoding(SEVERAL, files["words"], 16, ("blue", "green", "red")))
    assert tokens.column("targets").to_pylist() == [[2, 0], [1]]


def test_no_rows_at_all(files: dict[str, Path]) -> None:
    for kind in (SINGLE, SEVERAL, ANSWERS):
        how = replace(answers(files["words"], 16, Template(PLAIN)), kind=kind)
        tokens, lengths = encode_rows(table(text=[]), how)
        assert (tokens.num_rows, lengths) == (0, [])


# --- answers

SAID = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).map(str.strip).filter(bool)
CHAT = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": SAID}), max_size=5
).map(lambda turns: [*turns, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "so: 42"}])


@pytest.mark.parametrize(("source", "mark"), [(PLAIN, "\n"), (CHATML, "<|im_end|>\n")], ids=["plain", "chatml"])
@given(chats=st.lists(CHAT, min_size=1, max_size=3))
def test_learnt_tokens_decode_to_the_answers(
    files: dict[str, Path], source: str, mark: str, chats: list[list[dict[str, str]]]
) -> None:
    template = Template(source, has_special_tokens=True)
    how = answers(files["bytes"], 4000, template)
    tokens, _ = encode_rows(table(record=[json.dumps(each) for each in chats]), how)
    tokenizer = unlimited(files["bytes"])
    for chat, ids, mask in zip(
        chats, tokens.column("input_ids").to_pylist(), tokens.column("targets").to_pylist(), strict=True
    ):
        learnt = [token for token, counts in zip(ids, mask, strict=True) if counts]
        decoded = tokenizer.decode(learnt, skip_special_tokens=False)
        assert decoded == "".join(answer + mark for answer in answers_of(chat))
        assert tokenizer.decode(ids, skip_special_tokens=False) == template.render(chat)[0]


@given(chat=CHAT, limit=st.integers(8, 40))
def test_a_long_conversation_loses_its_beginning(
    files: dict[str, Path], chat: list[dict[str, str]], limit: int
) -> None:
    whole, cut = (
        encode_rows(table(record=[json.dumps(chat)]), answers(files["bytes"], size, Template(PLAIN)))[0]
        for size in (4000, limit)
    )
    for name in ("input_ids", "targets"):
        assert cut.column(name).to_pylist()[0] == whole.column(name).to_pylist()[0][-limit:]


@pytest.mark.parametrize(("learn", "said"), [("answers", "no\n\nyes\n\n"), ("last", "yes\n\n"), ("all", None)])
def test_what_is_learnt_is_a_setting(files: dict[str, Path], learn: str, said: str | None) -> None:
    chat = [
        {"role": role, "content": content}
        for role, content in (("user", "is it"), ("assistant", "no\n"), ("user", "really"), ("assistant", "yes\n"))
    ]
    template = Template(PLAIN)
    tokens, _ = encode_rows(table(record=[json.dumps(chat)]), answers(files["bytes"], 4000, template, learn))
    ids, targets = (tokens.column(name).to_pylist()[0] for name in ("input_ids", "targets"))
    learnt = [token for token, counts in zip(ids, targets, strict=True) if counts]
    assert unlimited(files["bytes"]).decode(learnt, skip_special_tokens=False) == said or template.render(chat)[0]


def test_a_token_never_joins_prompt_and_answer(files: dict[str, Path]) -> None:
    """Whoever writes the answer has read the prompt without it, the space before it included."""
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    template = Template(source, has_special_tokens=True)
    chat = [{"role": "user", "content": "is it"}, {"role": "assistant", "content": "the van"}]
    tokens, _ = encode_rows(table(record=[json.dumps(chat)]), answers(files["bytes"], 64, template))
    ids, marks = (tokens.column(name).to_pylist()[0] for name in ("input_ids", "targets"))
    prompt = unlimited(files["bytes"]).encode(template.prompt(chat[:-1]), add_special_tokens=False).ids
    assert ids[: len(prompt)] == prompt and marks == [0] * len(prompt) + [1] * (len(ids) - len(prompt))
    assert unlimited(files["bytes"]).decode(ids[len(prompt) :]).strip() == "the van"


def test_what_is_left_of_an_earlier_answer_is_not_learnt(files: dict[str, Path]) -> None:
    said = ("hello", "word " * 30, "next?", "ok")
    chat = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(said)]
    tokens, _ = encode_rows(table(record=[json.dumps(chat)]), answers(files["bytes"], 60, Template(PLAIN)))
    ids, marks = (tokens.column(name).to_pylist()[0] for name in ("input_ids", "targets"))
    learnt = [token for token, counts in zip(ids, marks, strict=True) if counts]
    assert len(ids) == 60 and unlimited(files["bytes"]).decode(learnt) == "ok\n"


def test_only_a_plain_template_lets_the_tokenizer_add_its_marks(files: dict[str, Path]) -> None:
    record = json.dumps([{"role": "user", "content": "is it"}, {"role": "assistant", "content": "the van"}])
    for template, marked in ((Template(PLAIN), True), (Template(PLAIN, has_special_tokens=True), False)):
        tokens, _ = encode_rows(table(record=[record]), answers(files["words"], 64, template))
        ids, targets = (tokens.column(name).to_pylist()[0] for name in ("input_ids", "targets"))
        words = [unlimited(files["words"]).id_to_token(each) for each in ids]
        assert (words[0] == "[CLS]", words[-1] == "[SEP]") == (marked, marked)
        assert [word for word, counts in zip(words, targets, strict=True) if counts] == ["the", "van"]
