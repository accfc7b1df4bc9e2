"""Rows -> token ids and what is learnt from them: a class, classes, or an answer's tokens. Tags: corpus/windows.py."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysft.corpus.answers import Answering
from raysft.corpus.beginnings import beginnings
from raysft.corpus.label_words import LabelWords
from raysft.corpus.tokens import TOKENS, TokenizedRows, from_lists, lists_of
from raysft.corpus.wordpiece import WordPieces

IGNORED = -100  # a token without a tag of its own; the index torch's cross-entropy leaves out
SINGLE, SEVERAL, TAGS, ANSWERS = "single", "several", "tags", "answers"
MASKED, NEXT = "masked", "next"  # texts without labels: see corpus/pieces.py


@dataclass(frozen=True)
class Encoding:
    """What turns a row into tokens; every field that can change the result is part of the data digest."""

    kind: str  # SINGLE, SEVERAL, TAGS, ANSWERS, MASKED or NEXT
    tokenizer: Path  # tokenizer.json
    max_length: int
    labels: tuple[str, ...]  # class names; of TAGS: O, B-x, I-x, ...
    answering: Answering | None = None  # of ANSWERS
    words: LabelWords | None = None  # of SINGLE, where a causal model says the labels


@functools.lru_cache(maxsize=4)
def load_tokenizer(file: str, max_length: int) -> Any:
    """The fast tokenizer of a base, truncating at `max_length` and never padding (tokenizers.Tokenizer)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def one_thread_each() -> None:
    """Tokenize on one thread; for processes that share a machine with others of their kind."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def encode_texts(texts: list[str], tokenizer: Path, max_length: int) -> tuple[list[list[int]], list[int]]:
    """Token ids of each text, at most `max_length`, and how many it would have without that limit.

    The number is exact up to 65,536 characters (64 a token of max_length, where that is more) and estimated above.
    """
    library, fast = load_tokenizer(str(tokenizer), max_length), word_pieces(str(tokenizer), max_length)

    def encode(some: list[str]) -> list[tuple[list[int], int]]:
        found = [None if fast is None else fast.encode(text) for text in some]
        left = [place for place, each in enumerate(found) if each is None]
        encodings = library.encode_batch_fast([some[place] for place in left])
        for place, encoding in zip(left, encodings, strict=True):
            found[place] = (encoding.ids, full_length(encoding))
        return [each for each in found if each is not None]

    done = beginnings(texts, max_length, encode)
    return [ids for ids, _ in done], [length for _, length in done]


@functools.lru_cache(maxsize=4)
def word_pieces(file: str, max_length: int) -> WordPieces | None:
    """The fast path for plain texts; None where the tokenizer is not BERT's."""
    return WordPieces.of(load_tokenizer(file, max_length), max_length)


def full_length(encoding: Any) -> int:
    """Tokens without a limit: what was cut stands in `overflowing`, each piece with special tokens of its own."""
    if not encoding.overflowing:
        return len(encoding)
    cut = sum(len(piece) - sum(piece.special_tokens_mask) for piece in encoding.overflowing)
    return int(len(encoding) + cut)


def encode_rows(rows: pa.Table, how: Encoding) -> tuple[pa.Table, list[int]]:
    """(tokens in schema TOKENS, lengths without a limit) of corpus rows: row_id, text, label, label_id, record."""
    texts = rows.column("text").to_pylist()
    if how.kind == ANSWERS:
        assert how.answering is not None
        ids, targets, lengths = how.answering.encode(rows.column("record").to_pylist())
    elif how.words is not None:
        ids, targets, lengths = how.words.encode(texts, rows.column("label").to_pylist())
    else:
        ids, lengths = encode_texts(texts, how.tokenizer, how.max_length)
        targets = _classes(rows, how)
    columns = [
        rows.column("row_id"),
        rows.column("label_id").cast(pa.int32()),
        lists_of(ids),
        lists_of(targets),
    ]
    return pa.table(columns, schema=TOKENS), lengths


def _classes(rows: pa.Table, how: Encoding) -> list[Any]:
    """Nothing where the row's label_id says it; else the numbers of its classes."""
    if how.kind == SINGLE:
        return [()] * rows.num_rows
    number = {label: index for index, label in enumerate(how.labels)}
    return [[number[name] for name in json.loads(label)] for label in rows.column("label").to_pylist()]


def from_texts(texts: list[str], tokenizer: Path, max_length: int) -> TokenizedRows:
    """Texts without labels, tokenized in this process."""
    ids, _ = encode_texts(texts, tokenizer, max_length)
    return from_lists(ids, [-1] * len(ids))


def tag_names(types: Sequence[str]) -> tuple[str, ...]:
    """O, then B- and I- of each entity type."""
    return ("O", *(f"{mark}-{name}" for name in types for mark in "BI"))
