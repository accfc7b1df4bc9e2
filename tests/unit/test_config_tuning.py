"""The `tune` section loads as written, or says what is wrong with it; what a job keeps for the search."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.config import Job, load_job
from raysft.config.tuning import TuneSection
from raysft.errors import JobFileError, Problem

GOOD = "name: tiny\ndata:\n  train: rows.csv\n"


def load(folder: Path, text: str, *overrides: str) -> Job:
    path = folder / "job.yaml"
    path.write_text(GOOD + text, encoding="utf-8")
    return load_job(path, overrides)


def problem(folder: Path, text: str) -> Problem:
    with pytest.raises(JobFileError) as caught:
        load(folder, text)
    (found,) = caught.value.problems
    return found


def test_there_is_no_search_unless_it_is_written(tmp_path: Path) -> None:
    assert load(tmp_path, "").config.tune is None
    assert load(tmp_path, "tune: {}\n").config.tune == TuneSection()
    assert TuneSection().search == {} and TuneSection().trials is None


def test_a_section_loads_as_written(tmp_path: Path) -> None:
    tune = load(
        tmp_path,
        """
tune:
  search:
    train.learning_rate: {log: [1e-5, 5e-4]}
    model.lora: [null, {r: 8}]
  objectives: {loss: min, f1_macro: max}
  start:
  - {train.learning_rate: 1e-4}
  hours: 2
  price: 3.5
  cost: 20
""",
    ).config.tune
    assert tune is not None
    assert tune.search == {"train.learning_rate": {"log": [1e-5, 5e-4]}, "model.lora": [None, {"r": 8}]}
    assert list(tune.objectives or {}) == ["loss", "f1_macro"]
    assert tune.start == ({"train.learning_rate": 1e-4},)
    assert (tune.hours, tune.price, tune.cost) == (2.0, 3.5, 20.0)


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("tune: {serch: {}}\n", 4, "tune.serch", "did you mean `search`?"),
        ("tune: {search: [train.epochs]}\n", 4, "tune.search", "holds `key: value` lines"),
        ("tune:\n  objectives: {loss: low}\n", 5, "tune.objectives.loss", "must be 'max' or 'min', found \"low\""),
        ("tune: {objectives: {}}\n", 4, "tune.objectives", "at least one measure"),
        ("tune: {algorithm: bayes}\n", 4, "tune.algorithm", "'tpe', 'nsga2'"),
        ("tune: {trials: 0}\n", 4, "tune.trials", "greater than or equal to 1"),
        ("tune: {start: {train.epochs: 1}}\n", 4, "tune.start", "must be a list"),
        ("tune:\n  start:\n  - 3\n", 6, "tune.start.0", "holds `key: value` lines"),
        ("tune: {concurrent: 0}\n", 4, "tune.concurrent", "greater than or equal to 1"),
        ("tune: {hours: 0}\n", 4, "tune.hours", "greater than 0"),
        ("tune:\n  racing: true\n  cost: 5\n", 6, "tune.cost", "needs tune.price"),
        ("tune: {price: -1, cost: 5}\n", 4, "tune.price", "greater than 0"),
    ],
)
def test_a_problem_names_line_and_key(tmp_path: Path, text: str, line: int, key: str, words: str) -> None:
    found = problem(tmp_path, text)
    assert (found.where, found.key) == (f"{tmp_path / 'job.yaml'}:{line}", key)
    assert words in found.text


def test_an_override_reaches_a_key_of_the_search(tmp_path: Path) -> None:
    override = "tune.search.train.learning_rate=[1e-4, 2e-4]"
    job = load(tmp_path, "tune: {search: {train.learning_rate: [1], train.epochs: [2]}}\n", override)
    assert job.config.tune is not None
    assert job.config.tune.search == {"train.learning_rate": [1e-4, 2e-4], "train.epochs": [2]}
    assert job.where("tune", "search", "train.learning_rate") == f"--set {override}"
    assert job.where("tune", "search", "train.epochs", "0") == f"{job.path}:4"


def test_an_override_begins_a_search(tmp_path: Path) -> None:
    tune = load(tmp_path, "", "tune.search.train.epochs=[1, 2]").config.tune
    assert tune is not None and tune.search == {"train.epochs": [1, 2]}


def test_a_job_keeps_what_was_written_without_defaults(tmp_path: Path) -> None:
    job = load(tmp_path, "train: {epochs: 3}\n", "train.seed=1")
    assert job.values == {"name": "tiny", "data": {"train": "rows.csv"}, "train": {"epochs": 3, "seed": 1}}
    assert job == Job(job.config, job.path)
