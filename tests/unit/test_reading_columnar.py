"""Parquet, Arrow and saved datasets: every row with its values, numbers of classes as names."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysft.config.sections import DataSection
from raysft.errors import DataError
from raysft.reading.batch import Columns
from raysft.reading.records import header, read_batches
from raysft.reading.sources import Source, find_sources, fingerprint, size_bytes
from tests.support.reading import batches, seen, source, write

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")
# VmHWM and not ru_maxrss, which a child takes over from the process that starts it.
PEAK = """
import sys
from pathlib import Path
from tests.support.reading import batches, source

rows = sum(len(batch) for batch in batches(source(sys.argv[1])))
status = Path("/proc/self/status").read_text()
print(rows, int(status.partition("VmHWM:")[2].split()[0]) << 10)
"""
WRITERS = ["parquet", "file", "stream"]


def save(folder: Path, table: Any, how: str, rows_a_batch: int = 1000) -> Source:
    path = folder / f"rows.{'parquet' if how == 'parquet' else 'arrow'}"
    if how == "parquet":
        pq.write_table(table, path, row_group_size=rows_a_batch)
    else:
        make = pa.ipc.new_file if how == "file" else pa.ipc.new_stream
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=rows_a_batch)
    return source(path)


@pytest.mark.parametrize("how", WRITERS)
def test_rows_are_read_back_equal_in_batches(tmp_path: Path, how: str) -> None:
    rows = [(number + 1, f"a\n{number}\u2028", None if number % 3 else "x", None) for number in range(9000)]
    table = pa.table(list(zip(*rows, strict=True))[:3], ["id", "text", "label"])
    of = save(tmp_path, table, how, 5000)
    assert header(of) == ["id", "text", "label"]
    assert seen(of) == rows


@pytest.mark.parametrize("how", WRITERS)
def test_values_are_plain(tmp_path: Path, how: str) -> None:
    """Lists and objects stay; times, bytes and decimals become text; NaN is no value."""
    values: list[Any] = [
        pa.array([["a", "b"], None]),
        pa.array([{"start": 1, "label": "x"}, None]),
        pa.array([1.5, float("nan")]),
        pa.array([datetime(2026, 1, 31, 12, 30, tzinfo=UTC), None], pa.timestamp("ns", "UTC")),
        pa.array([datetime(2026, 1, 31, 12, 30), None], pa.timestamp("ns")),
        pa.array([date(2026, 1, 31), None]),
        pa.array([Decimal("1.50"), None]),
        pa.array([b"bytes", None]),
        pa.array([b"four", None], pa.binary(4)),
        pa.array(["large", None], pa.large_string()),
        pa.array(["one", None]).dictionary_encode(),
        pa.array([True, None]),
        pa.nulls(2),
    ]
    names = [str(number) for number in range(len(values))]
    of = save(tmp_path, pa.table(values, names), how)
    found = [[row[1] for row in seen(of, Columns(name, None))] for name in names]
    assert [first for first, _ in found] == [
        ["a", "b"],
        {"start": 1, "label": "x"},
        1.5,
        "2026-01-31 12:30:00.000000Z",
        "2026-01-31 12:30:00.000000",
        "2026-01-31",
        "1.50",
        "bytes",
        "four",
        "large",
        "one",
        True,
        None,
    ]
    assert all(second is None for _, second in found)
    for name in "345":
        assert datetime.fromisoformat(seen(of, Columns(name, None))[0][1]).day == 31


@pytest.mark.parametrize("how", WRITERS)
def test_a_bad_byte_rejects_its_row_only(tmp_path: Path, how: str) -> None:
    for kind, offset in ((pa.string(), pa.int32()), (pa.large_string(), pa.int64())):
        buffers = [None, pa.array([0, 4, 5], offset).buffers()[1], pa.py_buffer(b"caf\xe9b")]
        text = pa.Array.from_buffers(kind, 2, buffers)
        of = save(tmp_path, pa.table({"text": text, "label": ["x", "y"]}), how)
        assert seen(of) == [(1, "caf\ufffd", "x", "not_utf8"), (2, "b", "y", None)]


def bad_texts() -> Any:
    """Three texts, of which the first does not decode."""
    buffers = [None, pa.array([0, 4, 5, 6], pa.int32()).buffers()[1], pa.py_buffer(b"caf\xe9bc")]
    return pa.Array.from_buffers(pa.string(), 3, buffers)


def in_lists(texts: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), texts)


def in_dictionary(texts: Any) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array([0, 2], pa.int32()), texts)


def in_objects(texts: Any) -> Any:
    return pa.StructArray.from_arrays([texts.slice(0, 2), pa.array([1, 2])], ["role", "turn"])


NESTED: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (in_lists, ["caf\ufffd", "b"], ["c"]),
    (in_dictionary, "caf\ufffd", "c"),
    (in_objects, {"role": "caf\ufffd", "turn": 1}, {"role": "b", "turn": 2}),
    (lambda texts: in_lists(in_dictionary(texts).take([0, 1, 1])), ["caf\ufffd", "c"], ["c"]),
]


@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize(("nest", "bad", "good"), NESTED)
def test_a_bad_byte_inside_of_a_value_rejects_its_row_only(
    tmp_path: Path, how: str, nest: Callable[[Any], Any], bad: Any, good: Any
) -> None:
    of = save(tmp_path, pa.table({"text": nest(bad_texts()), "label": ["x", "y"]}), how)
    assert seen(of) == [(1, bad, "x", "not_utf8"), (2, good, "y", None)]


@pytest.mark.parametrize("how", WRITERS)
def test_bytes_in_lists_are_text_too(tmp_path: Path, how: str) -> None:
    of = save(tmp_path, pa.table({"text": [[b"a", None], [b"\xe9"]], "label": ["x", "y"]}), how)
    assert seen(of) == [(1, ["a", None], "x", None), (2, ["\ufffd"], "y", "not_utf8")]


@pytest.mark.parametrize("how", WRITERS)
def test_an_object_of_lists_is_a_list_of_objects(tmp_path: Path, how: str) -> None:
    """As `datasets` stores spans and conversations."""
    cells = [
        {"from": ["human", "gpt"], "value": ["a", "b"]},
        {"from": [], "value": []},
        {"from": ["human"], "value": ["a", "b"]},
        {"from": None, "value": ["a"]},
        None,
    ]
    rows = [[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], [], *cells[2:]]
    of = save(tmp_path, pa.table({"text": cells}), how)
    assert [row[1] for row in seen(of, Columns("text", None))] == rows


def test_an_object_with_anything_else_stays_one(tmp_path: Path) -> None:
    cells = [{"names": ["a"], "count": 1}]
    of = save(tmp_path, pa.table({"text": cells}), "parquet")
    assert [row[1] for row in seen(of, Columns("text", None))] == cells


@pytest.mark.skipif(not STATUS.exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("rows_a_group", [2_000, 1_000_000])
def test_memory_does_not_grow_with_a_parquet_file(tmp_path: Path, rows_a_group: int) -> None:
    peaks = []
    for count in (10_000, 30_000):  # below that the batches in flight are not all there yet
        path = tmp_path / f"{count}.parquet"
        table = pa.table({"text": ["a" * 4_000] * count, "label": ["x"] * count})
        pq.write_table(table, path, row_group_size=rows_a_group, compression="none", use_dictionary=False)
        done = subprocess.run([sys.executable, "-c", PEAK, path], cwd=ROOT, capture_output=True, text=True, check=True)
        rows, peak = map(int, done.stdout.split())
        assert rows == count and path.stat().st_size > 4_000 * count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 40 << 20, peaks  # the file grew by 80 MB


@pytest.mark.parametrize("how", WRITERS)
def test_long_rows_come_in_small_batches(tmp_path: Path, how: str) -> None:
    of = save(tmp_path, pa.table({"text": ["a" * 1_000_000] * 40, "label": ["x"] * 40}), how)
    assert max(len(batch) for batch in batches(of)) <= 9


def test_columns_are_checked(tmp_path: Path) -> None:
    table = pa.table([["a"], ["x"], ["y"], [1]], ["text", "label", "label", "a.b"])
    for how in WRITERS:
        of = save(tmp_path, table, how)
        with pytest.raises(DataError, match="2 columns are called 'label'"):
            seen(of)
        with pytest.raises(DataError, match=r"no column 'intent'; it has: text, label, label, a\.b"):
            seen(of, Columns("text", "intent"))
        if how != "parquet":  # Parquet itself takes the dot for a path
            assert seen(of, Columns("a.b", None)) == [(1, 1, None, None)]


@pytest.mark.parametrize("how", WRITERS)
def test_a_file_that_was_cut_is_refused_with_the_row_reached(tmp_path: Path, how: str) -> None:
    table = pa.table({"text": [f"text {number}" for number in range(5000)], "label": ["x"] * 5000})
    path = Path(save(tmp_path, table, how).path)
    content = path.read_bytes()
    for keep in (1, 9, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:keep])
        with pytest.raises(DataError, match=r"rows\.\w+: damaged, or not what it is taken for, after row \d"):
            seen(source(path))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_stream_that_was_cut_between_two_batches_is_refused(tmp_path: Path, legacy: bool) -> None:
    table = pa.table({"text": ["a"] * 20, "label": ["x"] * 20})
    options = pa.ipc.IpcWriteOptions(use_legacy_format=legacy)
    path, ends = tmp_path / "rows.arrow", []
    with path.open("wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as writer:
        for batch in table.to_batches(10):
            writer.write_batch(batch)
            ends.append(file.tell())
    content = path.read_bytes()
    assert len(seen(source(path))) == 20
    for end, rows in zip(ends, (10, 20), strict=True):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=f"after row {rows} .cut short: the stream has no end marker"):
            seen(source(path))
    path.write_bytes(content * 2)
    with pytest.raises(DataError, match=r"after row 20 .the file goes on behind the end of its stream"):
        seen(source(path))


@pytest.mark.parametrize("how", ["file", "stream"])
def test_a_damaged_offset_is_refused_before_anything_follows_it(tmp_path: Path, how: str) -> None:
    """Where it leads lies outside of the memory of this process."""
    table = pa.table({"text": [{"tokens": ["a"] * 7}, {"tokens": ["b"] * 9}], "label": ["x", "y"]})
    path = Path(save(tmp_path, table, how).path)
    offsets = struct.pack("<3i", 0, 7, 16)
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, struct.pack("<3i", 0, 7, 1 << 30)))
    with pytest.raises(DataError, match="damaged"):
        seen(source(path))


def test_something_else_under_such_an_ending_is_refused(tmp_path: Path) -> None:
    for name in ("rows.parquet", "rows.arrow"):
        with pytest.raises(DataError, match="not what it is taken for"):
            header(source(write(tmp_path, "text,label\na,x\n", name)))
    packed = write(tmp_path, b"PAR1", "rows.parquet.gz")
    with pytest.raises(DataError, match="compressed inside"):
        header(source(packed, "parquet"))


# --- saved datasets


def test_a_part_of_a_saved_dataset_that_was_cut_is_refused(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved", 2)
    part = tmp_path / "saved" / "data-00000-of-00002.arrow"
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"data-00000-of-00002\.arrow: damaged.* after row 50 .cut short"):
        seen(source(tmp_path / "saved", "arrow"))


def test_a_selection_that_was_saved_is_read_whatever_is_told_of_its_origin(tmp_path: Path) -> None:
    """`datasets` keeps the number of rows of the split that a selection came from."""
    save_dataset(tmp_path / "saved")
    info = tmp_path / "saved" / "dataset_info.json"
    splits = {"train": {"name": "train", "num_examples": 200}}
    info.write_text(json.dumps({**json.loads(info.read_text()), "splits": splits}))
    assert len(seen(source(tmp_path / "saved", "arrow"))) == 100


def save_dataset(folder: Path, shards: int = 1) -> Any:
    datasets = pytest.importorskip("datasets", reason="the package `datasets`, which writes such folders, is not here")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["refund", "card"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-x"])),
            "spans": [{"start": datasets.Value("int32"), "kind": datasets.ClassLabel(names=["x", "y"])}],
        }
    )
    rows = [
        {"text": f"text {number}", "label": number % 2, "tags": [0, 1], "spans": [{"start": 3, "kind": 1}]}
        for number in range(100)
    ]
    dataset = datasets.Dataset.from_list(rows, features=features)
    dataset.save_to_disk(folder, num_shards=shards)
    return dataset


@pytest.mark.parametrize("shards", [1, 3])
def test_a_saved_dataset_is_read_in_order_with_names_of_classes(tmp_path: Path, shards: int) -> None:
    save_dataset(tmp_path / "saved", shards)
    (of,) = find_sources(DataSection.model_validate({"train": "saved"}), tmp_path, str)
    assert of.format == "arrow" and size_bytes(of) > 0 and header(of) == ["text", "label", "tags", "spans"]
    assert seen(of) == [(number + 1, f"text {number}", ["refund", "card"][number % 2], None) for number in range(100)]
    assert seen(of, Columns("tags", "spans"))[0] == (1, ["O", "B-x"], [{"start": 3, "kind": "y"}], None)
    before = fingerprint(of)
    info = tmp_path / "saved" / "dataset_info.json"
    info.write_text(info.read_text().replace("refund", "refunds"))
    assert fingerprint(of) != before
    assert seen(of)[0][2] == "refunds"


def test_a_sequence_of_objects_is_read_as_it_was_meant(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package `datasets`, which writes such folders, is not here")
    span = {"start": datasets.Value("int32"), "label": datasets.ClassLabel(names=["x", "y"])}
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Sequence(span)})
    rows = {"text": ["a", "b"], "label": [{"start": [1, 5], "label": [0, 1]}, {"start": [], "label": []}]}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "rows.parquet")
    for of in (source(tmp_path / "saved", "arrow"), source(tmp_path / "rows.parquet")):
        spans = [{"start": 1, "label": "x"}, {"start": 5, "label": "y"}]
        assert seen(of) == [(1, "a", spans, None), (2, "b", [], None)]


def test_parquet_that_datasets_wrote_knows_its_classes_too(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved").to_parquet(tmp_path / "rows.parquet")
    assert [row[2] for row in seen(source(tmp_path / "rows.parquet"))[:3]] == ["refund", "card", "refund"]


def test_a_folder_with_several_splits_is_refused_with_their_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package `datasets`, which writes such folders, is not here")
    dataset = save_dataset(tmp_path / "one")
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="with the splits train, test") as caught:
        find_sources(DataSection.model_validate({"train": "saved"}), tmp_path, str)
    assert caught.value.next_step.endswith("saved/train")
    (of,) = find_sources(DataSection.model_validate({"train": "saved/train"}), tmp_path, str)
    assert len(seen(of)) == 100


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved")
    of = source(tmp_path / "saved", "arrow")
    state = tmp_path / "saved" / "state.json"
    good = json.loads(state.read_text())
    for bad, said in (
        ("oops", "not the state of a saved dataset"),
        ("[]", "not the state of a saved dataset"),
        (json.dumps({**good, "_indices_data_files": [{"filename": "i.arrow"}]}), "a selection of rows"),
        (json.dumps({"_data_files": [{"filename": "../other.arrow"}]}), "outside of the folder"),
        (json.dumps({"_data_files": [{"filename": "gone.arrow"}]}), "no such file"),
    ):
        state.write_text(bad)
        with pytest.raises(Exception, match=said):
            list(read_batches(of, Columns("text", "label")))
