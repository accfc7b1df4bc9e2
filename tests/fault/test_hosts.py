"""What the systemd units start is a real Ray with a door that is shut; a worker that is ended tells Ray, and waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysft.cluster.files.static import render
from raysft.config import load_cluster
from tests.support.own_space import NO_SPACE, SPACE, has_space

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster/static/cluster.yaml"
TOKEN = "0123456789abcdef" * 4
# Folders of the hosts, which are none of this machine's.
INSIDE = """
set -e
ip link set lo up
mount -t tmpfs tmpfs /mnt
for place in /etc /var/lib; do
  mkdir -p "/mnt/upper$place" "/mnt/work$place"
  mount -t overlay overlay -o "lowerdir=$place,upperdir=/mnt/upper$place,workdir=/mnt/work$place" "$place"
done
mkdir -p /etc/raysft /var/lib/raysft
(umask 077 && printf %s "$1" >/etc/raysft/auth_token)
shift
exec "$@"
"""


def test_units_start_a_ray_that_asks_for_its_token_and_a_worker_that_is_ended_is_drained(tmp_path: Path) -> None:
    if not has_space():
        pytest.skip(NO_SPACE)
    for name, text in render(load_cluster(FILE, ["static.head=127.0.0.1"])).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    inside = [sys.executable, "-m", "tests.support.hosts_inside", str(tmp_path)]
    space = [*SPACE[:-1], "--mount", "--"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [*space, "bash", "-c", INSIDE, "hosts", TOKEN, *inside],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["with_token"], found["without"]) == (True, 401)
    assert found["head"]["cpus"] == 0 and found["worker"]["cpus"] > 0
    assert found["worker"]["labels"]["raysft.io/market"] == "on-demand"
    # The hook of pods on Kubernetes, run where a worker sees none but its own processes, while a task ran there.
    assert found["hook"] == {"drained": True, "waited": True, "ended": 0}
