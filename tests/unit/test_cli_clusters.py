"""Which cluster a command on jobs speaks to, and which ones have nobody to speak to."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.cli.clusters import find
from raysft.cli.main import run
from raysft.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYSFT_CLUSTER", raising=False)


def test_jobs_of_slurm_go_by_sbatch() -> None:
    """What answers at the usual address of this machine is another cluster."""
    with pytest.raises(UsageError, match="is Slurm's: each batch job has a Ray of its own") as refused:
        find(str(ROOT / "cluster/slurm/cluster.yaml"), None, False)
    assert "sbatch FOLDER/job.sbatch train JOB" in refused.value.next_step
    assert run(["cluster", "doctor", str(ROOT / "cluster/slurm/cluster.yaml"), "--json"]) == 2


@pytest.mark.parametrize("kind", ["static", "aws", "gcp", "azure", "kubernetes"])
def test_a_cluster_that_is_not_known_here_has_to_have_an_address(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / f"cluster/{kind}/cluster.yaml")
    assert run(["jobs", "list", "--cluster", file]) == 2
    assert "Name it by address" in " ".join(capsys.readouterr().err.split())
    assert run(["cluster", "doctor", file]) == 2
    assert "its file has no `address`" in " ".join(capsys.readouterr().err.split())
