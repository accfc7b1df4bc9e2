"""Child processes that share items: in order, errors come back, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from raysft.preparation import build, write
from raysft.preparation.processes import each_in_processes
from raysft.storage.commit import sha256_file
from tests.support.jobs import corpus_rows
from tests.support.preparing import job_of, run

PARENT = """
import sys
from raysft.preparation.processes import each_in_processes
from tests.unit.test_preparation_processes import Square
for found in each_in_processes(Square(sleep_s=30.0), range(4), 2):
    pass
"""


@dataclass(frozen=True)
class Square:
    """Slower for small numbers, so that answers come in another order."""

    sleep_s: float = 0.0

    def __call__(self, item: int) -> dict[str, Any]:
        print("what a library prints")
        if item < 0:
            raise ValueError(f"{item} is negative")
        time.sleep(self.sleep_s or 0.02 / (item + 1))
        return {"square": item * item, "pid": os.getpid()}


def test_answers_come_in_the_order_of_the_items_from_several_processes() -> None:
    found = list(each_in_processes(Square(), range(20), 2))
    assert [each["square"] for each in found] == [item * item for item in range(20)]
    pids = {each["pid"] for each in found}
    assert len(pids) == 2 and os.getpid() not in pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_an_error_of_a_child_is_raised_here_and_ends_all() -> None:
    seen: list[dict[str, Any]] = []
    with pytest.raises(ValueError, match="-1 is negative"):
        seen.extend(each_in_processes(Square(), [1, 2, -1, *range(50)], 2))
    assert not [child for child in psutil.Process().children() if "raysft.preparation.processes" in child.cmdline()]


def test_children_end_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 60
        while len(children := psutil.Process(parent.pid).children()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, left = psutil.wait_procs(children, timeout=60)
    assert not left


def test_the_bytes_are_those_of_one_process(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SHARD_ROWS", 20)
    rows = corpus_rows(90)
    alone = run(job_of(tmp_path / "alone", base_folder, rows))
    monkeypatch.setattr(build, "MANY_ROWS", 1)
    shared = run(job_of(tmp_path / "shared", base_folder, rows))
    shards = sorted((alone.folder.path / "tokenized").rglob("*.arrow"))
    assert len(shards) > 3
    for file in shards:
        assert sha256_file(file) == sha256_file(shared.folder.path / file.relative_to(alone.folder.path))
