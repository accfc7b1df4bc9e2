"""A finished run is a base under three names: its model folder, its own folder, its job file."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.errors import NotFound
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import write_base, write_job


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that is complete but for result.json, and a job file beside `out`."""
    write_job(tmp_path, tmp_path / "base")
    folder = tmp_path / "out" / "runs" / "tiny"
    write_base(folder / "model")
    for name in ("job.yaml", "identity.json"):
        (folder / name).write_text("{}")
    return folder


def test_folder_of_the_run_and_job_file_name_its_model(run: Path, tmp_path: Path) -> None:
    (run / "result.json").write_text("{}")
    names = [run / "model", run, tmp_path / "job.yaml"]
    bases = [resolve_base(str(name)) for name in names]
    assert [base.folder for base in bases] == [run / "model"] * 3
    assert len({base.identity for base in bases}) == 1


def test_a_job_file_is_found_beside_the_job_that_names_it(run: Path, tmp_path: Path) -> None:
    (run / "result.json").write_text("{}")
    text = (tmp_path / "job.yaml").read_text().replace(str(tmp_path / "out"), "out")
    (tmp_path / "job.yaml").write_text(text)
    assert resolve_base("job.yaml", relative_to=tmp_path).folder == run / "model"


def test_an_unfinished_run_is_no_base(run: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not finished"):
        resolve_base(str(run))
    with pytest.raises(NotFound, match=r"the run of .*job\.yaml is not finished \(looked in .*tiny"):
        resolve_base(str(tmp_path / "job.yaml"))
