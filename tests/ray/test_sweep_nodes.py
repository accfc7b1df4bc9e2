"""A sweep on several nodes, one of which is lost: the numbers are those of a sweep on one."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft import pipeline
from raysft.tuning.outcome import SweepResult
from tests.support.jobs import corpus_rows, write_job
from tests.support.nodes import run_on_nodes

pytestmark = pytest.mark.ray
SWEEP = {
    "folds": {"k": 3},
    "train": {"epochs": 4, "device": "cpu"},
    "tune": {"search": {"train.learning_rate": [1e-3, 5e-3, 2e-2]}, "racing": False, "early": False, "refit": False},
}


def test_a_lost_node_costs_time_and_no_number(cluster: None, tmp_path: Path, base: Path) -> None:
    alone = pipeline.tune(write_job(tmp_path / "alone", base, corpus_rows(120), **SWEEP))
    job = write_job(tmp_path / "spread", base, corpus_rows(120), **SWEEP)
    folder = tmp_path / "spread" / "out" / "sweeps" / "tiny"
    printed = run_on_nodes("tests.ray.spread_sweep", job, folder / "folds")
    assert "alive 3" in printed, "the node was not lost while the sweep ran"
    spread = SweepResult.read(folder / "result.json")
    assert [row["by_fold"] for row in spread.trials] == [row["by_fold"] for row in alone.trials]
    assert spread.chosen["trial"] == alone.chosen["trial"] and spread.chosen["ahead"] == alone.chosen["ahead"]
