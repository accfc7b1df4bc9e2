"""Files on their way to a cluster: they keep their places relative to each other, below the folder that holds them all.

The archive is the same bytes for the same files, so that it is uploaded once.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from raysft.cluster.secrets import is_secret_file, secrets_in
from raysft.errors import NotAllowed, UsageError

MOST_BYTES = 100 * 2**20  # more belongs on the cluster's storage; Ray itself takes at most some 250 MB
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can tell
UNIX = 3
# By where a file is to lie (absolute, without `..`), where it is read from. They differ where a link is on the way, and
# for a finished run that is named as a base.
Files = dict[Path, Path]


@dataclass(frozen=True)
class Package:
    """Files below a folder, by their paths in the archive."""

    root: Path
    files: dict[str, Path]
    folders: tuple[str, ...] = ()  # that are empty, and must be there so that `folder/../file` leads to the file

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def within(self, path: Path) -> str:
        """Where a file of this machine lies in the package, and on the cluster relative to where the job runs."""
        name = Path(os.path.relpath(plain(path), self.root)).as_posix()
        return f"./{name}" if name.startswith("-") else name  # else it would be read as an option

    def archive(self) -> bytes:
        """A zip archive, the same bytes for the same files."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, path in sorted(self.files.items()):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, UNIX, 0o644 << 16
                archive.writestr(entry, _content(path))
            for name in self.folders:
                archive.writestr(zipfile.ZipInfo(f"{name}/", EPOCH), b"")
        return content.getvalue()


def _content(path: Path) -> bytes:
    """Raises UsageError where the file cannot be read, or is gone by now."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "It is to be sent with the job.") from None


def packed(needed: Files, passed: Collection[Path] = ()) -> Package:
    """These files below the folder that holds all of them. passed: folders through which paths lead to them.

    Raises UsageError (too much to send, a name that cannot be), NotAllowed (a file that holds keys).
    """
    root = Path(os.path.commonpath([*passed, *(place.parent for place in needed)]))
    held = {folder for place in needed for folder in place.parents}
    empty = sorted(folder.relative_to(root).as_posix() for folder in {*passed} - held)
    found = Package(root, {place.relative_to(root).as_posix(): path for place, path in needed.items()}, tuple(empty))
    for name, path in found.files.items():
        if is_secret_file(name) or is_secret_file(_behind(path, root)):
            raise NotAllowed(
                f"{path} is the name of a file that holds keys; it is not sent to a cluster",
                "Give it another name if it holds none, or take it out of the job.",
            )
        if not _is_utf8(name):
            raise UsageError(f"{name!r}: a name that is not UTF-8 cannot be sent", "Give the file another name.")
    if found.size > MOST_BYTES:
        largest = max(found.files.values(), key=lambda path: path.stat().st_size)
        raise UsageError(
            f"{found.size / 2**20:.0f} MiB would be sent with the job, at most {MOST_BYTES / 2**20:.0f}; the largest "
            f"file is {largest}",
            "Put the data on the cluster's storage, and name it there by an absolute path or a URI.",
        )
    return found


def _behind(path: Path, root: Path) -> str:
    """What a file is in truth, where its name is a link: below the folder of the job, else in full."""
    real, root = path.resolve(), root.resolve()
    return str(real.relative_to(root) if real.is_relative_to(root) else real)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def is_on(path: Path, storage: str | None) -> bool:
    """Whether a path lies on the storage that the cluster sees, too."""
    return storage is not None and plain(path).is_relative_to(storage)


def plain(path: Path) -> Path:
    """Absolute, without `..`; links stay links."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links


def package_name(content: bytes) -> str:
    """As Ray names packages: it takes whatever follows `_ray_pkg_` for the digest."""
    return f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:32]}.zip"
