"""Files and folders are complete or not there; whatever is torn is seen; a full disk is said in words."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.errors import OutputError
from raysft.storage.commit import (
    TornFolder,
    commit_folder,
    committed_folder,
    digest_of,
    read_json,
    sha256_file,
    sweep_aside,
    verified_folder,
    write_bytes,
    write_json,
    writing,
)

FULL = Path("/dev/full")


def committed(folder: Path, facts: dict[str, Any] | None = None) -> Path:
    """A committed folder with three files, one of them empty and one below."""
    path = folder / "data"
    with committed_folder(path, facts) as aside:
        (aside / "a.bin").write_bytes(b"alpha")
        (aside / "empty.bin").write_bytes(b"")
        (aside / "below").mkdir()
        (aside / "below" / "b.bin").write_bytes(b"beta")
    return path


def test_a_committed_folder_holds_its_files_a_manifest_and_the_facts(tmp_path: Path) -> None:
    path = committed(tmp_path, {"labels": ["x"]})
    manifest = verified_folder(path)
    assert manifest["labels"] == ["x"]
    assert {name: each["bytes"] for name, each in manifest["files"].items()} == {
        "a.bin": 5,
        "empty.bin": 0,
        "below/b.bin": 4,
    }
    assert manifest["files"]["a.bin"]["sha256"] == sha256_file(path / "a.bin")
    assert [left.name for left in tmp_path.iterdir()] == ["data"]


def test_an_exception_in_the_body_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), committed_folder(tmp_path / "data") as aside:
        (aside / "a.bin").write_bytes(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_at_the_path_until_the_body_ends(tmp_path: Path) -> None:
    with committed_folder(tmp_path / "data") as aside:
        (aside / "a.bin").write_bytes(b"x")
        assert not (tmp_path / "data").exists()
    assert (tmp_path / "data" / "a.bin").exists()


def test_an_exception_keeps_the_older_folder(tmp_path: Path) -> None:
    path = committed(tmp_path)
    with pytest.raises(KeyError), committed_folder(path) as aside:
        (aside / "a.bin").write_bytes(b"new")
        raise KeyError
    assert (path / "a.bin").read_bytes() == b"alpha"
    verified_folder(path)


def test_a_newer_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    path = committed(tmp_path)
    with committed_folder(path) as aside:
        (aside / "only.bin").write_bytes(b"new")
    assert list(verified_folder(path)["files"]) == ["only.bin"]
    assert not (path / "a.bin").exists()
    assert [left.name for left in tmp_path.iterdir()] == ["data"]


def test_the_newer_folder_is_in_place_before_the_older_one_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies while removing the old folder has the new one."""
    path, seen = committed(tmp_path), []
    remove = shutil.rmtree

    def watched(folder: Path, ignore_errors: bool = False) -> None:
        seen.append(path.exists() and (path / "only.bin").exists())
        remove(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    with committed_folder(path) as aside:
        (aside / "only.bin").write_bytes(b"new")
    assert seen and all(seen)


def test_a_killed_writer_leaves_no_folder_and_its_rest_can_be_swept(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from raysft.storage.commit import committed_folder\n"
        "with committed_folder(Path(sys.argv[1])) as aside:\n"
        "    (aside / 'a.bin').write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "data")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "data").exists() and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "kept.bin").write_bytes(b"x")
    sweep_aside(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["kept.bin"]


def test_a_manifest_that_a_killed_writer_left_does_not_list_itself(tmp_path: Path) -> None:
    """Only that of the folder itself: below it the name is free."""
    aside, path = tmp_path / "aside", tmp_path / "data"
    (aside / "below").mkdir(parents=True)
    for name in ("a.bin", "manifest.json", "below/manifest.json"):
        (aside / name).write_bytes(b'{"files": {}}')
    commit_folder(aside, path)
    assert set(verified_folder(path)["files"]) == {"a.bin", "below/manifest.json"}


def test_what_does_not_belong_goes_along_and_may_be_removed(tmp_path: Path) -> None:
    aside, path = tmp_path / "aside", tmp_path / "data"
    aside.mkdir()
    for name in ("a.bin", "work.bin"):
        (aside / name).write_bytes(b"x")
    commit_folder(aside, path, belongs=lambda file: file.name != "work.bin")
    assert set(verified_folder(path)["files"]) == {"a.bin"}
    (path / "work.bin").unlink()
    verified_folder(path)


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


TEARS: dict[str, Any] = {
    "changed": lambda path: flip(path / "a.bin"),
    "changed below": lambda path: flip(path / "below" / "b.bin"),
    "truncated": lambda path: (path / "a.bin").write_bytes(b"alph"),
    "grown": lambda path: (path / "empty.bin").write_bytes(b"x"),
    "missing": lambda path: (path / "a.bin").unlink(),
    "a folder for a file": lambda path: ((path / "a.bin").unlink(), (path / "a.bin").mkdir()),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "half a manifest": lambda path: (path / "manifest.json").write_text('{"files": {"a.b'),
    "empty manifest": lambda path: (path / "manifest.json").write_bytes(b""),
    "manifest without files": lambda path: (path / "manifest.json").write_text("{}"),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[]"),
    "files of another kind": lambda path: (path / "manifest.json").write_text('{"files": [1]}'),
    "no files": lambda path: (path / "manifest.json").write_text('{"files": null}'),
    "no folder": lambda path: shutil.rmtree(path),
}


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS)
def test_a_torn_folder_is_refused(tmp_path: Path, tear: Any) -> None:
    path = committed(tmp_path)
    tear(path)
    with pytest.raises(TornFolder):
        verified_folder(path)


def test_a_torn_folder_says_which_file(tmp_path: Path) -> None:
    path = committed(tmp_path)
    flip(path / "below" / "b.bin")
    with pytest.raises(TornFolder, match=r"below/b\.bin.*differs"):
        verified_folder(path)


# --- files


def test_write_bytes_replaces_and_leaves_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [left.name for left in path.parent.iterdir()] == ["a.bin"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "disk on fire")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk on fire"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [left.name for left in tmp_path.iterdir()] == ["a.bin"]


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "ünï", "value": 1.5, "none": None})
    assert read_json(path) == {"name": "ünï", "value": 1.5, "none": None}
    assert "ünï" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})
    assert json.loads(path.read_bytes())["value"] == 1.5


# --- digests


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=5))
def test_a_digest_depends_on_the_values_not_on_their_order(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert digest_of(value) == digest_of(backwards)
    assert len(digest_of(value)) == 16
    assert digest_of({**value, "more": 1}) != digest_of({**value, "more": 2})


# --- a full disk


@pytest.mark.skipif(not FULL.is_char_device(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_in_words() -> None:
    # Opened and written only: what writes aside and renames would replace the device.
    with FULL.open("wb", buffering=0) as file, pytest.raises(OutputError, match=r"/runs/x.*No space left") as caught:  # noqa: SIM117
        with writing(Path("/runs/x")):
            file.write(b"x")
    assert "--set output=FOLDER" in caught.value.next_step


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG])
def test_what_a_person_can_mend_is_said_in_words(number: int) -> None:
    with pytest.raises(OutputError, match=os.strerror(number)), writing(Path("x")):
        raise OSError(number, os.strerror(number))


def test_what_could_not_be_touched_elsewhere_is_named(tmp_path: Path) -> None:
    """Such as a program that may not be run: freeing space in the output folder would not help."""
    with pytest.raises(OutputError, match=r"x: Permission denied \(/usr/bin/thing\)"), writing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no", "/usr/bin/thing")
    with pytest.raises(OutputError, match=r"x: Permission denied\n"), writing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no", str(tmp_path / "x" / "part"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "I/O"), FileNotFoundError(2, "gone"), ValueError("x"), OSError("?")]
)
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, writing(Path("x")):
        raise error
    assert caught.value is error


def test_libraries_that_hit_a_limit_of_the_disk_are_understood_too(tmp_path: Path) -> None:
    """safetensors raises an error of its own, pyarrow an OSError with other words: both end in OutputError."""
    code = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from safetensors.numpy import save_file
from raysft.errors import OutputError
from raysft.storage.commit import writing
folder = Path(sys.argv[1])
table = pa.table({"a": np.random.default_rng(0).integers(0, 1 << 60, 10_000)})
writers = [
    lambda: save_file({"a": np.zeros(10_000)}, folder / "a.safetensors"),
    lambda: pq.write_table(table, folder / "a.parquet"),
]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in writers:
    try:
        with writing(folder):
            write()
    except OutputError as error:
        assert "File too large" in error.message, error
        print("understood")
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["understood", "understood"], done.stderr
