"""Killed or interrupted: the same command goes on, and the model is the one it would have been."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from raysft.storage.commit import sha256_file
from tests.support.jobs import command, run_cli, write_base, write_job

EPOCHS = 12


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


def wait_for(path: Path, pattern: str, process: subprocess.Popen[bytes], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < deadline, f"no {pattern} in {path} after {seconds} s"
        time.sleep(0.02)


def end_family(family: list[psutil.Process]) -> None:
    """Wait for the processes of a killed run, and end by id what is left of them."""
    _, alive = psutil.wait_procs(family, timeout=20)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=20)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_same_command_goes_on_and_the_model_is_bit_identical(
    base: Path, whole: str, tmp_path: Path, end: signal.Signals
) -> None:
    job = write_job(tmp_path, base, train={"epochs": EPOCHS})
    run = tmp_path / "out" / "runs" / "tiny"
    process = start(job)
    wait_for(run / "checkpoints", "step-??????/manifest.json", process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(end)
    _, said = process.communicate(timeout=60)
    end_family(family)
    assert not (run / "result.json").exists(), "the run ended before it could be disturbed"
    saved = re.search(r"interrupted after step (\d+), which is saved", said.decode())
    if end != signal.SIGKILL:
        assert process.returncode == 130
        assert "same command goes on" in said.decode() and "Traceback" not in said.decode()
        assert saved
    again = run_cli("train", job, "--json")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["resumed_from"] and result["resumed_from"] > 0
    assert saved is None or result["resumed_from"] == int(saved[1])
    assert sha256_file(Path(result["artifact"]) / "model.safetensors") == whole


def test_a_killed_worker_is_replaced_and_the_model_is_bit_identical(base: Path, whole: str, tmp_path: Path) -> None:
    job = write_job(tmp_path, base, train={"epochs": EPOCHS})
    run = tmp_path / "out" / "runs" / "tiny"
    process = start(job)
    wait_for(run / "checkpoints", "step-??????/manifest.json", process)
    workers = [
        p for p in psutil.Process(process.pid).children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())
    ]
    assert len(workers) == 1
    workers[0].kill()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()
    assert sha256_file(run / "model" / "model.safetensors") == whole


def test_two_at_once_are_refused(base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, base)
    process = start(job)
    wait_for(tmp_path / "out" / "runs" / "tiny", "identity.json", process)
    family = psutil.Process(process.pid).children(recursive=True)
    second = run_cli("train", job)
    process.kill()
    process.communicate(timeout=60)
    end_family(family)
    assert second.returncode == 4
    assert "in use by another process" in second.stderr and "Traceback" not in second.stderr
