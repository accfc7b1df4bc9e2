"""Where a path leads: to this machine or into a bucket."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from raysft.reading.buckets import Remote, remote
from raysft.reading.trouble import trouble
from raysft.storage.commit import sha256_file
from raysft.storage.layout import home_path

HF_STATE, HF_SPLITS = "state.json", "dataset_dict.json"  # what makes a folder one of the `datasets` library


@dataclass(frozen=True)
class Local:
    """A path on this machine."""

    path: str

    @property
    def shown(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        return Path(self.path).name

    def child(self, name: str) -> Local:
        """A file in this folder."""
        return Local(str(Path(self.path) / name))

    def kind(self) -> str:
        """`file`, `folder` or `nothing`. Raises NotAllowed."""
        try:
            mode = Path(self.path).stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return "nothing"
        except OSError as error:
            raise trouble(self.path, error) from None
        return "folder" if mode & 0o170000 == 0o040000 else "file"

    def size(self) -> int:
        """Bytes as stored."""
        try:
            return Path(self.path).stat().st_size
        except OSError as error:
            raise trouble(self.path, error) from None

    def identity(self) -> str:
        """sha256 of the content."""
        try:
            return sha256_file(Path(self.path))
        except OSError as error:
            raise trouble(self.path, error) from None

    def open(self) -> BinaryIO:
        """The bytes, which can be sought. Raises NotFound, NotAllowed."""
        try:
            return Path(self.path).open("rb", buffering=0)
        except OSError as error:
            raise trouble(self.path, error) from None

    def nearby(self) -> list[str]:
        """Names of the files in the folder of this path."""
        folder = Path(self.path).parent
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


Place = Local | Remote


def is_uri(path: str) -> bool:
    """Whether a path as written names a storage service; file:// is this machine."""
    scheme, found, _ = path.partition("://")
    return bool(found) and scheme.isalnum() and scheme.lower() != "file"


def place(path: str) -> Place:
    """The place that a full path or URI names. Raises DataError, NotFound, NotAllowed for a URI that cannot be used."""
    return remote(path) if is_uri(path) else Local(path)


def full_path(written: str, folder: Path) -> str:
    """A local path as people write it, relative to `folder`; `~` stands for the home folder."""
    return str(folder / _local(written))


def local_matches(pattern: str, folder: Path) -> list[Place]:
    """The files and saved datasets of a pattern as people write it, sorted, hidden ones left out.

    `folder` itself is no pattern.
    """
    try:
        names = sorted(glob.glob(str(_local(pattern)), root_dir=folder, recursive=True))  # noqa: PTH207
    except ValueError:  # no path holds a NUL
        return []
    found = [Local(str(folder / name)) for name in names]
    return [each for each in found if each.kind() == "file" or each.child(HF_STATE).kind() == "file"]


def _local(written: str) -> Path:
    """A path without what stands for something else in it: file:// and `~`."""
    if written.lower().startswith("file://"):
        written = unquote(written[len("file://") :])
    return home_path(written)
