"""Every other task on a GPU, packed answers and labels as words among them: what is trained there is scored alike on
the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysft.storage.pretrained import Base
from tests.ray.test_tasks import CASES, Case
from tests.support.jobs import corpus_rows, run_cli, write_job
from tests.support.tagged import write_tagged

pytest.importorskip("ray")
ON_GPU = {"precision": "auto", "device": "gpu"}
WORDS: dict[str, Any] = {
    "model": {"max_length": 48, "labels": "words", "init": {"layers": 2, "hidden": 48, "heads": 2, "vocabulary": 400}},
    "train": {"epochs": 20, "learning_rate": 2e-3, **ON_GPU},
}


@pytest.mark.parametrize("case", CASES, ids=[case.task for case in CASES])
@pytest.mark.parametrize("packing", [False, True])
def test_a_task_is_learnt(base: Base, tmp_path: Path, case: Case, packing: bool) -> None:
    if packing and case.task != "generation":
        pytest.skip("only answers are packed")
    write_tagged(tmp_path / case.file, case.rows)
    sections = dict(case.sections)
    sections["train"] = {**sections.get("train", {}), **ON_GPU, **({"packing": True} if packing else {})}
    job = write_job(tmp_path, base.folder, **sections)
    found = trained_on_a_gpu(job)[case.measure]["value"]
    assert found > case.least
    assert scored_on_a_cpu(job)[case.measure]["value"] == pytest.approx(found, abs=0.05)


def test_labels_as_words(base: Base, tmp_path: Path) -> None:
    job = write_job(tmp_path, base.folder, corpus_rows(240), **WORDS)
    found = trained_on_a_gpu(job)
    again = scored_on_a_cpu(job)
    assert found["f1_macro"]["value"] > 0.5
    assert again["loss"]["value"] == pytest.approx(found["loss"]["value"], rel=1e-3)


def trained_on_a_gpu(job: Path) -> dict[str, Any]:
    """Scores on the test part."""
    done = run_cli("train", job, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["training"]["device"].startswith("cuda")
    return dict(result["metrics"]["test"])


def scored_on_a_cpu(job: Path) -> dict[str, Any]:
    done = run_cli("evaluate", job, "--json", hidden_gpus=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["test"]["metrics"])
