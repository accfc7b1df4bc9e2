"""Of the benchmark scripts the one that needs Ray: a sweep at a size that takes seconds. No figure is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.benchmarks import run, run_here, table
from tests.support.jobs import corpus_rows

pytestmark = pytest.mark.ray


def test_peers_sweep_the_folds_of_raysft(base: Path, tmp_path: Path) -> None:
    """Both configurations train both folds; the lines of the folds and the table from the kept logs say so."""
    for part, rows in (("train_5", corpus_rows(40)), ("test", corpus_rows(20, 1))):
        folder = tmp_path / part
        folder.mkdir()
        for name, key in (("seq.in", "text"), ("label", "label")):
            (folder / name).write_text("".join(f"{row[key]}\n" for row in rows), encoding="utf-8")
    few = ("--epochs", 1, "--folds", 2, "--configurations", 2, 1, "--longest", 60, "--base", base)
    logs = tmp_path / "logs"
    (found,) = table(run("sweep.py", "--data", tmp_path, "--logs", logs, "--only", "trainer", *few))
    assert found["engine"] == "trainer" and found["folds"] == "4" and found["ratio"] == "-"
    lines = [json.loads(line) for line in (logs / "trainer" / "folds.jsonl").read_text().splitlines()]
    assert sorted((line["learning_rate"], line["fold"]) for line in lines) == [
        (rate, fold) for rate in (1e-5, 4e-5) for fold in (0, 1)
    ]
    assert table(run_here("sweep.py", "--table", logs)) == [found]
