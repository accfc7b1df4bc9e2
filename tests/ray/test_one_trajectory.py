"""The console command on a real Ray: however the work is shared, one trajectory of loss and gradient norm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysft.cli.main import run
from raysft.result import RunResult
from tests.ray.conftest import Finished
from tests.support.jobs import write_job
from tests.support.runs import trajectory

pytestmark = pytest.mark.ray
WAYS: dict[str, dict[str, Any]] = {
    "two workers that accumulate uneven pieces": {"workers": 2, "micro_batch": 3},
    "two workers that share the model": {"workers": 2, "strategy": "fsdp"},
}


@pytest.mark.parametrize("way", WAYS)
def test_one_trajectory(finished: Finished, base: Path, tmp_path: Path, way: str) -> None:
    """In float32. Sums in another order differ by some 1e-7 a step, which AdamW's root makes some 1e-6 of the loss.

    Norms are up to 12 at this high rate, where the slope is steep: 3e-4 of them were measured.
    """
    job = write_job(tmp_path, base, finished.rows)
    given = [word for key, value in WAYS[way].items() for word in ("--set", f"train.{key}={json.dumps(value)}")]
    assert run(["train", str(job), *given]) == 0
    folder = tmp_path / "out" / "runs" / "tiny"
    found = RunResult.read(folder / "result.json")
    assert found.plan["workers"] == WAYS[way].get("workers", 1)
    assert found.plan["strategy"] == WAYS[way].get("strategy", "ddp")
    losses, norms = np.array(trajectory(folder)).T
    expected = np.array(trajectory(Path(finished.result.artifact).parent)).T
    assert len(losses) > 20
    np.testing.assert_allclose(losses, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(norms, expected[1], rtol=2e-3, atol=1e-5)
    assert found.measure("accuracy") == finished.result.measure("accuracy")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (folder / "model").iterdir()
    }
