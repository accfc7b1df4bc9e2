"""The files that a job needs where it will run: the job file, and what it names beside it. Nothing else is sent.

Files keep their places relative to each other, below the folder that holds all of them. The archive is the same bytes
for the same files, so that it is uploaded once.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysft.config import Job
from raysft.errors import NotAllowed, UsageError
from raysft.jobs.secrets import is_secret_file, secrets_in
from raysft.preparation.address import open_sources
from raysft.reading.places import Local, is_uri
from raysft.reading.sources import parts_of
from raysft.storage.layout import home_path
from raysft.storage.pretrained import local_base

MOST_BYTES = 100 * 2**20  # more belongs on the cluster's storage; Ray itself takes at most some 250 MB
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can tell
UNIX = 3


@dataclass(frozen=True)
class Package:
    """Files below a folder, by their paths in the archive."""

    root: Path
    files: dict[str, Path]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def within(self, path: Path) -> str:
        """Where a file of this machine lies in the package, and on the cluster relative to where the job runs."""
        return Path(os.path.relpath(_plain(path), self.root)).as_posix()

    def archive(self) -> bytes:
        """A zip archive, the same bytes for the same files."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, path in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, UNIX, 0o644 << 16
                archive.writestr(entry, path.read_bytes())
        return content.getvalue()


def package_of(job: Job, arguments: Sequence[str] = (), storage: str | None = None) -> Package:
    """What a job needs beside what lies on the cluster's storage. arguments: of the command; files that they name too.

    Raises UsageError (an absolute path that the cluster has not, too much to send), NotAllowed (a file that holds
    keys), and what finding the data raises.
    """
    needed = [_plain(job.path)]
    for source in open_sources(job).files:
        key = f"data.{source.origin}"
        for part in parts_of(source):
            if isinstance(part, Local):
                needed += _sent(job, key, Path(part.path), storage)
    if (base := local_base(job.config.model.base, job.folder)) is not None:
        needed += _sent_folder(job, "model.base", base, storage)
    tokenizer = None if job.config.model.init is None else job.config.model.init.tokenizer
    if tokenizer is not None and (found := local_base(tokenizer, job.folder)) is not None:
        needed += _sent_folder(job, "model.init.tokenizer", found, storage)
    needed += [_plain(Path(each)) for each in arguments if Path(each).is_file() and not Path(each).is_absolute()]
    return _packed(needed)


def _packed(needed: Sequence[Path]) -> Package:
    root = Path(os.path.commonpath([path.parent for path in needed]))
    found = Package(root, {Path(os.path.relpath(path, root)).as_posix(): path for path in needed})
    for name in found.files:
        if is_secret_file(name):
            raise NotAllowed(
                f"{found.files[name]} is the name of a file that holds keys; it is not sent to a cluster",
                "Give it another name if it holds none, or take it out of the job.",
            )
    if found.size > MOST_BYTES:
        largest = max(found.files.values(), key=lambda path: path.stat().st_size)
        raise UsageError(
            f"{found.size / 2**20:.0f} MiB would be sent with the job, at most {MOST_BYTES / 2**20:.0f}; the largest "
            f"file is {largest}",
            "Put the data on the cluster's storage, and name it there by an absolute path or a URI.",
        )
    return found


def refuse_secrets(texts: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Raise NotAllowed where a text that would be sent holds a secret, which everybody on the cluster could read.

    texts: by what they are called in messages.
    """
    for name, text in texts.items():
        for line, kind in secrets_in(text, environment):
            raise NotAllowed(
                f"{name}:{line}: {kind} would be sent to the cluster, where the job API shows it to everyone",
                "Take it out; where it is needed, let the nodes have it in their own environment.",
            )


def _sent(job: Job, key: str, path: Path, storage: str | None) -> list[Path]:
    """This file, unless the cluster has it. Raises UsageError where its path means nothing there."""
    if is_on(path, storage):
        return []
    if _is_absolute_in(job, key):
        there = (
            f"{storage} is the folder that the cluster sees too" if storage else "the cluster sees none of its folders"
        )
        raise UsageError(
            f"{job.where(*key.split('.'))}: {key}: {path} is an absolute path of this machine; {there}",
            "Name the file relative to the job file, then it is sent along; or put it on the cluster's storage.",
        )
    return [_plain(path)]


def _sent_folder(job: Job, key: str, folder: Path, storage: str | None) -> list[Path]:
    """The files of a model, without what is hidden or holds keys."""
    if is_on(folder, storage):
        return []
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        _plain(path)
        for path in names
        if not is_secret_file(str(path.relative_to(folder))) and not _is_hidden(path.relative_to(folder))
    ]


def _is_absolute_in(job: Job, key: str) -> bool:
    """Whether the job file names an absolute path under this key."""
    data = job.values.get("data")
    written = data.get(key.partition(".")[2]) if isinstance(data, dict) else None
    return any(home_path(text).is_absolute() for text in _texts(written) if not is_uri(text))


def _texts(written: object) -> Iterable[str]:
    if isinstance(written, str):
        yield written
    elif isinstance(written, dict):
        yield from (text for each in written.values() for text in _texts(each))
    elif isinstance(written, list):
        yield from (text for each in written for text in _texts(each))


def is_on(path: Path, storage: str | None) -> bool:
    """Whether a path lies on the storage that the cluster sees, too."""
    return storage is not None and _plain(path).is_relative_to(storage)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _plain(path: Path) -> Path:
    """Absolute, without `..`; links stay links."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links


def package_name(content: bytes) -> str:
    """As Ray names packages: it takes whatever follows `_ray_pkg_` for the digest."""
    return f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip"
