"""Rows by position over several shards, the same as from one, and nothing copied until it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.tokens import TOKENS, from_lists, from_tables, lists_of, read_shards, shard_name, write_shard

ROWS = st.lists(st.lists(st.integers(0, 30_000), max_size=9), max_size=30)


@given(rows=ROWS, size=st.integers(1, 7))
def test_several_shards_read_like_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    labels = [index % 3 for index in range(len(rows))]
    import pyarrow as pa

    whole = pa.table(
        [range(len(rows)), pa.array(labels, pa.int32()), lists_of(rows), lists_of([()] * len(rows))], schema=TOKENS
    )
    for number, start in enumerate(range(0, max(1, len(rows)), size)):
        write_shard(folder / shard_name(number), whole.slice(start, size))
    found = read_shards(folder)
    assert len(found) == len(rows)
    assert [found.tokens(position).tolist() for position in range(len(rows))] == rows
    assert found.label.tolist() == labels and found.row_id.tolist() == list(range(len(rows)))
    assert found.lengths.tolist() == [len(row) for row in rows]


def test_select_keeps_the_order_that_was_asked_for() -> None:
    rows = from_lists([[1], [2, 2], [3, 3, 3], []], [0, 1, 2, 0]).select(np.array([2, 0, 2]))
    assert [rows.tokens(position).tolist() for position in range(3)] == [[3, 3, 3], [1], [3, 3, 3]]
    assert rows.label.tolist() == [2, 0, 2] and rows.lengths.tolist() == [3, 1, 3]


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no shards"):
        read_shards(tmp_path)


def test_no_rows_at_all() -> None:
    assert len(from_tables([TOKENS.empty_table()])) == 0
