"""What a job file says about its data, as a list of files that exist and whose format is known."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysft.config.sections import DataSection
from raysft.config.values import TwoFiles
from raysft.errors import DataError, JobFileError, NotFound, Problem
from raysft.reading.places import HF_SPLITS, HF_STATE, Local, Place, full_path, is_uri, local_matches, place

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
}
UNLABELLED = {".txt": "lines"}  # a text a line, where rows need no label
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
ALLOWED = f"{', '.join(ENDINGS)}, each also with {', '.join(COMPRESSIONS)}"
# These decode to something else than what a text file holds, or never fail and never succeed.
NO_TEXT = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"}


@dataclass(frozen=True)
class Source:
    """One file of the corpus, or two parallel ones."""

    origin: str  # train | validation | test: which key of the job file named it
    path: str  # local path or URI, as shown to people
    format: str  # csv tsv json jsonl parquet arrow lines conll
    label_path: str | None = None  # the second of two parallel line files
    encoding: str = "auto"

    @property
    def name(self) -> str:
        """The last part of the path; of a parallel file also its folder, which is what tells such files apart."""
        parts = self.path.partition("?")[0].rstrip("/").split("/")
        return "/".join(parts[-2:]) if self.format == "lines" else parts[-1]


def find_sources(data: DataSection, folder: Path, where: Callable[[str], str], labelled: bool = True) -> list[Source]:
    """The files of data.train, data.validation and data.test, in this order, without repeats within each.

    labelled: rows need labels, so that no single file of lines will do.

    `folder` is that of the job file; `where("data.train")` says where a key stands, as in `jobs/x.yaml:12`.
    Raises NotFound, NotAllowed, DataError (an ending that is not known, an empty file), JobFileError (data.encoding).
    """
    require_encoding(data.encoding, where("data.encoding"))
    found: list[Source] = []
    for origin, entries in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        key = f"data.{origin}"
        for entry in entries or ():
            found += sources_of(entry, folder, origin, data.format, data.encoding, f"{where(key)}: {key}: ", labelled)
    return list(dict.fromkeys(found))


def sources_of(
    entry: str | TwoFiles,
    folder: Path,
    origin: str = "train",
    format: str = "auto",
    encoding: str = "auto",
    before: str = "",
    labelled: bool = True,
) -> list[Source]:
    """The files of one path, glob, URI or pair, relative to `folder`; messages begin with `before`."""
    if isinstance(entry, TwoFiles):
        return [_pair(entry, folder, origin, format, encoding, before)]
    return [
        Source(origin, each.shown, _format(each, format, before, labelled), None, encoding)
        for each in _expand(entry, folder, before)
    ]


def require_encoding(name: str, where: str) -> None:
    """Raises JobFileError for an encoding that Python does not know, or that is none of text."""
    if name.lower() == "auto":
        return
    try:
        known = codecs.lookup(name)
    except (LookupError, ValueError):
        known = None
    if known is None or not getattr(known, "_is_text_encoding", True) or known.name.replace("-", "_") in NO_TEXT:
        text = f"no encoding is called {name!r}; write auto, or one such as utf-8, utf-16, cp1252, latin-1, shift_jis"
        raise JobFileError([Problem(where, "data.encoding", text)])


def compression_of(path: str) -> str | None:
    """What a path is compressed with by its ending: gzip, zstd, bz2 or None."""
    return COMPRESSIONS.get(Path(path.partition("?")[0] if is_uri(path) else path).suffix.lower())


def is_saved_dataset(source: Source) -> bool:
    """Whether the source is a folder that the `datasets` library wrote."""
    return source.format == "arrow" and place(source.path).kind() == "folder"


def parts_of(source: Source) -> list[Place]:
    """Every file that the content of a source lies in, in order."""
    here = place(source.path)
    if is_saved_dataset(source):
        return [here.child(HF_STATE), here.child("dataset_info.json"), *(here.child(name) for name in data_files(here))]
    return [here] + ([place(source.label_path)] if source.label_path else [])


def data_files(folder: Place) -> list[str]:
    """Names of the Arrow files of a saved dataset, in order. Raises DataError."""
    shown = folder.child(HF_STATE).shown
    try:
        with folder.child(HF_STATE).open() as file:
            state = json.loads(file.read())
        names = [str(each["filename"]) for each in state["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{shown}: not the state of a saved dataset", "Save it anew with save_to_disk.") from None
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{shown}: the dataset is a selection of rows", "Call flatten_indices() and save it anew.")
    if any("/" in name or "\\" in name or name in {"", ".", ".."} for name in names):
        raise DataError(f"{shown}: a data file outside of the folder", "Save it anew with save_to_disk.")
    return names


def fingerprint(source: Source) -> str:
    """Hex digest that changes when the content changes: sha256 of local files; size, time and ETag of remote ones."""
    parts = parts_of(source)
    told = [each.identity() for each in parts if each.name != "dataset_info.json" or each.kind() == "file"]
    return (
        told[0]
        if len(told) == 1 and isinstance(parts[0], Local)
        else hashlib.sha256("\n".join(told).encode()).hexdigest()
    )


def size_bytes(source: Source) -> int:
    """Bytes as stored, of all its files together."""
    return sum(each.size() for each in parts_of(source) if each.name != "dataset_info.json" or each.kind() == "file")


def _expand(written: str, folder: Path, before: str) -> list[Place]:
    """The path itself where there is such a file, else what it matches as a pattern."""
    here = place(written) if is_uri(written) else Local(full_path(written, folder))
    if here.kind() != "nothing":
        return [here]
    found = local_matches(written, folder) if isinstance(here, Local) else list[Place](here.matches())
    if not found:
        raise NotFound(f"{before}no file matches {here.shown}", _nearby(here))
    return found


def _format(here: Place, written: str, before: str, labelled: bool) -> str:
    if here.kind() == "folder":
        return _folder_format(here, before)
    if here.size() == 0:
        raise DataError(f"{before}{here.shown}: the file is empty", "It needs rows.")
    here.open().close()  # says now whether it may be read
    if written == "lines" and labelled:
        raise DataError(f"{before}{here.shown}: texts without labels", "Write {text: FILE, label: FILE} for two files.")
    suffixes = [suffix.lower() for suffix in Path(here.name).suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    ending = suffixes[-1] if suffixes else ""
    known = ENDINGS if labelled else {**ENDINGS, **UNLABELLED}
    if written == "auto" and ending not in known:
        raise DataError(
            f"{before}{here.shown}: cannot read {ending or 'a file without ending'}",
            f"Known endings: {ALLOWED}. Or say what it is with data.format.",
        )
    return known[ending] if written == "auto" else written


def _folder_format(here: Place, before: str) -> str:
    """`arrow` for one split of a saved dataset. Raises DataError for any other folder."""
    if here.child(HF_STATE).kind() == "file":
        return "arrow"
    if here.child(HF_SPLITS).kind() == "file":
        splits = _splits(here)
        raise DataError(
            f"{before}{here.shown}: a saved dataset with the splits {', '.join(splits) or '(none)'}",
            f"Name one of them: {here.child(splits[0] if splits else 'train').shown}",
        )
    raise DataError(
        f"{before}{here.shown}: a folder, and not one that the `datasets` library saved",
        f"Name files, such as {here.child('*.csv').shown}",
    )


def _splits(here: Place) -> Sequence[str]:
    try:
        with here.child(HF_SPLITS).open() as file:
            return [str(name) for name in json.loads(file.read())["splits"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _pair(entry: TwoFiles, folder: Path, origin: str, format: str, encoding: str, before: str) -> Source:
    """Two files, line by line; each is one path, since two patterns might not match in the same order."""
    if format not in {"auto", "lines"}:
        raise DataError(f"{before}two parallel files are not {format}", "Write data.format: auto, or lines.")
    places = [place(each) if is_uri(each) else Local(full_path(each, folder)) for each in entry]
    for here in places:
        if here.kind() != "file":
            raise NotFound(f"{before}no such file: {here.shown}", _nearby(here))
        here.open().close()
    if not any(here.size() for here in places):
        raise DataError(f"{before}{places[0].shown}: the file is empty", "It needs rows.")
    return Source(origin, places[0].shown, "lines", places[1].shown, encoding)


def _nearby(here: Place) -> str:
    try:
        names = here.nearby()
    except OSError:
        names = []
    known = [name for name in names if any(suffix.lower() in ENDINGS for suffix in Path(name).suffixes)] or names
    if known:
        return f"Files there: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
    if isinstance(here, Local):
        return f"The folder {Path(here.path).parent} is empty or does not exist. Paths are relative to the job file."
    return "There is no file in that folder of the bucket." if here.bucket_is_there() else "There is no such bucket."
