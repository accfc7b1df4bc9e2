"""Answers as a newcomer learns them: one command writes the job and its corpus, and the job runs at once, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.jobs import run_cli, run_here

# One pass over the rows, and few and short answers: that it runs is asked here, not how well it learns.
QUICK = [
    "train.epochs=1",
    "model.init.layers=1",
    "model.init.hidden=64",
    "model.init.heads=2",
    "generation.rows=6",
    "generation.max_new_tokens=8",
]


def test_a_job_of_answers_is_written_looked_at_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = run_here("init", "--task", "chat")
    assert made.returncode == 0, made.stderr
    assert "messages" in made.stdout and "raysft check chat.yaml" in made.stdout
    settings = [word for setting in QUICK for word in ("--set", setting)]
    looked = run_here("data", "chat.yaml", *settings)
    assert looked.returncode == 0, looked.stderr
    assert "what stands in [brackets]" in looked.stderr
    assert "<|assistant|>[" in looked.stderr and "<|end|>]" in looked.stderr
    done = run_cli("train", "chat.yaml", *settings, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "prepared before" in done.stderr
    result = json.loads(done.stdout)
    assert 0 <= result["metrics"]["test"]["exact_match"]["value"] <= 1
    assert result["metrics"]["test"]["exact_match"]["n"] == 6
    page = Path(tmp_path / result["data"] / "audit.html").read_text(encoding="utf-8")
    assert "What is learnt" in page and '<mark class="learnt">' in page
