"""What makes two runs the same: which settings a run may go on under, and the job file that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.claim import claim, identity, refuse_other
from raysft.config import load_job
from raysft.errors import RunConflict
from raysft.plan.refusals import refuse_early
from raysft.storage.layout import RunFolder
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import write_job


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("train.micro_batch=2", True),
        ("train.on_nonfinite=skip", True),
        ("train.activation_checkpointing=true", True),
        ("train.workers=2", True),
        ("train.learning_rate=0.1", False),
        ("train.precision=bf16", False),
        ("train.compile=true", False),
        ("model.max_length=16", False),
    ],
)
def test_a_run_goes_on_under_what_its_errors_prescribe(
    tmp_path: Path, base_folder: Path, override: str, same: bool
) -> None:
    """Out of memory and stopped at a number that is not finite; other settings take another name, as they say."""
    path, base, run = write_job(tmp_path, base_folder), resolve_base(str(base_folder)), RunFolder(tmp_path / "run")
    begun = load_job(path)
    claim(begun, base, identity(begun, base, "data"), run)
    (run.checkpoints / "step-000001").mkdir(parents=True)
    changed = load_job(path, [override])
    if same:
        refuse_other(changed, identity(changed, base, "data"), run)
        return
    with pytest.raises(RunConflict) as error:
        refuse_other(changed, identity(changed, base, "data"), run)
    assert f"{override.split('=')[0]} was" in error.value.message and "--set name=NAME" in error.value.next_step


@pytest.mark.parametrize("tokens", [None, 512])
def test_the_job_file_of_a_run_can_be_run_again(tmp_path: Path, base_folder: Path, tokens: int | None) -> None:
    path = tmp_path / "own.yaml"
    text = f"name: own\nmodel: {{base: '{base_folder}', max_length: 32}}\ndata: {{train: rows.csv}}\n"
    path.write_text(text + (f"train: {{batch_tokens: {tokens}}}\n" if tokens else ""), encoding="utf-8")
    base, run, job = resolve_base(str(base_folder)), RunFolder(tmp_path / "run"), load_job(path)
    claim(job, base, identity(job, base, "data"), run)
    again = load_job(run.job)
    refuse_early(again, base)
    assert identity(again, base, "data") == identity(job, base, "data")
