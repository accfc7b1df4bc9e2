"""Texts without labels: every token stands in a piece, in order, and in no other."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.encode import MASKED, NEXT, Encoding, encode_texts
from raysft.corpus.pieces import piece_rows
from raysft.corpus.special import special_ids
from tests.support.jobs import COMMON
from tests.support.language import write_causal_base

LONG = 100_000


def cut(
    tokenizer: Path, texts: list[str], limit: int, kind: str = MASKED
) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """([(row_id, ids of a piece)], tokens of each text)."""
    rows = pa.table({"row_id": pa.array(range(10, 10 + len(texts)), pa.int64()), "text": pa.array(texts, pa.string())})
    table, lengths = piece_rows(rows, Encoding(kind, tokenizer, limit, ()))
    return list(zip(table.column("row_id").to_pylist(), table.column("input_ids").to_pylist(), strict=True)), lengths


WORDS = st.lists(st.sampled_from([*COMMON, "straße", "中文", "don't", "?!"]), max_size=40).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(8, 20))
def test_pieces_put_together_are_the_text(base_folder: Path, texts: list[str], limit: int) -> None:
    tokenizer = base_folder / "tokenizer.json"
    special = special_ids(str(tokenizer))
    whole, lengths = encode_texts(texts, tokenizer, LONG)
    found, told = cut(tokenizer, texts, limit)
    assert told == lengths
    for number, ids in enumerate(whole):
        mine = [piece for row_id, piece in found if row_id == 10 + number]
        # A piece of unknown words alone has nothing to learn and is left out: here only whole texts are that short.
        ordinary = [token for token in ids if token not in special]
        assert [token for piece in mine for token in piece if token not in special] == ordinary
        for piece in mine:
            assert len(piece) <= limit and piece[0] == ids[0] and piece[-1] == ids[-1]


def test_a_long_text_spelled_out(base_folder: Path) -> None:
    """[CLS] a [SEP] = 3 tokens; 8 a piece leave room for 6 words."""
    found, lengths = cut(base_folder / "tokenizer.json", ["a " * 14, "a"], 8)
    assert lengths == [16, 3]
    assert [(row_id, len(piece)) for row_id, piece in found] == [(10, 8), (10, 8), (10, 4), (11, 3)]


@pytest.mark.parametrize("text", ["", "中"])
def test_a_text_of_special_tokens_alone_gives_no_piece(base_folder: Path, text: str) -> None:
    found, lengths = cut(base_folder / "tokenizer.json", [text, "hello"], 16)
    assert [row_id for row_id, _ in found] == [11] and len(lengths) == 2


def test_where_the_next_token_is_learnt_one_token_is_too_few(tmp_path: Path) -> None:
    tokenizer = write_causal_base(tmp_path) / "tokenizer.json"
    texts = ["the", "the my", "the my please"]
    assert [len(piece) for _, piece in cut(tokenizer, texts, 2, NEXT)[0]] == [2, 2]  # the third's last is alone
    assert [len(piece) for _, piece in cut(tokenizer, texts, 2, MASKED)[0]] == [1, 2, 2, 1]
