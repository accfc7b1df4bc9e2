"""What a node says of the output folder as it sees it."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from raysft.storage.lease import lease
from raysft.training import shared
from raysft.training.shared import look


def refused(*_: object, **__: object) -> object:
    raise OSError(errno.ENOTSUP, "Operation not supported")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "marker").write_text("driver")
    return tmp_path


def test_a_folder_that_is_the_drivers_is_left_as_it_was(folder: Path) -> None:
    with lease(folder / "marker", "marker"):
        assert look(str(folder), "marker") == ""
    assert [path.name for path in folder.iterdir()] == ["marker"]


def test_another_folder_of_the_same_name_is_found_out(tmp_path: Path) -> None:
    assert "sees another folder" in look(str(tmp_path), "marker")
    assert "sees another folder" in look(str(tmp_path / "missing"), "marker")


def test_a_folder_that_cannot_be_written_is_told_with_its_path() -> None:
    assert look("/proc", "version").startswith("cannot write to /proc: ")


def test_a_lock_of_the_driver_that_is_not_seen_is_told(folder: Path) -> None:
    """As over NFS with `nolock`: two runs on two machines would write one result."""
    assert look(str(folder), "marker").startswith(f"does not see the driver's lock in {folder}: ")


@pytest.mark.parametrize(
    ("where", "what", "said"),
    [(Path, "rename", "cannot rename a folder in"), (fcntl, "flock", "cannot lock a file in")],
)
def test_what_a_mounted_bucket_cannot_do_is_told(
    folder: Path, where: object, what: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused here as mounts of buckets refuse it; checkpoints need the first, a run's lease the second."""
    monkeypatch.setattr(where, what, refused)
    assert look(str(folder), "marker") == f"{said} {folder}: Operation not supported"
    assert [path.name for path in folder.iterdir()] == ["marker"]


def test_a_file_that_cannot_be_appended_to_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def only_whole(path: Path, mode: str = "r", *more: object, **named: object) -> object:
        return refused() if "a" in mode else opened(path, mode, *more, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", only_whole)
    assert look(str(folder), "marker") == f"cannot append to a file in {folder}: Operation not supported"


def test_a_file_that_cannot_be_deleted_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on storage that keeps what was written."""
    monkeypatch.setattr(Path, "unlink", refused)
    assert look(str(folder), "marker") == f"cannot delete a file in {folder}: Operation not supported"


def test_the_driver_holds_its_lock_while_the_nodes_look_and_leaves_nothing(tmp_path: Path) -> None:
    with shared._marked(tmp_path / "out") as marker:
        assert look(str(tmp_path / "out"), marker) == ""
        (tmp_path / "out" / f"{marker}-of-a-node-that-died").mkdir()
    assert list((tmp_path / "out").iterdir()) == []
