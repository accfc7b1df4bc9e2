"""A process is known again by when it began, whatever the clock on the wall shows by then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from raysft.cluster import identity as module
from raysft.cluster.identity import identity, is_running

NO_PROC = not Path("/proc/self/stat").exists()
needs_proc = pytest.mark.skipif(NO_PROC, reason="the system has no /proc")


def test_this_process_is_known_and_no_other_one() -> None:
    known = identity(os.getpid())
    assert is_running(known)
    assert is_running({**known, "pid": 1}) is False
    with pytest.raises(psutil.NoSuchProcess):
        identity(2**31 - 2)


@needs_proc
def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = identity(os.getpid())
    began = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: began + 3600)
    assert is_running(known)


@needs_proc
@pytest.mark.parametrize("other", [{"ticks": 1}, {"boot": "00000000-0000-0000-0000-000000000000"}])
def test_the_same_number_on_another_day_is_another_process(other: dict[str, Any]) -> None:
    assert is_running({**identity(os.getpid()), **other}) is False


def test_without_proc_the_clock_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began = psutil.Process().create_time()
    monkeypatch.setattr(module, "PROC", tmp_path)
    known = identity(os.getpid())
    assert known == {"pid": os.getpid(), "began": began} and is_running(known)
    assert is_running({**known, "began": began - 5}) is False


@needs_proc
def test_a_name_may_hold_brackets_and_words(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep") or "", program)
    process = subprocess.Popen([program, "60"])
    try:
        while psutil.Process(process.pid).name() != program.name:  # not begun yet
            time.sleep(0.01)
        known = identity(process.pid)
        assert is_running(known) and known["ticks"] > identity(os.getppid())["ticks"]
    finally:
        process.kill()
        process.wait()
    assert is_running(known) is False


@pytest.mark.parametrize("old", [False, True])
def test_one_that_has_ended_and_was_not_looked_after_does_not_run(old: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    known = identity(process.pid)
    if old:  # as earlier versions wrote it
        known = {"pid": process.pid, "began": known["began"]}
    assert is_running(known)
    process.kill()
    deadline = time.monotonic() + 10
    while is_running(known):  # although its number is still taken
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.wait()


@pytest.mark.parametrize("known", [None, [], {}, "x", {"pid": "x", "began": 1}, {"pid": 2**31 - 2, "began": 1}])
def test_what_says_nothing_is_nothing_that_runs(known: Any) -> None:
    assert is_running(known) is False
