"""Files that are written, damaged and read: what must still be true of every row.

A row that the damage did not touch is returned exactly and at its line, or stands in a rejected row; and nothing is
returned that was not written, but at the lines of rows that were touched.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysft.errors import RaysftError
from raysft.reading.records import Columns, header, read_batches
from raysft.reading.sources import Source

LETTERS = [*"abc xyz,;|\t\"'éß🙂\u2028\x85\x0b\x1c\x00", "\n", "\r\n", "##", "},{", "NaN", "\\ud83d"]
TAGS = ["O", "B-x", "I-x"]
COLUMNAR = ("parquet", "arrow", "stream")
TEXTS = ("csv", "tsv", "jsonl", "json", "lines", "conll")
BINARY = (*COLUMNAR, "csv.gz", "jsonl.zst")
FORMATS = TEXTS + BINARY
JUNK = [
    *(b"\x00", b"\xff", b"\xe9", b'"', b"'", b"\n", b"\r", b",", b"\t", b"{", b"}", b"[", b"]", b"\\", b"# x\n"),
    *(b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\n\n", b'""', b"\xed\xa0\x80", b"NaN", b"[" * 2000, b"a" * 50),
]
Row = tuple[int, Any, Any]  # line, text, label


@dataclass
class File:
    """What was written: the bytes, and of each row its content, line, and where its bytes begin and end."""

    content: bytes
    rows: list[Row]
    spans: list[tuple[int, int]]
    seams: list[int] = field(default_factory=list)  # where batches of rows end: a cut there leaves whole ones


@dataclass
class Damage:
    """Which of the original bytes are gone, and what stands there instead."""

    start: int
    end: int
    instead: bytes

    def cuts(self, content: bytes) -> bool:
        """Whether the file is shorter by its end and else as it was."""
        return self.start < self.end == len(content) and not self.instead

    def of(self, content: bytes) -> bytes:
        return content[: self.start] + self.instead + content[self.end :]


def make(kind: str, random: Random) -> File:
    """A file of a few rows with everything in them that makes reading hard."""
    rows = [_row(kind, index, random) for index in range(random.randint(1, 12))]
    if kind in {"csv.gz", "jsonl.zst"}:
        inner = make(kind.partition(".")[0], random)
        packed = gzip.compress(inner.content) if kind == "csv.gz" else pa.compress(inner.content, "zstd", asbytes=True)
        return File(packed, inner.rows, [])
    if kind in COLUMNAR:
        columnar, seams = _columnar(kind, rows)
        return File(columnar, [(at, *row) for at, row in enumerate(rows, start=1)], [], seams)
    pieces = [_piece(kind, row, random) for row in rows]
    between = ", \n" if kind == "json" else ""
    start = {"csv": "text,label\n", "tsv": "text\tlabel\r\n", "json": "["}.get(kind, "")
    content, file = start, File(b"", [], [])
    for at, (row, piece) in enumerate(zip(rows, pieces, strict=True)):
        line = at + 1 if kind == "json" else content.count("\n") + 1
        begin = len(content.encode())
        content += piece + (between if at < len(rows) - 1 else "")
        file.rows.append((line, *row))
        file.spans.append((begin, len(content.encode())))
    file.content = (content + ("]" if kind == "json" else "")).encode()
    return file


def _row(kind: str, index: int, random: Random) -> tuple[Any, Any]:
    if kind == "conll":
        count = random.randint(1, 4)
        tokens = random.choices(["#", "a\u2028b", "é", "New York"], k=count)
        return [f"t{index}", *tokens], random.choices(TAGS, k=count + 1)
    text = f"t{index}" + "".join(random.choices(LETTERS, k=random.randint(0, 12))) + "."
    if kind == "lines":
        text = text.replace("\n", " ").replace("\r", " ")
    return text, random.choice(["x", "y", "z"])


def _piece(kind: str, row: tuple[Any, Any], random: Random) -> str:
    if kind in {"csv", "tsv"}:
        stream = io.StringIO(newline="")
        ends = {"csv": "\n", "tsv": "\r\n"}
        writer = csv.writer(stream, delimiter="\t" if kind == "tsv" else ",", lineterminator=ends[kind])
        writer.writerow([row[0], row[1]])
        return stream.getvalue()
    if kind in {"jsonl", "json"}:
        written = json.dumps({"text": row[0], "label": row[1]}, ensure_ascii=random.random() < 0.5)
        return written + ("\n" if kind == "jsonl" else "")
    if kind == "lines":
        return f"{row[0]}\n"
    return "".join(f"{token}\t{tag}\n" for token, tag in zip(*row, strict=True)) + "\n"


def _columnar(kind: str, rows: list[tuple[Any, Any]]) -> tuple[bytes, list[int]]:
    """The file, and where its batches of rows end."""
    table = pa.table({"text": [row[0] for row in rows], "label": [row[1] for row in rows]})
    stream = pa.BufferOutputStream()
    seams: list[int] = []
    if kind == "parquet":
        pq.write_table(table, stream, row_group_size=5)
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(stream, table.schema) as writer:
            for batch in table.to_batches(5):
                writer.write_batch(batch)
                seams.append(stream.tell())
    return bytes(stream.getvalue()), seams


def harm(content: bytes, seams: list[int], random: Random) -> Damage:
    """Truncated, flipped, inserted into or cut out; of ten times once at a seam, where there is one."""
    at = random.choice(seams) if seams and random.random() < 0.1 else random.randint(0, len(content))
    how = random.choice(["cut", "flip", "insert", "remove"])
    if how == "cut":
        return Damage(at, len(content), b"")
    if how == "flip" and at < len(content):
        return Damage(at, at + 1, bytes([content[at] ^ random.randint(1, 255)]))
    if how == "remove":
        return Damage(at, min(len(content), at + random.randint(1, 6)), b"")
    return Damage(at, at, random.choice(JUNK))


def read_all(folder: Path, kind: str, content: bytes, labels: bytes) -> list[tuple[int, Any, Any, str | None, str]]:
    """(line, text, label, reason, detail) of every row. Raises RaysftError."""
    endings = {"lines": "in", "stream": "arrow"}
    path = folder / f"rows.{endings.get(kind, kind)}"
    path.write_bytes(content)
    second = folder / "rows.label"
    second.write_bytes(labels)
    format = {"stream": "arrow"}.get(kind, kind.partition(".")[0])
    source = Source("train", str(path), format, str(second) if kind == "lines" else None)
    header(source)
    found: list[tuple[int, Any, Any, str | None, str]] = []
    for batch in read_batches(source, Columns("text", "label")):
        found += zip(batch.line, batch.cells["text"], batch.cells["label"], batch.reason, batch.detail, strict=True)
    return found


def check(folder: Path, kind: str, random: Random) -> str:
    """Write, read, damage, read again. What became of it: refused, exact or partial."""
    file = make(kind, random)
    labels = "".join(f"{row[2]}\n" for row in file.rows).encode()
    whole = [row[:4] for row in read_all(folder, kind, file.content, labels)]
    assert whole == [(*row, None) for row in file.rows], "an undamaged file"
    damage = harm(file.content, file.seams, random)
    try:
        found = read_all(folder, kind, damage.of(file.content), labels)
    except RaysftError as error:
        assert error.message and error.next_step
        return "refused"
    assert kind not in COLUMNAR or not damage.cuts(file.content), "a file that was cut is read as if it were whole"
    if kind in TEXTS:
        _compare(kind, file, damage, found)
    elif "." in kind and damage.end < len(file.content):
        assert kind != "csv.gz" or [row[:4] for row in found] == whole or damage.start < 10, "the checksum was wrong"
    return "exact" if [row[:4] for row in found] == whole else "partial"


def _compare(kind: str, file: File, damage: Damage, found: list[tuple[int, Any, Any, str | None, str]]) -> None:
    if damage.start < file.spans[0][0]:  # in the header: another file
        return
    lost = file.content[damage.start : damage.end]
    shift = damage.instead.count(b"\n") - lost.count(b"\n")
    # A letter at the edge of a row may join it with the one beside it; between sentences stand two line ends.
    edge = 1 if kind == "conll" else 0
    touched = [start - edge <= damage.end and damage.start <= end + edge for start, end in file.spans]
    behind = [start - edge > damage.end for start, _ in file.spans]
    kept = _plain([row[:3] for row in found if row[3] is None])
    refused = [row for row in found if row[3] is not None]
    if kind == "json":
        _compare_unordered([row for row, hit in zip(file.rows, touched, strict=True) if not hit], kept, refused)
        return
    rows = [(line + shift * late, *rest) for (line, *rest), late in zip(_plain(file.rows), behind, strict=True)]
    for row, hit in zip(rows, touched, strict=True):
        assert hit or row in kept or any(_covers(each, row[0]) for each in refused), f"lost: {row}"
    first = min((row[0] for row, hit in zip(rows, touched, strict=True) if hit), default=0)
    last = min((row[0] for row, late in zip(rows, behind, strict=True) if late), default=1 << 30)
    strange = [row for row in kept if row not in rows and not first <= row[0] < last]
    assert not strange, f"never written: {strange}"


def _compare_unordered(rows: list[Row], kept: list[Row], refused: list[tuple[int, Any, Any, str | None, str]]) -> None:
    """In an array the numbers of the rows behind the damage may change."""
    texts = [row[1:] for row in kept]
    for row in _plain(rows):
        found = row[1:] in texts or any(row[1].rpartition(".")[0][:2] in str(each[1]) for each in refused)
        assert found, f"lost: {row}"


def _plain(rows: list[Row]) -> list[Row]:
    """Rows that can be compared and found."""
    return [(line, str(text), str(label)) for line, text, label in rows]


def _covers(row: tuple[int, Any, Any, str | None, str], line: int) -> bool:
    lines = re.search(r"lines (\d+) to (\d+)", row[4])
    return row[0] == line or (lines is not None and int(lines[1]) <= line <= int(lines[2]))
