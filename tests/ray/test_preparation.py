"""Preparation on Ray Data: the same bytes whoever does the work, on one node or three, and nothing is done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysft.config import load_job
from raysft.corpus import tokens
from raysft.events import Silent
from raysft.preparation import write
from raysft.preparation.build import prepare
from raysft.storage.commit import sha256_file
from raysft.storage.layout import open_output
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import corpus_rows, write_csv, write_job

pytestmark = pytest.mark.ray

NODES = """
import json, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from raysft.session import ENVIRONMENT
import os
os.environ.update(ENVIRONMENT)
from raysft.preparation import write
write.SHARD_ROWS = 50
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for _ in range(int(sys.argv[2]) - 1):
    cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
try:
    from raysft import pipeline
    found = pipeline.data(sys.argv[1], [f"output={sys.argv[3]}", "data.engine=ray"])
    print(json.dumps({"folder": found.folder, "nodes": len([n for n in ray.nodes() if n["Alive"]])}))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SHARD_ROWS", 50)
    monkeypatch.setattr(tokens, "SHARD_ROWS", 50)


@pytest.fixture
def job(tmp_path: Path, base: Path) -> Iterator[Path]:
    """Four files, so that reading is spread too."""
    rows = corpus_rows(420)
    for number in range(3):
        write_csv(tmp_path / f"more{number}.csv", rows[240 + 60 * number : 300 + 60 * number])
    yield write_job(tmp_path, base, rows[:240], data={"train": ["rows.csv", "more*.csv"]})


def contents(folder: Path) -> dict[str, str]:
    """sha256 of every file but the page, which the command draws."""
    files = [each for each in sorted(folder.rglob("*")) if each.is_file() and each.name != "audit.html"]
    return {str(file.relative_to(folder)): sha256_file(file) for file in files}


def run(job: Path, output: Path, engine: str) -> dict[str, Any]:
    loaded = load_job(job, [f"output={output}", f"data.engine={engine}"])
    base = resolve_base(loaded.config.model.base, None, loaded.folder)
    prepared = prepare(loaded, base, open_output(str(output)), Silent())
    return contents(prepared.folder.path)


def test_one_process_one_node_and_three_leave_the_same_bytes(
    cluster: None, small_shards: None, job: Path, tmp_path: Path
) -> None:
    """The three nodes are a cluster of its own, in a process of its own."""
    alone = run(job, tmp_path / "alone", "process")
    assert sum(name.startswith("tokenized/open/shard-") for name in alone) >= 6, "several shards, or nothing was spread"
    assert run(job, tmp_path / "ray", "ray") == alone
    done = subprocess.run(
        [sys.executable, "-c", NODES, str(job), "3", str(tmp_path / "nodes")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["nodes"] == 3
    assert contents(Path(told["folder"])) == alone
