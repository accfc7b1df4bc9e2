"""Tokens, targets and full lengths, each compared with a plain computation of its own on the library's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.corpus.beginnings import LOOKED_AT
from raysft.corpus.encode import (
    ANSWERS,
    IGNORED,
    SEVERAL,
    SINGLE,
    TAGS,
    Encoding,
    encode_rows,
    encode_texts,
    from_texts,
    tag_names,
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
@pytest.mark.parametrize("task", [TAGS, ANSWERS])
@settings(max_examples=15)
@given(texts=st.lists(TEXT.filter(str.strip), min_size=1, max_size=4), limit=st.integers(8, 20))
def test_full_lengths_of_tagged_rows_and_of_conversations(
    files: dict[str, Path], kind: str, task: str, texts: list[str], limit: int
) -> None:
    record = [[{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}] for text in texts]
    rows = table(text=texts, label=["[]"] * len(texts), record=[json.dumps(each) for each in record])
    template = Template(PLAIN)
    tokens, lengths = encode_rows(rows, Encoding(task, files[kind], limit, ("O",), template))
    read = texts if task == TAGS else [template.render(each)[0] for each in record]
    assert lengths == [len(unlimited(files[kind]).encode(text).ids) for text in read]
    assert [len(ids) for ids in tokens.column("input_ids").to_pylist()] == [min(limit, each) for each in lengths]


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


@pytest.mark.parametrize("task", [TAGS, ANSWERS])
def test_long_rows_of_every_task_keep_their_targets(files: dict[str, Path], task: str) -> None:
    text = ("ann is at the bern " * LOOKED_AT).strip()
    few = text[:1000]
    record, short = (
        json.dumps([{"role": "user", "content": "is it"}, {"role": "assistant", "content": each}])
        for each in (text, few)
    )
    how = Encoding(task, files["words"], 64, tag_names(["PER"]), Template(PLAIN))
    tokens, lengths = encode_rows(table(text=[text, few], label=['[[0,3,"PER"]]'] * 2, record=[record, short]), how)
    for name in ("input_ids", "targets"):
        first, second = tokens.column(name).to_pylist()
        assert first == second and len(first) == 64
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
    for kind in (SINGLE, SEVERAL, TAGS, ANSWERS):
        how = Encoding(kind, files["words"], 16, ("O",), Template(PLAIN))
        tokens, lengths = encode_rows(table(text=[]), how)
        assert (tokens.num_rows, lengths) == (0, [])


# --- tags


@st.composite
def tagged(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    """A text, and spans in it that do not overlap; they may begin and end inside of words."""
    text = draw(TEXT.filter(str.strip))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    return text, [(start, end, draw(st.sampled_from(["PER", "LOC"]))) for start, end in pairs]


def tags_by_hand(text: str, spans: list[tuple[int, int, str]], tokenizer: Any, limit: int) -> list[str]:
    """A tag a token from the owner of each character, on the uncut text; then what the limit leaves."""
    owner: list[int | None] = [None] * len(text)
    for number, (start, end, _) in enumerate(spans):
        owner[start:end] = [number] * (end - start)
    encoding = tokenizer.encode(text)
    tags: list[str] = []
    seen: set[int] = set()
    for (start, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        if special:
            continue
        held = [each for each in owner[start:end] if each is not None]
        if not held:
            tags.append("O")
            continue
        tags.append(("I-" if held[0] in seen else "B-") + spans[held[0]][2])
        seen.add(held[0])
    before = encoding.special_tokens_mask.index(0) if tags else len(encoding.ids)
    after = sum(encoding.special_tokens_mask) - before
    return ["-"] * before + tags[: limit - before - after] + ["-"] * after


@pytest.mark.parametrize("kind", ["words", "bytes"])
@given(rows=st.lists(tagged(), min_size=1, max_size=4), limit=st.integers(8, 40))
def test_tags_are_those_computed_from_characters(
    files: dict[str, Path], kind: str, rows: list[tuple[str, list[tuple[int, int, str]]]], limit: int
) -> None:
    names = tag_names(["LOC", "PER"])
    assert names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    whole = table(text=[text for text, _ in rows], label=[json.dumps(spans) for _, spans in rows])
    tokens, _ = encode_rows(whole, Encoding(TAGS, files[kind], limit, names))
    shown = {IGNORED: "-", **dict(enumerate(names))}
    found = [[shown[tag] for tag in targets] for targets in tokens.column("targets").to_pylist()]
    assert found == [tags_by_hand(text, spans, unlimited(files[kind]), limit) for text, spans in rows]
    assert list(map(len, found)) == [len(ids) for ids in tokens.column("input_ids").to_pylist()]


def test_tags_of_a_known_sentence(files: dict[str, Path]) -> None:
    """ann and bern are no words of the vocabulary: a piece a letter."""
    rows = table(text=["ann is at the bern"], label=['[[0,3,"PER"],[10,18,"LOC"]]'])
    tokens, _ = encode_rows(rows, Encoding(TAGS, files["words"], 32, tag_names(["LOC", "PER"])))
    assert tokens.column("targets").to_pylist() == [[-100, 3, 4, 4, 0, 0, 0, 1, 2, 2, 2, 2, -100]]


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
    how = Encoding(ANSWERS, files["bytes"], 4000, (), Template(source, has_special_tokens=True))
    tokens, _ = encode_rows(table(record=[json.dumps(each) for each in chats]), how)
    tokenizer = unlimited(files["bytes"])
    for chat, ids, mask in zip(
        chats, tokens.column("input_ids").to_pylist(), tokens.column("targets").to_pylist(), strict=True
    ):
        learnt = [token for token, counts in zip(ids, mask, strict=True) if counts]
        decoded = tokenizer.decode(learnt, skip_special_tokens=False)
        assert decoded == "".join(answer + mark for answer in answers_of(chat))
        assert tokenizer.decode(ids, skip_special_tokens=False) == how.template.render(chat)[0]  # type: ignore[union-attr]


@given(chat=CHAT, limit=st.integers(8, 40))
def test_cut_answers_keep_the_mask_of_what_is_left(
    files: dict[str, Path], chat: list[dict[str, str]], limit: int
) -> None:
    whole, cut = (
        encode_rows(table(record=[json.dumps(chat)]), Encoding(ANSWERS, files["bytes"], size, (), Template(PLAIN)))[0]
        for size in (4000, limit)
    )
    for name in ("input_ids", "targets"):
        assert cut.column(name).to_pylist()[0] == whole.column(name).to_pylist()[0][:limit]


def test_only_a_plain_template_lets_the_tokenizer_add_its_marks(files: dict[str, Path]) -> None:
    record = json.dumps([{"role": "user", "content": "is it"}, {"role": "assistant", "content": "the van"}])
    for template, marked in ((Template(PLAIN), True), (Template(PLAIN, has_special_tokens=True), False)):
        tokens, _ = encode_rows(table(record=[record]), Encoding(ANSWERS, files["words"], 64, (), template))
        ids, targets = (tokens.column(name).to_pylist()[0] for name in ("input_ids", "targets"))
        words = [unlimited(files["words"]).id_to_token(each) for each in ids]
        assert (words[0] == "[CLS]", words[-1] == "[SEP]") == (marked, marked)
        assert [word for word, counts in zip(words, targets, strict=True) if counts] == ["the", "van"]
