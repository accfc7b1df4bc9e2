"""Child processes that share items: in order, errors come back, none outlives its parent, a death is told in words."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from raysft.errors import NoCapacity, RaysftError
from raysft.preparation import build, write
from raysft.preparation.processes import each_in_processes
from raysft.storage.commit import sha256_file
from tests.support.jobs import corpus_rows
from tests.support.preparing import job_of, run

ROOT = Path(__file__).parents[2]
PARENT = """
import sys
from raysft.preparation.processes import each_in_processes
from tests.unit.test_preparation_processes import Square
for found in each_in_processes(Square(sleep_s=8.0), range(4), 2):
    pass
"""


# As in a terminal, where Ctrl-C reaches all; a background job of a shell is started with it ignored.
INTERRUPTED = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("begun", flush=True)
    exec({PARENT!r})
except KeyboardInterrupt:
    print("interrupted")
"""
ELSEWHERE = """
import sys, uuid
sys.path.insert(0, sys.argv[1])
from raysft.child import where
from raysft.preparation.processes import each_in_processes
print(*[found["file"] for found in each_in_processes(where, [0], 1)])
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


@dataclass(frozen=True)
class Dies:
    """Ends its own process at the item 5: by this signal, or with this exit code."""

    by: int = 0
    code: int = 0

    def __call__(self, item: int) -> dict[str, Any]:
        if item == 5:
            signal.raise_signal(self.by) if self.by else os._exit(self.code)
        return {"item": item}


class Greedy:
    def __call__(self, item: int) -> dict[str, Any]:
        raise MemoryError("Unable to allocate 9. EiB")


class DiesAtOnce:
    """Kills the process that unpickles it, and so before that has taken an item."""

    def __call__(self, item: Any) -> dict[str, Any]:
        raise AssertionError(f"nobody is left to take {item!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGKILL,)


@pytest.fixture(autouse=True)
def children_find_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child imports nothing from where it was started."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def left() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "raysft.preparation.processes" in child.cmdline()]


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
    assert not left()


def test_children_end_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while len(children := psutil.Process(parent.pid).children()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


@pytest.mark.parametrize(
    ("by", "name"), [(signal.SIGKILL, r"9 \(SIGKILL\)"), (signal.SIGABRT, r"6 \(SIGABRT\)")], ids=["killed", "gave up"]
)
def test_a_child_that_memory_ended_is_told_in_words(by: int, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[dict[str, Any]] = []
    with pytest.raises(NoCapacity, match=rf"was ended by signal {name}; most likely the memory ran out\n") as caught:
        seen.extend(each_in_processes(Dies(by), range(200), 2))
    assert [each["item"] for each in seen] == list(range(5))
    assert "taskset -c 0 raysft data" in caught.value.next_step and "the same command" in caught.value.next_step
    assert not left() and "Traceback" not in capfd.readouterr().err


def test_memory_that_ends_as_an_error_is_told_alike() -> None:
    with pytest.raises(NoCapacity, match="the memory ran out") as caught:
        list(each_in_processes(Greedy(), range(3), 2))
    assert "taskset -c 0 raysft data" in caught.value.next_step and not left()


def test_ctrl_c_is_told_by_the_parent_alone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        deadline = time.monotonic() + 60
        while len(psutil.Process(parent.pid).children()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(parent.pid, signal.SIGINT)
        out, err = parent.communicate(timeout=60)
    assert out.split() == ["begun", "interrupted"] and "Traceback" not in err


@pytest.mark.parametrize(
    ("work", "text"),
    [(Dies(signal.SIGTERM), r"signal 15 \(SIGTERM\)"), (Dies(40), "signal 40"), (Dies(code=3), "exit code 3")],
    ids=["ended", "signal without a name", "exit"],
)
def test_other_deaths_are_not_put_down_to_memory(work: Dies, text: str) -> None:
    with pytest.raises(RaysftError, match=text) as caught:
        list(each_in_processes(work, range(9), 2))
    assert type(caught.value) is RaysftError and "memory" not in str(caught.value) and not left()


@pytest.mark.parametrize("bytes_of_item", [1, 2**22], ids=["fits the pipe", "does not"])
def test_a_child_that_dies_before_it_takes_an_item_breaks_no_pipe(bytes_of_item: int) -> None:
    with pytest.raises(NoCapacity, match="SIGKILL"):
        list(each_in_processes(DiesAtOnce(), [b"x" * bytes_of_item] * 9, 2))
    assert not left()


def test_files_where_the_command_is_typed_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("queue", "json", "pickle"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user')\n")
    monkeypatch.chdir(tmp_path)
    assert [each["square"] for each in each_in_processes(Square(), range(4), 2)] == [0, 1, 4, 9]


def test_a_child_has_the_raysft_of_its_parent_and_nothing_of_what_lies_beside_it(tmp_path: Path) -> None:
    """Where it is installed many things do, of which some are called as modules of Python are."""
    shutil.copytree(ROOT / "raysft", tmp_path / "raysft", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "raysft" / "child.py").open("a") as file:
        file.write("\n\ndef where(item):\n    import uuid\n    return {'file': __file__}\n")
    (tmp_path / "uuid.py").write_text("raise SystemExit('a backport')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", ELSEWHERE, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.strip() == str(tmp_path / "raysft" / "child.py"), ended.stderr


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
