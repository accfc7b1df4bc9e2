"""The whole journey on a GPU through the command line, Ray included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysft.storage.pretrained import Base
from tests.support.jobs import run_cli, write_job

pytest.importorskip("ray")


@pytest.mark.parametrize("strategy", ["ddp"])
def test_a_job_trains_on_the_gpu_and_is_scored(base: Base, tmp_path: Path, strategy: str) -> None:
    job = write_job(tmp_path, base.folder, train={"precision": "auto", "device": "gpu", "strategy": strategy})
    done = run_cli("train", job)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(next((tmp_path / "out").rglob("training.json")).read_text())
    assert outcome["device"].startswith("cuda") and outcome["precision"] in ("bf16", "fp16")
