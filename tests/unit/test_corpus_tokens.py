"""Rows by position over several shards, the same as from one, and nothing copied until it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.tokens import (
    TOKENS,
    TokenizedRows,
    from_lists,
    from_tables,
    lists_of,
    read_shards,
    shard_name,
    write_shard,
)

ROWS = st.lists(st.lists(st.integers(0, 30_000), max_size=9), max_size=30)


def table(rows: list[list[int]]) -> pa.Table:
    labels = [index % 3 for index in range(len(rows))]
    columns = [range(len(rows)), pa.array(labels, pa.int32()), lists_of(rows), lists_of([()] * len(rows))]
    return pa.table(columns, schema=TOKENS)


def write_shards(folder: Path, rows: list[list[int]], size: int) -> Path:
    """Shards of `size` rows each, the last one smaller; one empty shard where there are no rows."""
    for number, start in enumerate(range(0, max(1, len(rows)), size)):
        write_shard(folder / shard_name(number), table(rows).slice(start, size))
    return folder


def contents(rows: TokenizedRows) -> list[tuple[int, int, int, list[int]]]:
    """(row_id, label, length, tokens) of every row."""
    plain = zip(rows.row_id.tolist(), rows.label.tolist(), rows.lengths.tolist(), strict=True)
    return [(*each, rows.tokens(position).tolist()) for position, each in enumerate(plain)]


@given(rows=ROWS, size=st.integers(1, 7))
def test_several_shards_read_like_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], size: int
) -> None:
    folder = write_shards(tmp_path_factory.mktemp("shards"), rows, size)
    expected = [(number, number % 3, len(row), row) for number, row in enumerate(rows)]
    assert contents(read_shards(folder)) == expected
    assert contents(from_tables([table(rows)])) == expected
    assert contents(from_lists(rows, [number % 3 for number in range(len(rows))])) == expected


@given(rows=ROWS.filter(len), size=st.integers(1, 7), draw=st.data())
def test_selections_of_selections(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], size: int, draw: st.DataObject
) -> None:
    """Any positions, in any order and repeated, over the borders of shards."""
    whole = read_shards(write_shards(tmp_path_factory.mktemp("shards"), rows, size))
    positions = draw.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=20))
    again = draw.draw(st.lists(st.integers(0, len(positions) - 1), max_size=20))
    some = whole.select(np.array(positions))
    assert contents(some) == [contents(whole)[each] for each in positions]
    assert contents(some.select(np.array(again, np.int64))) == [contents(some)[each] for each in again]


def test_positions_at_the_borders_of_shards(tmp_path: Path) -> None:
    rows = [[number] * (number % 4) for number in range(10)]
    found = read_shards(write_shards(tmp_path, rows, 3))
    assert len(found.shards) == 4 and found.starts.tolist() == [0, 3, 6, 9]
    assert [found.tokens(position).tolist() for position in (0, 2, 3, 5, 6, 8, 9)] == [
        rows[position] for position in (0, 2, 3, 5, 6, 8, 9)
    ]
    with pytest.raises(IndexError):
        found.tokens(10)


def test_empty_shards_between_others() -> None:
    found = from_tables([table([]), table([[1], [2, 2]]), table([]), table([[3]]), table([])])
    assert [found.tokens(position).tolist() for position in range(3)] == [[1], [2, 2], [3]]


def test_tokens_are_mapped_and_not_read(tmp_path: Path) -> None:
    """A file of 8 MB, of which opening it and looking at a few rows takes some kilobytes a column."""
    rows = [list(range(1000))] * 2000
    folder = write_shards(tmp_path, rows, 1000)
    before = pa.total_allocated_bytes()
    found = read_shards(folder)
    assert not any(shard.ids.flags.owndata or shard.ids.flags.writeable for shard in found.shards)
    assert not found.tokens(1500).flags.owndata and found.tokens(1500).tolist() == rows[0]
    assert pa.total_allocated_bytes() - before < 100_000


def test_select_keeps_the_order_that_was_asked_for() -> None:
    rows = from_lists([[1], [2, 2], [3, 3, 3], []], [0, 1, 2, 0]).select(np.array([2, 0, 2]))
    assert [rows.tokens(position).tolist() for position in range(3)] == [[3, 3, 3], [1], [3, 3, 3]]
    assert rows.label.tolist() == [2, 0, 2] and rows.lengths.tolist() == [3, 1, 3]


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no shards"):
        read_shards(tmp_path)


def test_no_rows_at_all(tmp_path: Path) -> None:
    assert len(from_tables([TOKENS.empty_table()])) == len(from_lists([], [])) == len(from_tables([])) == 0
    assert len(read_shards(write_shards(tmp_path, [], 5))) == 0


@given(rows=ROWS.filter(len), size=st.integers(1, 7), draw=st.data())
def test_targets_are_found_like_tokens(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], size: int, draw: st.DataObject
) -> None:
    """Here the targets of a row are its tokens backwards; a row may have none."""
    backwards, folder = [row[::-1] for row in rows], tmp_path_factory.mktemp("shards")
    whole = table(rows).set_column(3, TOKENS.field("targets"), lists_of(backwards))
    for number, start in enumerate(range(0, len(rows), size)):
        write_shard(folder / shard_name(number), whole.slice(start, size))
    chosen = draw.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9))
    labels = [0] * len(rows)
    for found in (read_shards(folder), from_lists(rows, labels, backwards)):
        assert [found.targets(position).tolist() for position in range(len(rows))] == backwards
        selected = found.select(np.array(chosen, np.int64))
        assert [selected.targets(i).tolist() for i in range(len(chosen))] == [backwards[i] for i in chosen]
    assert all(len(from_lists(rows, labels).targets(position)) == 0 for position in range(len(rows)))
