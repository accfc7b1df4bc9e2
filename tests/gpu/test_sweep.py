"""A sweep on one GPU: several folds share it, and frozen layers are computed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysft.storage.pretrained import Base
from tests.support.jobs import corpus_rows, run_cli, write_job

pytest.importorskip("ray")


def sweep(folder: Path, base: Base, **sections: Any) -> tuple[dict[str, Any], str]:
    tune = {"search": {"train.learning_rate": [1e-3, 5e-3]}, "racing": False, "early": False, "refit": False}
    train = {"epochs": 3, "precision": "fp32", "device": "gpu"}
    job = write_job(
        folder, base.folder, corpus_rows(160), **{"folds": {"k": 4}, "train": train, "tune": tune, **sections}
    )
    done = run_cli("tune", job, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_several_folds_share_a_gpu(base: Base, tmp_path: Path) -> None:
    result, said = sweep(tmp_path, base)
    assert "4 folds at a time, 0.25 GPU each" in said
    assert [row["folds_done"] for row in result["trials"]] == [4, 4]
    rows = {row["out_of_fold"]["loss"]["n"] for row in result["trials"]}
    assert len(rows) == 1 and all(row["curves"]["loss"][-1] < row["curves"]["loss"][0] for row in result["trials"])


def test_frozen_layers_are_computed_once_with_the_same_result(base: Base, tmp_path: Path) -> None:
    """The same trainings, one fold by `train`, which computes them each time."""
    frozen = {"model": {"freeze": {"embeddings": True, "layers": 1}, "dropout": 0.0}}
    result, _ = sweep(tmp_path, base, **frozen)
    job, settings = tmp_path / "job.yaml", result["trials"][0]["settings"]
    overrides = [f"{key}={value}" for key, value in settings.items()] + ["name=alone", "folds.validation=1"]
    done = run_cli("train", job, *(word for each in overrides for word in ("--set", each)), "--json")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "runs" / "alone" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    alone = [line["validation_loss"] for line in map(json.loads, lines) if "validation_loss" in line]
    fold = tmp_path / "out" / "sweeps" / "tiny" / "folds" / f"trial-{result['trials'][0]['trial']:04d}" / "fold-1"
    scores = json.loads((fold / "fold.json").read_text(encoding="utf-8"))["scores"]
    assert [each["loss"] for each in scores] == pytest.approx(alone, rel=1e-3)
