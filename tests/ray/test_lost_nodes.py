"""Two workers on a real Ray go on when a node is lost, and when one is about to be: no step of theirs is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysft import pipeline
from raysft.storage.commit import read_json, sha256_file
from tests.support.jobs import corpus_rows, write_job
from tests.support.nodes import run_on_nodes

pytestmark = pytest.mark.ray
MOVED = re.compile(r"a node is about to be taken away: step (\d+) is saved")
# At rates where the loss jumps (5e-3) any two roundings part for good.
SETTINGS = {"epochs": 60, "learning_rate": 5e-4, "head_learning_rate": 1e-3}


def job_in(folder: Path, base: Path, workers: Any) -> Path:
    return write_job(folder, base, corpus_rows(240), train={**SETTINGS, "workers": workers})


@pytest.fixture(scope="module")
def whole(cluster: None, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two workers that nothing disturbed."""
    return Path(pipeline.train(job_in(tmp_path_factory.mktemp("whole"), base, 2)).artifact).parent


def test_a_lost_node_costs_a_worker_and_not_the_run(whole: Path, base: Path, tmp_path: Path) -> None:
    """One worker after a node is gone, and the losses are those of two.

    Sums of two workers in another order differ by some 1e-7, which 400 steps at these small rates make 3e-6 (measured).
    """
    job, run = job_in(tmp_path, base, {"min": 1, "max": 2}), tmp_path / "out" / "runs" / "tiny"
    run_on_nodes("tests.ray.elastic", job, run / "checkpoints")
    assert read_json(run / "result.json")["resumed_from"]  # the node was there at the beginning
    np.testing.assert_allclose(losses(run), losses(whole), rtol=0, atol=1e-4)


def losses(run: Path) -> list[Any]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_a_drained_node_is_left_with_the_step_saved(whole: Path, base: Path, tmp_path: Path) -> None:
    """Both ranks hear of it at the same step, though one node of two is drained. They start again on the other two
    from there, and the weights are to the bit those of a run that nothing disturbed. Before they begin, the nodes are
    asked whether they share the driver's folder."""
    job, run = job_in(tmp_path, base, 2), tmp_path / "out" / "runs" / "tiny"
    said = json.loads(run_on_nodes("tests.ray.preemption", job, run / "checkpoints").splitlines()[-1])
    moved = [found for text in said["notes"] if (found := MOVED.match(text))]
    assert len(moved) == 1
    assert read_json(run / "result.json")["resumed_from"] == int(moved[0][1])
    assert sha256_file(run / "model" / "model.safetensors") == sha256_file(whole / "model" / "model.safetensors")
    assert "sees another folder at /proc/self/cwd/unshared than the driver" in said["elsewhere"]
    assert "storage that all nodes share" in said["elsewhere"]
