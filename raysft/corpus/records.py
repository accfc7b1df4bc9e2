"""Files -> raw rows with file and line. Nothing is lost: what cannot be read becomes a rejected row with its reason.

CSV and TSV as people have them (quotes, newlines in fields, BOM, Windows line ends, `;` as separator) and JSON Lines.
"""

from __future__ import annotations

import codecs
import csv
import glob
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysft.errors import DataError, NotFound
from raysft.storage.layout import home_path

TABLES = {".csv": ",;\t|", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
KINDS = (*TABLES, *JSON_LINES)
ALLOWED = ", ".join(KINDS)
BAD = re.compile(r"[\ud800-\udfff]")  # lone surrogates: a bad byte, or half an emoji in JSON
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


@dataclass(frozen=True)
class Columns:
    """Which columns of a file count."""

    text: str
    label: str | None
    group: str | None = None

    @property
    def names(self) -> list[str]:
        return [name for name in (self.text, self.label, self.group) if name]


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in a file; `reason` is set when it could not be read."""

    line: int
    text: str
    label: str
    group: str
    reason: str | None = None
    detail: str = ""


def expand(patterns: Sequence[str], folder: Path, where: str = "") -> list[Path]:
    """Paths and globs, relative to `folder`, as a sorted list of files without repeats.

    Raises NotFound for a pattern without a file, DataError for a kind of file that is not read.
    """
    files: list[Path] = []
    for pattern in patterns:
        path = folder / home_path(pattern)
        matches = glob.glob(str(home_path(pattern)), root_dir=folder, recursive=True)  # noqa: PTH207
        found = [path] if path.is_file() else sorted(folder / name for name in matches if (folder / name).is_file())
        if not found:
            raise NotFound(f"{where}no file matches {path}", _files_nearby(path))
        files += found
    for file in files:
        _kind(file)
    return list(dict.fromkeys(files))


def header(file: Path) -> list[str]:
    """The columns of a file: its first line, or the keys of its first hundred JSON rows."""
    if _kind(file) in JSON_LINES:
        names: dict[str, None] = {}
        for index, (_, value) in enumerate(_json_lines(file)):
            if index == 100:
                break
            names.update(dict.fromkeys(value if isinstance(value, dict) else ()))
        return list(names)
    return _header(file, _delimiter(file))


def read_rows(file: Path, columns: Columns) -> Iterator[RawRow]:
    """Every row of one file, in order. A blank line is no row."""
    if _kind(file) in JSON_LINES:
        yield from _json_rows(file, columns)
    else:
        yield from _table_rows(file, columns)


def _kind(file: Path) -> str:
    """The ending that says how to read a file. Raises DataError."""
    kind = file.suffix.lower()
    if kind not in KINDS:
        raise DataError(f"{file}: cannot read {file.suffix or 'a file without ending'}", f"Allowed: {ALLOWED}.")
    return kind


def _open_text(file: Path) -> Any:
    """Text whose bad bytes become lone surrogates, so that they cost one row and not the file."""
    with file.open("rb") as raw:
        start = raw.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return file.open("r", encoding=encoding, errors="raysft.mark", newline="")


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error("raysft.mark", _mark)


def _readable(text: str) -> str:
    return BAD.sub("\ufffd", text)


def _delimiter(file: Path) -> str:
    """The candidate that splits the header into most columns; ties go to the first."""
    candidates = TABLES[_kind(file)]
    return max(candidates, key=lambda mark: len(_header(file, mark)))


def _header(file: Path, delimiter: str) -> list[str]:
    with _open_text(file) as lines:
        names = next(filter(None, csv.reader(lines, delimiter=delimiter)), [])
    return [_readable(name).strip() for name in names]


def _table_rows(file: Path, columns: Columns) -> Iterator[RawRow]:
    delimiter = _delimiter(file)
    names = _header(file, delimiter)
    places = [names.index(name) if name else -1 for name in (columns.text, columns.label, columns.group)]
    with _open_text(file) as lines:
        head = csv.reader(lines, delimiter=delimiter)
        next(filter(None, head), None)
        # Strict, since a quote that is never closed would else swallow the rows after it without a word.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            line = head.line_num + reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                detail = f"{error}, lines {line} to {head.line_num + reader.line_num}"
                yield RawRow(line, "", "", "", "malformed_csv", detail)
                continue
            if not fields:
                continue
            if len(fields) != len(names):
                detail = f"{len(fields)} fields, the header has {len(names)}"
                yield RawRow(line, _readable(delimiter.join(fields)), "", "", "wrong_field_count", detail)
                continue
            yield _row(line, *("" if place < 0 else fields[place] for place in places))


def _json_rows(file: Path, columns: Columns) -> Iterator[RawRow]:
    for line, value in _json_lines(file):
        if isinstance(value, dict):
            yield _row(
                line,
                *(_json_text(value.get(name)) if name else "" for name in (columns.text, columns.label, columns.group)),
            )
        else:
            yield RawRow(line, _readable(str(value)), "", "", "malformed_json", "not a JSON object on one line")


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """(line, object), or (line, the text itself) where it is not JSON."""
    with _open_text(file) as lines:
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                yield number, json.loads(text)
            except (ValueError, RecursionError):
                yield number, text.strip()


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(line: int, text: str, label: str, group: str) -> RawRow:
    for name, value in (("text", text), ("label", label), ("group", group)):
        if BAD.search(value):
            return RawRow(line, _readable(text), _readable(label), _readable(group), "not_utf8", f"in the {name}")
    return RawRow(line, text, label, group)


def _files_nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist. Data paths are relative to the job file."
    names = sorted(file.name for file in path.parent.iterdir() if file.suffix.lower() in KINDS)
    return f"Files there: {', '.join(names[:8])}." if names else f"There is no {ALLOWED} file in {path.parent}."
