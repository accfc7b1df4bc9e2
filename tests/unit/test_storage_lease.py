"""One writer at a time: a second is refused, and a dead one holds nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raysft.errors import NotAllowed
from raysft.storage.lease import lease

HOLD = """
import sys, time
from pathlib import Path
from raysft.storage.lease import lease
with lease(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(lock: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock for so long."""
    arguments = [sys.executable, "-c", HOLD, str(lock), str(seconds)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_holder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    lock = tmp_path / "runs" / ".lock"
    with holder(lock, 60), pytest.raises(NotAllowed, match="run x is in use") as caught, lease(lock, "run x"):
        pytest.fail("both hold it")
    assert "--set name=NAME" in caught.value.next_step


def test_the_lock_is_free_as_soon_as_its_holder_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with holder(lock, 60) as process:
        process.kill()
        assert process.wait() == -9
        with lease(lock, "it"):
            pass


def test_waiting_gets_the_lock_of_a_holder_that_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with holder(lock, 0.3), lease(lock, "it", wait_s=20):
        pass


def test_waiting_ends(tmp_path: Path) -> None:
    lock, started = tmp_path / ".lock", time.monotonic()
    with holder(lock, 60), pytest.raises(NotAllowed), lease(lock, "it", wait_s=0.5):
        pytest.fail("both hold it")
    assert 0.5 <= time.monotonic() - started < 20


def test_the_lock_is_free_after_an_exception(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with pytest.raises(KeyError), lease(lock, "it"):
        raise KeyError
    with lease(lock, "it"):
        pass
