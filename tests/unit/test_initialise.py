"""`raysft init` writes a job file that finds its data and columns, however they are called, and keeps what is there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from raysft.config import load_job
from raysft.errors import UsageError
from raysft.initialise import init
from raysft.preparation.address import open_sources
from tests.support.jobs import corpus_rows, write_csv

NAMES = [
    "tickets.csv",
    "my tickets.csv",
    'it\'s "so": #1.csv',
    "-dash.csv",
    "ünï 🙂 مرحبا.csv",
    "no.csv",
    "null.csv",
    "1.10.csv",
    "~nobody.csv",
    "a[b]{c}*?.csv",
    "line\nbreak\u2028.csv",
    "UPPER.CSV",
]
COLUMNS = [
    ("text", "label", "customer"),
    ("the text: of it", "# label", "- user"),
    ('"quoted" text', "label's", "user, or group"),
    ("no", "null", "~"),
    ("テ\u2028キスト", "éti\x7fquette", "group\xa0id"),
]


def write(path: Path, columns: tuple[str, str, str] = COLUMNS[0]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(row.values() for row in corpus_rows(60))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    data = write(tmp_path / name)
    made = init(data)
    assert made.path == data.with_suffix(".yaml")
    assert [file.path for file in open_sources(load_job(made.path)).files] == [str(data)]


@pytest.mark.parametrize("columns", COLUMNS)
def test_any_column_names_work(tmp_path: Path, columns: tuple[str, str, str]) -> None:
    job = load_job(init(write(tmp_path / "rows.csv", columns)).path)
    assert (job.config.data.text, job.config.data.label) == columns[:2]
    open_sources(job)


def test_the_path_is_relative_to_the_job_file_wherever_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "data" / "rows.csv")
    (tmp_path / "jobs" / "deep").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = init("../data/rows.csv", "../jobs/deep/mine.yaml")
    job = load_job(made.path)
    assert job.config.data.train == ("../../data/rows.csv",)
    assert [Path(file.path).resolve() for file in open_sources(job).files] == [data]
    assert job.config.name == "mine"


def test_a_job_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.csv")
    (tmp_path / "rows.yaml").write_text("mine")
    with pytest.raises(UsageError, match="left as it is") as caught:
        init(data)
    assert "--job" in caught.value.next_step
    assert (tmp_path / "rows.yaml").read_text() == "mine"


def test_what_was_guessed_is_told(tmp_path: Path) -> None:
    made = init(write_csv(tmp_path / "rows.csv", corpus_rows(60)))
    assert (made.guess.text, made.guess.label, made.guess.group) == ("text", "label", "customer")
    told = json.loads(json.dumps(made.to_json()))
    assert told["schema"] == "raysft.init/1"
    assert (told["path"], told["file"]) == (str(made.path), str(tmp_path / "rows.csv"))
    assert told["labels"] == ["account", "delivery", "product", "refund"]
