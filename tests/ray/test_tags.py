"""A job that tags tokens, by the console command on a real Ray: trained, reported, scored again, used."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from raysft.cli.main import run
from raysft.result import RunResult
from tests.support.jobs import write_job
from tests.support.tagged import TYPES, tagged_rows, tagged_sections, write_tagged

pytestmark = pytest.mark.ray


def test_the_journey(cluster: None, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tagged(tmp_path / "tagged.jsonl", tagged_rows(120) + tagged_rows(12, 1, joined=4))
    job = write_job(tmp_path, base, **tagged_sections())
    assert run(["check", str(job)]) == 0
    assert run(["train", str(job)]) == 0
    folder = tmp_path / "out" / "runs" / "tiny"
    result = RunResult.read(folder / "result.json")
    assert result.task == "token-classification" and result.labels == list(TYPES)
    f1 = result.measure("f1_micro")
    assert f1 is not None and f1.low <= f1.value <= f1.high and f1.value > 0.8
    assert set(result.baselines) == {"dictionary"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Entity F1" in page and "Confusion matrix" not in page and "delivery" in page
    assert "pipeline_tag: token-classification" in (folder / "model_card.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run(["evaluate", str(job), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["test"]["metrics"]["f1_micro"]["value"] == pytest.approx(f1.value, abs=1e-6)
    out = tmp_path / "found.csv"
    assert run(["predict", str(job), str(tmp_path / "tagged.jsonl"), "--output", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 132 and all(isinstance(json.loads(row["label"]), list) for row in rows)
    assert run(["train", str(job)]) == 0  # finished: the same result, without training
