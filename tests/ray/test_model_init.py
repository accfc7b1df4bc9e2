"""A model that the job file describes, by the console command on a real Ray: built, trained, used as a base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysft.cli.main import run
from raysft.result import RunResult
from tests.support.jobs import corpus_rows, write_job

pytestmark = pytest.mark.ray


def test_the_journey(cluster: None, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"init": {"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400}}
    job = write_job(
        tmp_path, base, corpus_rows(120), task="causal-lm", model=model, train={"epochs": 1, "learning_rate": 1e-2}
    )
    described = [line for line in job.read_text(encoding="utf-8").splitlines() if not line.startswith("  base:")]
    job.write_text("\n".join(described) + "\n", encoding="utf-8")
    assert run(["check", str(job)]) == 0
    (folder,) = (tmp_path / "out" / "bases").glob("[!.]*")
    drawn = (folder / "model.safetensors").read_bytes()
    assert run(["train", str(job)]) == 0
    finished = tmp_path / "out" / "runs" / "tiny"
    result = RunResult.read(finished / "result.json")
    assert result.model["base"] == "llama 1x32 from scratch"
    perplexity = result.measure("perplexity")
    assert perplexity is not None and perplexity.value < 400 / 2  # of that many tokens it knows something
    assert "llama 1x32 from scratch" in (finished / "model_card.md").read_text(encoding="utf-8")
    assert (finished / "model" / "chat_template.jinja").is_file()
    capsys.readouterr()
    assert run(["evaluate", str(job), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["test"]["metrics"]["perplexity"]["value"] == pytest.approx(perplexity.value, rel=1e-6)
    assert run(["train", str(job)]) == 0  # finished: the same result, without training
    assert (folder / "model.safetensors").read_bytes() == drawn
    further = f"model={{base: '{finished}', max_length: 32}}"
    assert run(["check", str(job), "--set", further, "--set", "name=further"]) == 0
