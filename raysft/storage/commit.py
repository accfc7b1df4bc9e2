"""Files and folders that are either complete or not there at all.

A file is written aside, flushed to disk and renamed. A folder is written aside, gets a manifest with size and sha256 of
every file in it as its last act, and is renamed; whoever reads it can tell a torn copy from a whole one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysft.errors import OutputError
from raysft.storage.layout import MANIFEST

ASIDE = ".tmp-"
RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors and tokenizers report a failed write


class TornFolder(Exception):
    """A folder whose manifest is missing or does not match its files."""


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a message for people."""
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if number not in {
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.EFBIG,
            errno.EISDIR,
            errno.ENOTDIR,
        }:
            raise
        named = getattr(error, "filename", None)
        elsewhere = isinstance(named, str) and not Path(named).is_relative_to(where)
        raise OutputError(
            f"cannot write {where}: {os.strerror(number)}" + (f" ({named})" if elsewhere else ""),
            "Free some space or choose another folder with --set output=FOLDER; then type the same command again.",
        ) from None


def _error_number(error: Exception) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    found = RUST_OS_ERROR.search(str(error))
    return int(found.group(1)) if found else 0


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` in one step; after a crash either the old or the whole new content is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _flush_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def settle(aside: Path, path: Path) -> None:
    """Turn a file that was written aside into `path`, on disk before anything that is written after it."""
    flush(aside)
    aside.replace(path)
    _flush_folder(path.parent)


def flush(file: Path) -> None:
    """Return when the content of `file` is on disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, written by `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON document in `path`."""
    return json.loads(path.read_bytes())


@contextmanager
def committed_folder(path: Path, facts: dict[str, Any] | None = None) -> Iterator[Path]:
    """Yield a folder to fill; on success it becomes `path`, complete with manifest. Replaces an older `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        yield aside
        commit_folder(aside, path, facts)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def commit_folder(
    aside: Path, path: Path, facts: dict[str, Any] | None = None, belongs: Callable[[Path], bool] = lambda _: True
) -> None:
    """Turn a filled folder into `path`, complete with manifest; both on the same file system.

    belongs: whether a file of `aside` is part of the result. The others go along, and the manifest does not know them.
    """
    manifest = aside / MANIFEST  # there already where a writer was killed between it and the rename
    inside = (file for file in sorted(aside.rglob("*")) if file != manifest and file.is_file() and belongs(file))
    files = {str(file.relative_to(aside)): _describe(file) for file in inside}
    write_json(manifest, {**(facts or {}), "files": files})
    if path.exists():
        old = path.with_name(f"{path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
        path.rename(old)
        aside.rename(path)
        shutil.rmtree(old)
    else:
        aside.rename(path)
    _flush_folder(path.parent)


def verified_folder(path: Path) -> dict[str, Any]:
    """The manifest of a committed folder, after checking every file against it. Raises TornFolder."""
    try:
        manifest: dict[str, Any] = read_json(path / MANIFEST)
        files = dict(manifest["files"]).items()
    except (OSError, ValueError, KeyError, TypeError):
        raise TornFolder(f"{path}: no valid {MANIFEST}") from None
    for name, expected in files:
        try:
            found = _describe(path / name, flushed=False)
        except OSError:
            raise TornFolder(f"{path / name}: missing") from None
        if found != expected:
            raise TornFolder(f"{path / name}: content differs from the manifest")
    return manifest


def is_whole(path: Path) -> bool:
    """Whether `path` is a committed folder that matches its manifest."""
    try:
        verified_folder(path)
    except TornFolder:
        return False
    return True


def sha256_file(path: Path) -> str:
    """sha256 of a file's content, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """A short content address (16 hex digits of sha256) of any JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sweep_aside(folder: Path, name: str = "*") -> None:
    """Remove what an interrupted writer left aside in `folder`: of all, or of `name`. Call only while holding its
    lock."""
    for left in folder.glob(f"{name}{ASIDE}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """A rename outlives a power cut only when its folder is on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _describe(file: Path, flushed: bool = True) -> dict[str, Any]:
    if flushed:
        flush(file)
    return {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
