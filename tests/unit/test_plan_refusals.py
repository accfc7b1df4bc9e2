"""What `raysft check` refuses `raysft train` refuses too, with the same words, and before it begins."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from raysft import pipeline, run
from raysft.config import load_job
from raysft.errors import JobFileError, NoCapacity, RaysftError
from raysft.plan import preflight
from raysft.plan.machine import Machine
from raysft.plan.settings import MASK_LEVELS, refuse_dropout
from raysft.session import Resources
from raysft.training import launch
from raysft.training.dropout import LEVELS
from tests.support.jobs import corpus_rows, write_base, write_csv, write_job

VERBS = (pipeline.check, pipeline.train)
TINY = Machine(cpus=2, memory_bytes=2**28, gflops=10.0, bf16=False)


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker on the CPU of this machine, without starting Ray, which would find the same."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(run, "ray_session", nullcontext)
    monkeypatch.setattr(run, "find_resources", lambda train: Resources(train.most_workers, 1, gpu=False))
    monkeypatch.setattr(run, "hold", lambda found, *_: found)
    monkeypatch.setattr(preflight, "may_use_gpu", lambda device: False)
    monkeypatch.setattr(launch, "launch", _begun)


def _begun(*_: Any) -> None:
    raise AssertionError("what should have been refused began to train")


def refused(verb: Any, job: Path, overrides: list[str]) -> RaysftError:
    with pytest.raises(RaysftError) as caught:
        verb(job, overrides)
    return caught.value


REFUSED = [
    ("train.focal_gamma=3", "train.focal_gamma", "belongs to train.loss: focal"),
    ("model.max_length=128", "model.max_length", "at most 64"),
    ("train.batch_tokens=512", "train.batch_size", "no effect beside train.batch_tokens"),
    ("train.decay=10%", "train.decay", "only train.schedule wsd"),
    ("model.freeze.layers=3", "model.freeze.layers", "2 layers, found 3"),
    ("train.workers=20", "train.workers", "20 workers cannot share a batch of 16 rows"),
    ("train.precision=tf32", "train.precision", "arithmetic of GPUs"),
    ("train.strategy=fsdp", "train.strategy", "train.workers is 1"),
    ("train.optimizer=adamw_8bit", "train.optimizer", "needs a GPU"),
    ("model.lora={quantize: 4bit}", "model.lora.quantize", "needs a GPU"),
    ("model.attention=flash_attention_2", "model.attention", "needs an NVIDIA GPU"),
    ("model.dropout=0.001", "model.dropout", "0.001 would be 0"),
    ("model.lora={dropout: 0.999}", "model.lora.dropout", "0.999 would be 1"),
]


@pytest.mark.parametrize(("override", "key", "words"), REFUSED)
def test_both_verbs_refuse_the_same(tmp_path: Path, base_folder: Path, override: str, key: str, words: str) -> None:
    job = write_job(tmp_path, base_folder)
    found = [refused(verb, job, [override]) for verb in VERBS]
    assert [type(each) for each in found] == [JobFileError, JobFileError]
    assert str(found[0]) == str(found[1])
    (problem,) = found[0].problems  # type: ignore[attr-defined]
    assert problem.key == key and words in problem.text
    assert not list((tmp_path / "out").glob("runs/*/*"))


def test_both_verbs_refuse_a_model_that_is_too_large_with_the_same_numbers(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "this_machine", lambda: TINY)
    monkeypatch.setattr(preflight, "this_machine", lambda: TINY)
    # Rows without near-duplicates and doubtful labels, which `check` does not look for, have the same longest text.
    settings = {"audit": {"wrong_labels": "off", "similarity": 1.0}}
    job = write_job(tmp_path, base_folder, data=settings)
    for verb in VERBS:
        error = refused(verb, job, [])
        assert isinstance(error, NoCapacity)
        assert "a worker needs about 0.9 GiB" in str(error) and "this machine has 0.2 GiB" in str(error)


def test_what_is_not_known_of_the_memory_refuses_nothing(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU, of other machines, and of a model whose kept weights could not be counted."""
    monkeypatch.setattr(preflight, "this_machine", lambda: TINY)
    job = write_job(tmp_path, base_folder)
    with monkeypatch.context() as patch:
        patch.setattr(preflight, "may_use_gpu", lambda device: True)
        assert pipeline.check(job).plan.memory_bytes > TINY.memory_bytes
    with monkeypatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        assert pipeline.check(job).plan.memory_bytes > TINY.memory_bytes
    unheard = write_base(tmp_path / "unheard")
    config = json.loads((unheard / "config.json").read_text())
    (unheard / "config.json").write_text(json.dumps({**config, "model_type": "unheard"}))
    found = pipeline.check(write_job(tmp_path, unheard, model={"lora": {"r": 2}})).plan
    assert found.memory_at_most and "counted as if all of them trained" in found.why["memory_bytes"]
    refused(pipeline.check, write_job(tmp_path, unheard), [])  # where nothing is kept the number is right


def test_more_workers_than_cpus_are_refused_unless_they_stand_elsewhere(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path, base_folder)
    many = ["train.workers=4096", "train.batch_size=4096", "train.micro_batch=1"]
    assert "4096 x 1 CPU" in str(refused(pipeline.check, job, many))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert pipeline.check(job, many).plan.workers == 4096


@pytest.mark.parametrize("part", ["validation", "test"])
def test_stopping_early_takes_the_validation_rows_of_a_column(tmp_path: Path, base_folder: Path, part: str) -> None:
    """folds.k is 0, so that the only validation rows are those that the column marks."""
    rows = [{**row, "part": part if i % 4 == 0 else "train"} for i, row in enumerate(corpus_rows(240))]
    data = {"split": "part", "group": None, "audit": {"wrong_labels": "off", "similarity": 1.0}}
    folds = {"k": 0, "test": "0%" if part == "test" else "20%"}
    job = write_job(tmp_path, base_folder, rows, data=data, folds=folds)
    stop = ["train.stop_after=2"]
    if part == "validation":
        assert pipeline.check(job, stop).plan.rows["validation"] == 60
        return
    for verb in VERBS:
        assert "train.stop_after: needs validation rows" in str(refused(verb, job, stop))


def test_a_sample_without_validation_rows_proves_nothing(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "SAMPLE_ROWS", 50)
    rows = [{**row, "part": "validation" if i > 200 else "train"} for i, row in enumerate(corpus_rows(240))]
    write_csv(tmp_path / "rows.csv", rows)
    job = write_job(tmp_path, base_folder, rows, data={"split": "part", "group": None}, folds={"k": 0})
    assert pipeline.check(job, ["train.stop_after=2"]).sampled


@pytest.mark.parametrize(
    ("rate", "steps"), [(0.0, 0), (0.001, 0), (1 / 512, 0), (0.002, 1), (0.1, 26), (0.997, 255), (0.999, 256)]
)
def test_a_dropout_rate_is_refused_exactly_where_masks_would_drop_nothing_or_all(
    tmp_path: Path, base_folder: Path, rate: float, steps: int
) -> None:
    assert MASK_LEVELS == LEVELS and round(rate * LEVELS) == steps
    job = load_job(write_job(tmp_path, base_folder, model={"lora": {"dropout": rate}}))
    refuse_dropout(job, gpu=True)
    if steps in {0, LEVELS} and rate:
        with pytest.raises(JobFileError, match=r"model\.lora\.dropout: on CPU dropout rates are multiples of 1/256"):
            refuse_dropout(job, gpu=False)
    else:
        refuse_dropout(job, gpu=False)
