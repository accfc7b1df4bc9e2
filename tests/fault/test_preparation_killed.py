"""Preparation killed at any point: the same command goes on, redoes nothing that was complete, and leaves the same.
So it does when one of its child processes is killed, and then it says so in one message.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from raysft.errors import NoCapacity
from raysft.storage.commit import sha256_file
from tests.support.jobs import corpus_rows, write_base, write_csv, write_job

ROWS = 6000
SMALL_SHARDS = """
import sys
from raysft.preparation import write
write.SHARD_ROWS = 100
from raysft import pipeline
pipeline.data(sys.argv[1], [f"output={sys.argv[2]}"])
"""
# What is put before the script: the process kills itself where the last steps are.
DIE = """
import os, pathlib, signal
from raysft.preparation import build
from raysft.storage import commit
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
"""
LAST_STEPS = {
    "before the commit": DIE + "build.commit_folder = die",
    "while the manifest is written": DIE
    + "commit.write_json = lambda path, _: die(path.with_name(path.name + '.tmp-0a1b2c3d').write_text('{'))",
    "before the rename": DIE + "pathlib.Path.rename = die",
    "after the rename": DIE + "build._tidy = die",
}
TWO_CHILDREN = """
import sys
from raysft.preparation import build, write
from raysft.cli.main import run
build.MANY_ROWS = 1
build.os.sched_getaffinity = lambda _: {0, 1}
write.SHARD_ROWS = 100
sys.exit(run(["data", sys.argv[1], "--set", f"output={sys.argv[2]}"]))
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a job with 'quotes'")
    base = write_base(tmp_path_factory.mktemp("base"))
    rows = corpus_rows(ROWS)
    write_csv(folder / "more.csv", rows[ROWS // 2 :])
    data = {"train": ["rows.csv", "more.csv"], "audit": {"wrong_labels": "off"}}
    return write_job(folder, base, rows[: ROWS // 2], data=data)


@pytest.fixture(scope="module")
def undisturbed(job: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed")
    assert start(job, output).wait(120) == 0
    return contents(output)


def start(job: Path, output: Path, script: str = SMALL_SHARDS, stderr: int | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([sys.executable, "-c", script, str(job), str(output)], env=environment, stderr=stderr)


def contents(output: Path) -> dict[str, str]:
    """Everything below the one data folder, audit page included."""
    (folder,) = (each for each in (output / "data").iterdir() if each.is_dir())
    assert not folder.name.endswith(".partial")
    return {str(file.relative_to(folder)): sha256_file(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def wait_for(process: subprocess.Popen[bytes], output: Path, pattern: str) -> None:
    """Return as soon as a file of the pattern stands in the unfinished folder."""
    deadline = time.monotonic() + 120
    while not list(output.glob(f"data/*.partial/{pattern}")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.001)


def kill_when(process: subprocess.Popen[bytes], output: Path, pattern: str) -> None:
    """SIGKILL as soon as a file of the pattern stands in the unfinished folder."""
    wait_for(process, output, pattern)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def complete(output: Path) -> dict[str, int]:
    """File -> inode of what an unfinished preparation has completed."""
    done = [each.with_suffix(".arrow") for each in output.glob("data/*.partial/*/**/*.json")]
    return {str(each): each.stat().st_ino for each in done}


@pytest.mark.parametrize(
    "pattern",
    ["rows/00000.arrow.tmp-", "rows/00000.json", "corpus/open.parquet", "tokenized/open/shard-00009.json"],
    ids=["while reading", "between two files", "while deciding", "while tokenizing"],
)
def test_killed_and_resumed(job: Path, undisturbed: dict[str, str], tmp_path: Path, pattern: str) -> None:
    kill_when(start(job, tmp_path), tmp_path, pattern)
    before = complete(tmp_path)
    second = start(job, tmp_path)
    assert second.wait(120) == 0
    assert contents(tmp_path) == undisturbed
    assert not list(tmp_path.glob("data/*.partial"))
    shards = {Path(name).name: inode for name, inode in before.items() if "/tokenized/open/" in name}
    if "shard" in pattern:
        assert len(shards) >= 10, "the kill came too early to say anything"
        assert len(shards) < sum(name.startswith("tokenized/open/") for name in undisturbed), "and not too late"
    (folder,) = (each for each in (tmp_path / "data").iterdir() if each.is_dir())
    for name, inode in shards.items():
        assert (folder / "tokenized/open" / name).stat().st_ino == inode, f"{name} was made again"


@pytest.mark.parametrize("steps", LAST_STEPS.values(), ids=LAST_STEPS)
def test_killed_in_the_last_steps(job: Path, undisturbed: dict[str, str], tmp_path: Path, steps: str) -> None:
    """When all is done but the end, nothing but that is done again."""
    assert start(job, tmp_path, steps + SMALL_SHARDS).wait(120) == -signal.SIGKILL
    (left,) = (each for each in (tmp_path / "data").iterdir() if each.is_dir())
    before = {str(file.relative_to(left)): file.stat().st_ino for file in left.rglob("*.arrow")}
    assert len([name for name in before if name.startswith("tokenized/open/")]) > 10
    assert start(job, tmp_path).wait(120) == 0
    assert contents(tmp_path) == undisturbed
    (folder,) = (each for each in (tmp_path / "data").iterdir() if each.is_dir())
    after = {str(file.relative_to(folder)): file.stat().st_ino for file in folder.rglob("*.arrow")}
    assert after == {name: inode for name, inode in before.items() if name.startswith("tokenized/")}


def test_a_killed_child_is_told_in_one_message(job: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """As the kernel does it when memory runs out."""
    process = start(job, tmp_path, TWO_CHILDREN, subprocess.PIPE)
    wait_for(process, tmp_path, "tokenized/open/shard-00009.json")
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    children[0].kill()
    _, told = process.communicate(timeout=120)
    said = told.decode()
    assert process.returncode == NoCapacity.exit_code, said
    assert said.count("error:") == 1 and "Traceback" not in said and "Broken pipe" not in said
    assert "signal 9 (SIGKILL); most likely the memory ran out" in said and "taskset -c 0 raysft data" in said
    before = complete(tmp_path)
    assert start(job, tmp_path).wait(120) == 0
    assert contents(tmp_path) == undisturbed and len(before) >= 10


def test_killed_again_and_again(job: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """At moments that nobody chose: each attempt lives a little longer."""
    kills = 0
    for tenths in range(10, 400, 8):
        process = start(job, tmp_path)
        try:
            assert process.wait(tenths / 10) == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert kills > 0
    assert contents(tmp_path) == undisturbed
