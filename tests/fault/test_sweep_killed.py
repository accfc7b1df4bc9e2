"""A sweep that is killed, interrupted or loses a process goes on, and no fold is trained twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fault.test_interruption import end_family
from tests.support.jobs import command, corpus_rows, run_cli, write_base, write_job

SWEEP: dict[str, Any] = {
    "folds": {"k": 3},
    "train": {"epochs": 3, "device": "cpu"},
    "tune": {
        "search": {"train.learning_rate": [1e-3, 2e-3, 5e-3, 1e-2]},
        "racing": False,
        "early": False,
        "refit": False,
    },
}
FOLDS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The scores of a sweep that nothing disturbed."""
    job = write_job(tmp_path_factory.mktemp("whole"), base, corpus_rows(120), **SWEEP)
    done = run_cli("tune", job, "--json")
    assert done.returncode == 0, done.stderr
    return scores(json.loads(done.stdout))


def scores(result: dict[str, Any]) -> list[Any]:
    return [(row["trial"], row["by_fold"]) for row in result["trials"]]


def start(job: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("tune", job, "--json"),
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
        # Where the tests run in the background SIGINT is ignored, and that is inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_folds(folder: Path, count: int, process: subprocess.Popen[bytes]) -> list[Path]:
    deadline = time.monotonic() + 180
    while len(found := sorted(folder.rglob("fold.json"))) < count:
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_same_command_goes_on_with_the_folds_that_are_left(base: Path, whole: list[Any], tmp_path: Path) -> None:
    """It is killed, then interrupted; then one of its processes dies, which is replaced, and it ends."""
    job = write_job(tmp_path, base, corpus_rows(120), **SWEEP)
    folder, done = tmp_path / "out" / "sweeps" / "tiny", dict[Path, int]()
    for end in (signal.SIGKILL, signal.SIGINT):
        process = start(job)
        wait_for_folds(folder, len(done) + 1, process)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(end)
        _, said = process.communicate(timeout=60)
        end_family(family)
        require_unchanged(done)
        done = {path: path.stat().st_mtime_ns for path in folder.rglob("fold.json")}
        assert not (folder / "result.json").exists() and len(done) < FOLDS, "it ended before it could be disturbed"
        if end == signal.SIGINT:
            assert process.returncode == 130 and "same command goes on" in said.decode()
    process = start(job)
    wait_for_folds(folder, len(done) + 1, process)
    kill_trial(process)
    printed, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()
    assert f"{len(done)} folds were done before" in said.decode()
    require_unchanged(done)
    assert scores(json.loads(printed)) == whole
    assert not (folder / ".ray").exists()


def require_unchanged(done: dict[Path, int]) -> None:
    """No fold was trained again."""
    assert {path: path.stat().st_mtime_ns for path in done} == done


def kill_trial(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    # An actor of Ray is called by its class, and while it works by the method that it runs.
    trials = [p for p in family if p.cmdline()[:1] and p.cmdline()[0].startswith(("ray::OneFold", "ray::ResourceTr"))]
    assert trials, [p.cmdline()[:1] for p in family]
    trials[0].kill()
