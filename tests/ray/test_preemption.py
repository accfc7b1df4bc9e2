"""A node that is about to be taken away costs a run no step, and none of the failures that it may have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from raysft import pipeline
from raysft.storage.commit import read_json, sha256_file
from tests.support.jobs import corpus_rows, write_job
from tests.support.nodes import run_on_nodes

pytestmark = pytest.mark.ray
MOVED = re.compile(r"a node is about to be taken away: step (\d+) is saved")


def test_a_drained_node_is_left_with_the_step_saved(cluster: None, tmp_path: Path, base: Path) -> None:
    """Both ranks hear of it at the same step, though one node of two is drained. They start again on the other two
    from there, and the weights are to the bit those of a run that nothing disturbed. Before they begin, the nodes are
    asked whether they share the driver's folder."""
    rows, settings = corpus_rows(240), {"epochs": 60, "workers": 2}
    whole = pipeline.train(write_job(tmp_path / "whole", base, rows, train=settings))
    job = write_job(tmp_path / "moved", base, rows, train=settings)
    run = tmp_path / "moved" / "out" / "runs" / "tiny"
    said = json.loads(run_on_nodes("tests.ray.preemption", job, run / "checkpoints").splitlines()[-1])
    moved = [found for text in said["notes"] if (found := MOVED.match(text))]
    assert len(moved) == 1
    assert read_json(run / "result.json")["resumed_from"] == int(moved[0][1])
    assert sha256_file(run / "model" / "model.safetensors") == sha256_file(Path(whole.artifact) / "model.safetensors")
    assert "sees another folder at /proc/self/cwd/unshared than the driver" in said["elsewhere"]
    assert "storage that all nodes share" in said["elsewhere"]
