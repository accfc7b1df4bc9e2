"""Two ranks of one run: the first writes the artifact and speaks for the run, the other is done before."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from raysft.errors import TrainingFailed
from raysft.evaluation.reload import TOLERANCE, largest_difference
from raysft.storage.commit import read_json
from raysft.storage.layout import RunFolder
from raysft.storage.pretrained import resolve_base
from raysft.training import precision, ranks, worker
from raysft.training.artifact import write_artifact
from raysft.training.worker import Outcome, Task, run_worker
from tests.support import preparing
from tests.support.jobs import corpus_rows, write_base
from tests.support.ranks import run_on_ranks

PATIENCE_S = 60.0


def finish(task: Task, fails: bool) -> object:
    """What run_worker gives, where the first rank does not write before the other has returned."""
    returned = task.run.path / "returned"

    def write_late(*arguments: Any) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while not returned.exists():
            assert time.monotonic() < deadline, "the other rank waits for the artifact"
            time.sleep(0.02)
        if fails:
            raise TrainingFailed("no artifact", "none")
        return write_artifact(*arguments)

    with mock.patch.object(worker, "write_artifact", write_late):
        found = run_worker(task)
    if ranks.rank() == 1:
        returned.touch()
    return found


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("job")
    train = {"epochs": 1, "workers": 2, "precision": "fp32"}
    job = preparing.job_of(folder, write_base(folder / "base"), corpus_rows(120), train=train)
    base = resolve_base(job.config.model.base)
    return Task(
        job.config, job.folder, base, preparing.run(job), RunFolder(folder), micro_batch=8, threads=1, gpu=False
    )


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_no_rank_waits_while_the_first_writes(task: Task, tmp_path: Path, strategy: str) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    mine = replace(task, run=run, strategy=strategy)
    first, second = run_on_ranks(2, finish, mine, False, folder=tmp_path / "ranks")
    assert isinstance(first, Outcome) and second is None
    assert read_json(run.outcome)["weights_sha256"] == first.weights_sha256
    assert largest_difference(run.model, run.probe) < TOLERANCE


def test_an_artifact_that_cannot_be_written_is_the_outcome_of_the_run(task: Task, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    first, second = run_on_ranks(2, finish, replace(task, run=run), True, folder=tmp_path / "ranks")
    assert isinstance(first, TrainingFailed) and second is None
    assert not run.outcome.exists()


def test_auto_goes_on_in_the_precision_that_it_was_begun_in(task: Task, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    settings = task.config.train.model_copy(update={"precision": "auto"})
    mine = replace(task, run=run, config=task.config.model_copy(update={"train": settings}))

    def nothing(*_: Any) -> str:
        raise TrainingFailed("no artifact", "none")

    with (
        mock.patch.object(precision, "supports_bf16", lambda _: True),
        mock.patch.object(worker, "write_artifact", nothing),
    ):
        assert isinstance(run_worker(mine), TrainingFailed)
    with mock.patch.object(precision, "supports_bf16", lambda _: False):
        found = run_worker(mine)
    assert isinstance(found, Outcome)
    assert (found.precision, found.resumed_from) == ("bf16", found.last_step)
