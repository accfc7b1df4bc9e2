"""The hook that runs before a pod of workers is ended: Ray is told, and the work there comes to its end.

With a real Ray it is run in tests/fault/test_hosts.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysft.cluster.files.kubernetes_pods import DRAIN

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "bash", "-c"]


def test_the_hook_that_drains_a_pod_is_a_script_without_fault(tmp_path: Path) -> None:
    script = tmp_path / "drain.sh"
    script.write_text(f"#!/bin/bash\n{DRAIN}", encoding="utf-8")
    done = subprocess.run([SHELLCHECK, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def run(folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """The hook in a space of its own, with a program in place of Ray's that writes down what it is told.

    before: commands that start what is in sight there.
    """
    ray = folder / "ray"
    ray.write_text(f'#!/bin/bash\necho "$@" >>"{folder}/told"\n', encoding="utf-8")
    ray.chmod(0o755)
    script = "\n".join([f'PATH="{folder}:$PATH" RAY_ADDRESS=head:6379', "export RAY_ADDRESS", *before, DRAIN])
    done = subprocess.run([*SPACE, script], capture_output=True, text=True, check=False, timeout=30)
    if re.search("unshare.*(not permitted|failed)", done.stderr):
        pytest.skip("this machine gives no process a space of its own")
    return done


def told(folder: Path) -> list[str]:
    return (folder / "told").read_text(encoding="utf-8").splitlines() if (folder / "told").exists() else []


RAYLET = "bash -c 'sleep 60; :' --node_id=0a1b &"
AGENTS = "for name in IDLE IDLE_SpillWorker DashboardAgent RuntimeEnvAgent; do (exec -a ray::$name sleep 60) & done"


def test_the_hook_ends_at_once_where_no_ray_runs(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and told(tmp_path) == []


def test_a_pod_without_work_is_drained_and_waits_for_nothing(tmp_path: Path) -> None:
    """Processes that every node of Ray has are no work."""
    began = time.monotonic()
    done = run(tmp_path, RAYLET, AGENTS, "sleep 0.2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 10
    (line,) = told(tmp_path)
    assert line.startswith("drain-node --address head:6379 --node-id 0a1b --reason DRAIN_NODE_REASON_PREEMPTION")


def test_a_pod_with_work_waits_for_it(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(tmp_path, RAYLET, AGENTS, "(exec -a ray::train sleep 3) & sleep 0.2")
    assert (done.returncode, len(told(tmp_path))) == (0, 1), done.stderr
    assert 3 <= time.monotonic() - began < 15
