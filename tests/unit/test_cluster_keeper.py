"""The keeper ends by itself where its folder is gone, and makes it never again. No Ray: what it starts is played."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# How it would start and end Ray; `does` runs while it starts.
PLAY = """
import pathlib, shutil, sys
from raysft.cluster import keeper
folder = pathlib.Path(sys.argv[1])

def start(setup, held):
    held.callback((folder.parent / "ended").touch)
    {does}

keeper._start, keeper.LOOK_S = start, 0.05
keeper.main(folder)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """That of a cluster which is to be started."""
    found = tmp_path / "mine"
    found.mkdir()
    temp = tempfile.mkdtemp(prefix="raysft-")
    (found / "keeper.json").write_text(json.dumps({"port": 8299, "temp": temp}), encoding="utf-8")
    return found


@pytest.fixture
def keepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def play(folder: Path, keepers: list[subprocess.Popen[bytes]], does: str = "pass") -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", PLAY.format(does=does), str(folder)])
    keepers.append(process)
    return process


def temp_of(folder: Path) -> Path:
    return Path(json.loads((folder / "keeper.json").read_text(encoding="utf-8"))["temp"])


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_it_says_where_it_answers_and_ends_when_asked(folder: Path, keepers: list[subprocess.Popen[bytes]]) -> None:
    process, temp = play(folder, keepers), temp_of(folder)
    wait_for(folder / "address", process)
    assert (folder / "address").read_text(encoding="utf-8") == "http://127.0.0.1:8299"
    process.terminate()
    assert process.wait(10) == 0 and (folder.parent / "ended").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["address", "keeper.json"]
    assert temp.is_dir()  # whoever asked clears it, with the folder
    temp.rmdir()


def test_it_ends_when_its_folder_is_gone(folder: Path, keepers: list[subprocess.Popen[bytes]]) -> None:
    process, temp = play(folder, keepers), temp_of(folder)
    wait_for(folder / "address", process)
    shutil.rmtree(folder)
    assert process.wait(10) == 0 and (folder.parent / "ended").exists()
    assert not folder.exists() and not temp.exists()


@pytest.mark.parametrize("fails", ["", "; raise OSError('the port is taken')"])
def test_it_says_nothing_in_a_folder_that_is_not_its_own(
    folder: Path, keepers: list[subprocess.Popen[bytes]], fails: str
) -> None:
    temp = temp_of(folder)
    process = play(folder, keepers, f"shutil.rmtree(folder); folder.mkdir(); (folder / 'keeper.json').touch(){fails}")
    assert process.wait(20) == 0 and (folder.parent / "ended").exists()
    assert [path.name for path in folder.iterdir()] == ["keeper.json"] and not temp.exists()


def test_it_does_not_make_its_folder_again(folder: Path, keepers: list[subprocess.Popen[bytes]]) -> None:
    process = play(folder, keepers, "shutil.rmtree(folder)")
    assert process.wait(20) == 0 and (folder.parent / "ended").exists()
    assert not folder.exists()


def test_what_cannot_be_is_said(folder: Path, keepers: list[subprocess.Popen[bytes]]) -> None:
    temp = temp_of(folder)
    assert play(folder, keepers, "raise OSError('the port is taken')").wait(20) == 0
    assert (folder / "failed").read_text(encoding="utf-8") == "the port is taken"
    temp.rmdir()
