"""A batch job of Slurm with a real Ray: stopped before its time is over, it keeps its checkpoint and is queued again.

Slurm itself is played by two scripts. `ray symmetric-run` ends with `ray stop`, which ends every Ray that it can see,
so that all of it runs in a space of its own, where it sees none but itself: its own processes, its own ports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from raysft.cluster.files.slurm import render
from raysft.config import load_cluster
from tests.support.jobs import write_base, write_job
from tests.support.own_space import NO_SPACE, SPACE, has_space

FAKES = Path(__file__).parents[1] / "support/slurm"
SECONDS = 240


def start(folder: Path, fakes: str, nodes: int, *arguments: str | Path) -> subprocess.Popen[str]:
    """A batch job in a space of its own; its storage is `folder`, and what it says is in the file `log` there."""
    cluster = folder / "cluster.yaml"
    pools = f"[{{name: node, cpus: 2, memory: 4, most: {nodes}}}]"
    cluster.write_text(f"name: one\nstorage: {folder}\npools: {pools}\nslurm: {{hours: 1}}\n", encoding="utf-8")
    script = folder / "job.sbatch"
    script.write_text(render(load_cluster(cluster))["job.sbatch"], encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{fakes}{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FAKE_SLURM": str(folder),
        "HF_HUB_OFFLINE": "1",
        "RAYSFT_HEAD": "10.9.0.1",
        "SLURM_JOB_ID": f"f{os.getpid()}",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_CPUS_ON_NODE": "2",
    }
    inside = 'ip link set lo up && exec bash "$@"'
    return subprocess.Popen(
        [*SPACE, "bash", "-c", inside, "run", script, *arguments],
        env=environment,
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(runs: Path, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not list(runs.glob("*/checkpoints/step-*")):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def test_a_run_is_stopped_before_its_time_is_over_and_queued_again(tmp_path: Path) -> None:
    if not has_space():
        pytest.skip(NO_SPACE)
    log = tmp_path / "log"
    job = write_job(tmp_path, write_base(tmp_path / "base"), train={"epochs": 500})
    process = start(tmp_path, f"{FAKES}:", 1, "train", job, "--json")
    try:
        wait_for_step(tmp_path / "out/runs", process, log)
        (script,) = psutil.Process(process.pid).children()
        family = script.children(recursive=True)
        assert any("raylet" in child.name() for child in family)
        script.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=SECONDS) == 130, log.read_text(encoding="utf-8")
    finally:
        process.kill()  # and with it all that runs in its space
        process.wait()
    assert (tmp_path / "asked").read_text(encoding="utf-8") == f"requeue f{os.getpid()}\n"
    assert list((tmp_path / "out/runs").glob("*/checkpoints/step-*/manifest.json"))
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not Path(f"/tmp/rf{os.getpid()}").exists()
    assert not list(tmp_path.glob(".slurm-*/*"))


def test_two_nodes_work_together_and_end_together() -> None:
    if not has_space():
        pytest.skip(NO_SPACE)
    # Not below /tmp, of which the second node has one of its own.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        process = start(folder, f"{FAKES}/two:{FAKES}:", 2, "train")
        try:
            code = process.wait(timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
        log = (folder / "log").read_text(encoding="utf-8")
        assert code == 100, log
        found = json.loads((folder / "found").read_text(encoding="utf-8"))
        assert found["nodes"] == [["10.9.0.1", "node"], ["10.9.0.2", "node"]]
        assert set(found["worked"]) == {"10.9.0.1", "10.9.0.2"}
        assert (folder / "second.code").read_text(encoding="utf-8") == "0\n"
        assert not list(folder.glob(".slurm-*/*"))
