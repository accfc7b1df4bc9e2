"""Texts without labels -> token ids of all their tokens: a long text becomes several consecutive pieces, not a cut one.

A piece is a row of the tokenized dataset like any other; it carries the row_id of its text, and so its fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raysft.corpus.encode import NEXT, Encoding, full_length, load_tokenizer, word_pieces
from raysft.corpus.special import special_ids
from raysft.corpus.tokens import TOKENS, lists_of

AT_ONCE = 512  # texts whose encodings, some hundred bytes a token, are in memory together


def piece_rows(rows: pa.Table, how: Encoding) -> tuple[pa.Table, list[int]]:
    """(pieces in schema TOKENS in the order of the texts, tokens of each text) of corpus rows: row_id, text.

    A piece from which nothing can be learnt is left out: one of special tokens alone, or, where the next token is
    learnt, one of a single token.
    """
    special, least = special_ids(str(how.tokenizer)), 2 if how.kind == NEXT else 1
    ids: list[list[int]] = []
    owners: list[int] = []
    lengths: list[int] = []
    cut = _cut(rows.column("text").to_pylist(), how)
    for row_id, (pieces, length) in zip(rows.column("row_id").to_pylist(), cut, strict=True):
        useful = [each for each in pieces if len(each) >= least and not special.issuperset(each)]
        ids += useful
        owners += [row_id] * len(useful)
        lengths.append(length)
    labels = pa.array([-1] * len(ids), pa.int32())
    columns = [pa.array(owners, pa.int64()), labels, lists_of(ids), lists_of([()] * len(ids))]
    return pa.table(columns, schema=TOKENS), lengths


def _cut(texts: list[str], how: Encoding) -> Iterator[tuple[list[list[int]], int]]:
    """(its pieces, its tokens) of each text; each piece has the special tokens that a text has."""
    file = str(how.tokenizer)
    library, fast = load_tokenizer(file, how.max_length), word_pieces(file, how.max_length)
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        quick = [None if fast is None else fast.encode(text) for text in some]
        quick = [each if each is not None and each[1] <= how.max_length else None for each in quick]
        rest = iter(library.encode_batch_fast([text for text, each in zip(some, quick, strict=True) if each is None]))
        for each in quick:
            yield ([each[0]], each[1]) if each is not None else _pieces(next(rest))


def _pieces(encoding: Any) -> tuple[list[list[int]], int]:
    return [encoding.ids, *(piece.ids for piece in encoding.overflowing)], full_length(encoding)
