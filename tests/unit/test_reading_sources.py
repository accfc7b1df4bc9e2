"""What a job file says about its data becomes files that exist, or a message that helps."""

from __future__ import annotations

import bz2
import gzip
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from raysft.config.sections import DataSection
from raysft.errors import DataError, JobFileError, NotAllowed, NotFound
from raysft.reading.records import header
from raysft.reading.sources import Source, compression_of, find_sources, fingerprint, size_bytes
from tests.support.reading import seen, source, write

TABLE = b"text,label\na,x\nb,y\n"
ROWS = [(2, "a", "x", None), (3, "b", "y", None)]
PACK: dict[str, Any] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


def find(folder: Path, **data: Any) -> list[Source]:
    return find_sources(DataSection.model_validate(data), folder, lambda key: f"job.yaml:{len(key)}")


def names(found: list[Source], folder: Path) -> list[str]:
    return [str(Path(each.path).relative_to(folder)) for each in found]


def test_patterns_become_sorted_files_without_repeats(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "deep/c.tsv", "d.jsonl", "e.csv.gz", ".hidden.csv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, TABLE, name)
    found = find(tmp_path, train=["*.csv", "a.csv", "**/c.*", str(tmp_path / "d.jsonl"), "*.gz"], test="deep/*")
    assert names(found, tmp_path) == ["a.csv", "b.csv", "deep/c.tsv", "d.jsonl", "e.csv.gz", "deep/c.tsv"]
    assert [each.format for each in found] == ["csv", "csv", "tsv", "jsonl", "csv", "tsv"]
    assert [each.origin for each in found] == ["train"] * 5 + ["test"]


def test_patterns_with_a_scheme_are_those_without_it(tmp_path: Path) -> None:
    folder = tmp_path / "ü data"
    folder.mkdir()
    for name in ("b.csv", "a.csv", "c.tsv"):
        write(folder, TABLE, name)
    plain = find(Path("/"), train=f"{folder}/*.csv")
    assert [each.name for each in plain] == ["a.csv", "b.csv"]
    for written in (f"file://{folder}/*.csv", f"FILE://{folder}/?.csv", f"file://{quote(str(folder))}/*.csv"):
        assert find(Path("/"), train=written) == plain
    with pytest.raises(NotFound, match=r"no file matches /.*/\*\.jsonl"):
        find(Path("/"), train=f"file://{folder}/*.jsonl")


@pytest.mark.parametrize(
    "name",
    [
        "a[b].csv",
        "what?.csv",
        "star*.csv",
        "~nobody.csv",
        "UPPER.CSV",
        "-dash.csv",
        "a b'c\"d.csv",
        "ünï 🙂.csv",
        "a:b.csv",
    ],
)
def test_a_file_with_an_odd_name_is_itself(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, TABLE, name)
    (found,) = find(tmp_path, train=name)
    assert found.path == str(path) and seen(found) == ROWS
    assert find(tmp_path, train=f"file://{path}".replace("?", "%3F")) == [found]


def test_the_folder_of_the_job_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "jobs [1] *"
    folder.mkdir()
    write(folder, TABLE, "a.csv")
    assert find(folder, train="*.csv") == find(folder, train="a.csv") == [source(folder / "a.csv")]


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, TABLE, "a.csv")
    assert [each.path for each in find(Path("/"), train=["~/a.csv", "~/*.csv"])] == [str(path)]


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, TABLE, "rows.csv")
    write(tmp_path, TABLE, "notes.txt")
    with pytest.raises(NotFound, match=r"job\.yaml:10: data\.train: no file matches .*rowz\.csv") as caught:
        find(tmp_path, train="rowz.csv")
    assert "rows.csv" in caught.value.next_step and "notes.txt" not in caught.value.next_step
    for pattern in ("no/such/*.csv", "a\x00b.csv", "x" * 300 + "/*.csv"):
        with pytest.raises((NotFound, DataError)) as found:
            find(tmp_path, train=pattern)
        assert found.value.next_step


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.csv.zip", "rows.gz"])
def test_an_ending_that_is_not_known_is_refused_and_data_format_helps(tmp_path: Path, name: str) -> None:
    write(tmp_path, gzip.compress(TABLE) if name.endswith(".gz") else TABLE, name)
    with pytest.raises(DataError, match="cannot read") as caught:
        find(tmp_path, train=name)
    assert ".parquet" in caught.value.next_step and "data.format" in caught.value.next_step
    (found,) = find(tmp_path, train=name, format="csv")
    assert seen(found) == ROWS


def test_empty_files_and_other_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path, b"", "empty.csv")
    (tmp_path / "folder").mkdir()
    for name, said in (("empty.csv", "the file is empty"), ("folder", "a folder, and not one that")):
        with pytest.raises(DataError, match=said):
            find(tmp_path, train=name)
    packed = write(tmp_path, gzip.compress(b""), "empty.jsonl.gz")
    with pytest.raises(DataError, match="the file is empty"):
        header(source(packed, "jsonl"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    write(tmp_path, TABLE, "rows.csv").chmod(0)
    with pytest.raises(NotAllowed, match="no permission"):
        find(tmp_path, train="rows.csv")


def test_parallel_files(tmp_path: Path) -> None:
    write(tmp_path, "a\n", "seq.in")
    write(tmp_path, "x\n", "label")
    (found,) = find(tmp_path, train={"text": "seq.in", "label": "label"})
    assert (found.format, found.label_path) == ("lines", str(tmp_path / "label"))
    assert found.name == f"{tmp_path.name}/seq.in"
    with pytest.raises(NotFound, match=r"no such file: .*labels"):
        find(tmp_path, train={"text": "seq.in", "label": "labels"})
    with pytest.raises(DataError, match="not csv"):
        find(tmp_path, train={"text": "seq.in", "label": "label"}, format="csv")
    with pytest.raises(DataError, match="texts without labels"):
        find(tmp_path, train="seq.in", format="lines")


def test_an_unknown_encoding_is_refused_with_its_key(tmp_path: Path) -> None:
    write(tmp_path, TABLE)
    with pytest.raises(JobFileError, match=r"job\.yaml:13: data\.encoding: no encoding is called 'utf-9'"):
        find(tmp_path, train="rows.csv", encoding="utf-9")
    assert find(tmp_path, train="rows.csv", encoding="cp1252")[0].encoding == "cp1252"


@pytest.mark.parametrize("ending", PACK)
def test_packed_files_are_unpacked_and_damage_is_told_with_the_line(tmp_path: Path, ending: str) -> None:
    content = TABLE + b"".join(b"%d%d,z\n" % (number, number * number) for number in range(8_000))
    packed = PACK[ending](content)
    path = write(tmp_path, packed, f"rows.csv{ending}")
    of = source(path, "csv")
    assert compression_of(of.path) is not None and len(seen(of)) == 8_002
    path.write_bytes(packed + PACK[ending](b"c,z\n"))
    assert seen(of)[-1] == (8_004, "c", "z", None)
    for broken in (packed[: len(packed) * 3 // 4], packed[:-1], packed[:5], packed + b"junk", TABLE):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=rf"rows\.csv\{ending}: damaged or cut short after line \d+"):
            seen(of)


def test_fingerprint_and_size_are_of_the_content(tmp_path: Path) -> None:
    one, two = source(write(tmp_path, TABLE)), source(write(tmp_path, TABLE, "two.csv"))
    assert fingerprint(one) == fingerprint(two) and size_bytes(one) == len(TABLE)
    write(tmp_path, TABLE.replace(b"a", b"c"))
    assert fingerprint(one) != fingerprint(two)
    Path(two.path).unlink()
    for ask in (fingerprint, size_bytes, header):
        with pytest.raises(NotFound, match="no such file"):
            ask(two)
