"""`raysft init` writes a job file that finds its data and columns, however they are called, and keeps what is there."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from raysft.config import load_job
from raysft.errors import NotFound, UsageError
from raysft.initialise import SHIPPED, init, shipped_jobs
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


@pytest.mark.parametrize("task", SHIPPED)
def test_without_a_file_the_corpus_that_ships_is_copied_beside_a_job_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made, (name, _) = init(task=task), SHIPPED[task]
    assert made.path == Path(f"{name}.yaml")
    job, shipped = load_job(made.path), load_job(shipped_jobs() / f"{name}.yaml")
    assert job.config == shipped.config
    files = [Path(file.path) for file in open_sources(job).files]
    assert files and all(file.resolve().is_relative_to(tmp_path) for file in files)
    assert {file.name for file in (tmp_path / name).iterdir()} == {
        file.name for file in (shipped_jobs() / name).iterdir()
    }
    assert f"raysft train {name}.yaml" in made.path.read_text() and f"jobs/{name}.yaml" not in made.path.read_text()
    assert (made.guess.task, made.guess.file.parent) == (task, Path(name))
    json.dumps(made.to_json())


def test_the_corpus_that_ships_may_stand_there_already_but_no_other(tmp_path: Path) -> None:
    init(path=tmp_path / "one.yaml", task="generation")
    again = init(path=tmp_path / "my second.yaml", task="generation")
    assert load_job(again.path).config.name == "my-second"
    assert f"raysft train {quote(str(again.path))}" in again.path.read_text()
    (tmp_path / "chat" / "mine.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.jsonl is not of the corpus that goes there; it is left as it is"):
        init(path=tmp_path / "three.yaml", task="generation")
    (tmp_path / "tokens").write_text("a file")
    with pytest.raises(UsageError, match="tokens is not of the corpus"):
        init(path=tmp_path / "tokens.yaml", task="token-classification")
    with pytest.raises(UsageError, match=r"one\.yaml exists"):
        init(path=tmp_path / "one.yaml", task="generation")
    assert not (tmp_path / "three.yaml").exists() and not (tmp_path / "tokens.yaml").exists()


@pytest.mark.parametrize("task", [None, "masked-lm"])
def test_without_a_file_a_task_must_be_named(tmp_path: Path, task: str | None) -> None:
    with pytest.raises(UsageError, match="no data file was named") as caught:
        init(path=tmp_path / "a.yaml", task=task)
    assert "--task classes, tokens or chat" in caught.value.next_step


def test_a_package_that_lost_its_corpora_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysft.initialise.__file__", str(tmp_path / "raysft" / "initialise.py"))
    with pytest.raises(NotFound, match="are not there"):
        shipped_jobs()


def test_a_built_package_has_the_corpora_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("setuptools")
    root = Path(__file__).parents[2]
    places = {
        "egg_info": {"--egg-base": tmp_path},
        "build": {"--build-base": tmp_path, "--build-lib": tmp_path / "lib"},
    }
    words = [
        each for verb, options in places.items() for each in (verb, *(w for pair in options.items() for w in pair))
    ]
    command = [sys.executable, root / "setup.py", "-q", *words]
    subprocess.run(list(map(str, command)), cwd=root, check=True, capture_output=True)
    monkeypatch.setattr("raysft.initialise.__file__", str(tmp_path / "lib" / "raysft" / "initialise.py"))
    assert shipped_jobs() == tmp_path / "lib" / "raysft" / "jobs"
    assert init(path=tmp_path / "chat.yaml", task="generation").guess.rows >= 600


CHATS = {
    "messages.jsonl": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b" * 500}]},
    "prompts.json": {"prompt": "where", "completion": "here"},
    "instructions.jsonl": {"instruction": "where", "input": "null", "output": "here"},
}


@pytest.mark.parametrize("name", CHATS)
def test_a_file_with_answers_gets_a_job_that_reads_it_and_fits(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n".join([json.dumps(CHATS[name])] * 5))
    made = init(tmp_path / name)
    job = load_job(made.path)
    data, found = job.config.data, open_sources(job).columns
    assert (data.text, data.label, data.context) == (made.guess.text, made.guess.label or None, made.guess.context)
    assert (found.text, found.label) == (data.text, data.label)
    assert (job.config.task, job.config.model.init is not None, job.config.model.lora) == ("generation", True, None)
    assert job.config.generation.max_new_tokens >= made.guess.answer / 2.5
    assert job.config.model.max_length > job.config.generation.max_new_tokens or made.guess.answer < 100
    # The lines that show a pretrained base take effect as they stand, once they are no comments.
    lines = made.path.read_text().splitlines()
    lines = [
        line.replace("  # base", "  base").replace("  # lora", "  lora") for line in lines if "  init:" not in line
    ]
    made.path.write_text("\n".join(lines))
    assert load_job(made.path).config.model.lora is not None
