"""Labels as words, by the console command on a real Ray, with a Llama from random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysft.cli.main import run
from raysft.result import RunResult
from tests.support.jobs import corpus_rows, write_csv

pytestmark = pytest.mark.ray


def test_the_journey(cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "rows.csv", corpus_rows(300))
    described = {
        "name": "words",
        "model": {
            "init": {"layers": 2, "hidden": 32, "heads": 2, "vocabulary": 400},
            "labels": "words",
            "max_length": 32,
        },
        "data": {"train": "rows.csv", "group": "customer", "audit": {"wrong_labels": "off"}},
        "folds": {"k": 4, "test": "20%"},
        "train": {"epochs": 14, "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32"},
        "output": str(tmp_path / "out"),
    }
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML
    assert run(["check", str(job)]) == 0
    assert run(["train", str(job)]) == 0
    finished = tmp_path / "out" / "runs" / "words"
    result = RunResult.read(finished / "result.json")
    gained = result.baselines["majority"]["gain"]
    assert gained["low"] > 0, gained
    assert 'pipeline("text-generation"' in (finished / "model_card.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run(["evaluate", str(job), "--json"]) == 0
    again, measure = json.loads(capsys.readouterr().out), result.measure("f1_macro")
    assert measure is not None
    assert again["test"]["metrics"]["f1_macro"]["value"] == pytest.approx(measure.value, abs=1e-9)
    write_csv(tmp_path / "more.csv", corpus_rows(30, seed=5))
    assert run(["evaluate", str(job), "--data", str(tmp_path / "more.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["metrics"]["accuracy"]["n"] == 30
    assert run(["predict", str(job), "--text", "my parcel is late at the doorstep", "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
    assert sorted(prediction["probabilities"]) == ["account", "delivery", "product", "refund"]
    assert prediction["label"] == max(prediction["probabilities"], key=prediction["probabilities"].get)
    assert run(["train", str(job)]) == 0  # finished: the same result, without training
    assert run(["check", str(job), "--set", "model.labels=head", "--set", "name=head"]) == 0
