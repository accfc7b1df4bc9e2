"""A setting that cannot take effect is refused with its key and what to do, before anything is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, get_args

import pytest

from raysft.config import JobConfig, load_job
from raysft.config.sections import TrainSection
from raysft.errors import JobFileError
from raysft.metrics.measures import is_loss, measures_of
from raysft.plan import settings as plan_settings
from raysft.plan.settings import refuse_optimizer, refuse_settings

START = "name: tiny\ndata: {train: rows.csv}\n"


def job(folder: Path, text: str) -> Any:
    path = folder / "job.yaml"
    path.write_text(START + text, encoding="utf-8")
    return load_job(path)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("train: {select: f1_micro}", "train.select", "accuracy, f1_macro, f1_weighted, loss, ece; found f1_micro"),
        ("train: {decay: 10%}", "train.decay", "only train.schedule wsd has a decay, found linear"),
        ("train: {schedule: wsd, warmup: 60%, decay: 50%}", "train.decay", r"warm-up \(60%\) and decay \(50%\)"),
        ("train: {stop_after: 12}", "train.stop_after", r"below train.epochs \(12\)"),
        ("folds: {k: 0}\ntrain: {stop_after: 2}", "train.stop_after", "needs a validation part"),
        ("train: {focal_gamma: 3}", "train.focal_gamma", "belongs to train.loss: focal"),
        ("train: {batch_size: 16, batch_tokens: 512}", "train.batch_size", "no effect beside train.batch_tokens"),
    ],
)
def test_what_cannot_take_effect_is_refused(tmp_path: Path, text: str, key: str, words: str) -> None:
    with pytest.raises(JobFileError, match=words) as caught:
        refuse_settings(job(tmp_path, text))
    (problem,) = caught.value.problems
    assert problem.key == key and problem.where.startswith(str(tmp_path / "job.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        "train: {select: ece, stop_after: 3, average: 0.99}",
        "train: {schedule: wsd, decay: 30%}",
        "data: {train: rows.csv, multi_label: true}\ntrain: {select: f1_micro}",
        "train: {optimizer: adafactor, batch_tokens: 4096}",
        "train: {loss: focal, focal_gamma: 3}",
        "train: {focal_gamma: 2.0}",  # the default, as run folders say it
        "data: {train: rows.csv, split: part}\nfolds: {k: 0}\ntrain: {stop_after: 2}",
    ],
)
def test_what_can_is_not(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(("name: tiny\n" if "data:" in text else START) + text, encoding="utf-8")
    refuse_settings(load_job(path))
    refuse_optimizer(load_job(path), gpu=False)


@pytest.mark.parametrize(("tool", "extra"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, extra: str
) -> None:
    monkeypatch.setattr(plan_settings, "find_spec", lambda name: None)
    with pytest.raises(JobFileError, match=rf"pip install 'raysft\[{extra}\]'") as caught:
        refuse_settings(job(tmp_path, f"train: {{track: [{tool}]}}"))
    assert caught.value.problems[0].key == "train.track"


def test_every_optional_package_is_an_extra_of_its_name() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for _, extra in (*plan_settings.TRACKERS.values(), plan_settings.EIGHT_BIT):
        assert f"\n{extra} = [" in text


def test_eight_bits_need_a_gpu_and_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job(tmp_path, "train: {optimizer: adamw_8bit}")
    with pytest.raises(JobFileError, match="adamw_8bit needs a GPU"):
        refuse_optimizer(asked, gpu=False)
    monkeypatch.setattr(plan_settings, "find_spec", importlib.util.find_spec)
    monkeypatch.setattr(plan_settings, "EIGHT_BIT", ("no_such_package", "bits"))
    with pytest.raises(JobFileError, match=r"pip install 'raysft\[bits\]'"):
        refuse_optimizer(asked, gpu=True)


def test_the_job_file_offers_every_measure_and_no_other() -> None:
    kinds: list[dict[str, Any]] = [{}, {"multi_label": True}]
    jobs = [JobConfig.model_validate({"name": "x", "data": {"train": "a", **kind}}) for kind in kinds]
    jobs.append(JobConfig.model_validate({"name": "x", "task": "token-classification", "data": {"train": "a"}}))
    offered = set(get_args(TrainSection.model_fields["select"].annotation))
    assert offered == {name for each in jobs for name in measures_of(each)}
    assert {name for name in offered if is_loss(name)} == {"loss", "ece"}
