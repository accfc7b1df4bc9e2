"""Killed or interrupted, again and again: the same command goes on, and the model is the one it would have been."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from raysft.storage.commit import sha256_file
from tests.support.jobs import command, run_cli, write_base, write_job

EPOCHS = 60  # each leaves a checkpoint; what is signalled takes half a second, which may be ten of them


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """sha256 of the model of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_cli("train", write_job(folder, base, train={"epochs": EPOCHS}), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["resumed_from"] is None
    return sha256_file(Path(result["artifact"]) / "model.safetensors")


def start(job: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command("train", job),
        env=environment,
        start_new_session=True,
        # Where the tests run in the background SIGINT is ignored, and that is inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < deadline, f"not reached after {seconds} s"
        time.sleep(0.02)


def newest(run: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    whole = (path.parent.name for path in run.glob("checkpoints/step-??????/manifest.json"))
    return max((int(name.removeprefix("step-")) for name in whole), default=0)


def end_family(family: list[psutil.Process]) -> None:
    """Wait for the processes of a killed run, and end by id what is left of them."""
    _, alive = psutil.wait_procs(family, timeout=20)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=20)


def refuse_another(job: Path) -> None:
    """A second command at the same time."""
    second = run_cli("train", job)
    assert second.returncode == 4
    assert "in use by another process" in second.stderr and "Traceback" not in second.stderr


def kill_worker(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    workers = [each for each in family if "RayTrainWorker" in " ".join(each.cmdline())]
    assert len(workers) == 1
    workers[0].kill()


def disturb(run: Path, process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    """Once it is further than before it gets the signal, and ends; where it can it saves its step and says so."""
    before = newest(run)
    wait_until(lambda: newest(run) > before, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(end)
    _, told = process.communicate(timeout=60)
    end_family(family)
    assert not (run / "result.json").exists(), "the run ended before it could be disturbed"
    if end != signal.SIGKILL:
        said = told.decode()
        assert process.returncode == 130
        assert "same command goes on" in said and "Traceback" not in said
        saved = re.search(r"interrupted after step (\d+), which is saved", said)
        assert saved and int(saved[1]) == newest(run)


def test_the_same_command_goes_on_and_the_model_is_bit_identical(base: Path, whole: str, tmp_path: Path) -> None:
    """A worker is killed, which is replaced, then the command; the next two are interrupted; the last one ends."""
    job = write_job(tmp_path, base, train={"epochs": EPOCHS})
    run = tmp_path / "out" / "runs" / "tiny"
    process = start(job)
    wait_until((run / "identity.json").exists, process)
    refuse_another(job)
    wait_until(lambda: newest(run) > 0, process)
    kill_worker(process)
    disturb(run, process, signal.SIGKILL)
    for end in (signal.SIGINT, signal.SIGTERM):
        disturb(run, start(job), end)
    step = newest(run)
    done = run_cli("train", job, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["resumed_from"] == step
    assert sha256_file(Path(result["artifact"]) / "model.safetensors") == whole
