"""The command: help with an example for every verb, one message and the right code at every end, JSON on stdout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import click
import pytest

from raysft import pipeline
from raysft.cli.main import VERBS, cli, run
from raysft.config import ClusterConfig
from raysft.config.reference import json_schema, markdown
from raysft.errors import Interrupted, NoCapacity, NotAllowed, RaysftError, TrainingFailed
from raysft.version import VERSION
from tests.support.jobs import corpus_rows, write_csv, write_job

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def job(tmp_path: Path, base_folder: Path) -> Path:
    return write_job(tmp_path, base_folder)


# --- help


def test_help_names_every_verb_in_the_order_of_a_journey(capsys: Capture) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)
    assert all(text in out for text in VERBS.values())
    assert "raysft train tickets.yaml" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_documents_its_options(verb: str, capsys: Capture) -> None:
    for flag in ("--help", "-h"):
        assert run([verb, flag]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "Example" in out and re.search(rf"\n +raysft {verb} ", out)
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None and command.name == verb
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0].startswith("--") and (parameter.help or parameter.name == "help"), parameter.name


def test_the_version_is_that_of_the_package(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert VERSION in capsys.readouterr().out


# --- ends

USAGE = [
    (["trian"], "No such command 'trian'"),
    (["check"], "Missing argument 'JOB'"),
    (["check", "a.yaml", "b.yaml"], "unexpected extra argument"),
    (["check", "a.yaml", "--fast"], "No such option"),
    (["check", "a.yaml", "--set"], "requires an argument"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(u[0]) for u in USAGE])
def test_a_wrong_call_is_code_2(arguments: list[str], words: str, capsys: Capture) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err


@pytest.mark.parametrize("verb", ["check", "data", "train", "evaluate", "predict"])
def test_a_missing_job_file_is_code_3(verb: str, tmp_path: Path, capsys: Capture) -> None:
    assert run([verb, str(tmp_path / "none.yaml")]) == 3
    out, err = capsys.readouterr()
    assert out == "" and err.count("error:") == 1 and "none.yaml" in err and "→" in err


@pytest.mark.parametrize("verb", ["check", "data", "train", "evaluate"])
def test_a_bad_key_is_code_2_with_its_place(verb: str, job: Path, capsys: Capture) -> None:
    assert run([verb, str(job), "--set", "train.epochz=1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "--set train.epochz=1: train.epochz: no such key; did you mean `epochs`?" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotAllowed("held", "wait"), 4),
        (NoCapacity("too big", "fewer"), 5),
        (TrainingFailed("loss is nan"), 100),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (RaysftError("[bold]not markup[/bold]", "[x]"), 1),
        (ValueError("first line\nlast line"), 1),
        (ValueError(), 1),
        (MemoryError("Unable to allocate 9. EiB"), 5),
        (BrokenPipeError(32, "Broken pipe"), 1),
        (OSError(28, "No space left on device"), 2),
        (OSError(13, "Permission denied"), 1),
    ],
)
def test_every_end_has_its_code_and_one_message(
    error: BaseException, code: int, job: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(pipeline, "check", fail)
    assert run(["check", str(job)]) == code
    out, err = capfd.readouterr()
    assert out == "" and err.count("error:") == (code != 0) and "Traceback" not in err
    if isinstance(error, BrokenPipeError):  # not that of our reader, who is still there
        assert "a pipe broke" in err
    if isinstance(error, RaysftError):
        assert error.message in err and error.next_step in err
    if isinstance(error, MemoryError):
        assert "the memory ran out (Unable to allocate 9. EiB)" in err and "fault of raysft" not in err
    if isinstance(error, KeyboardInterrupt):  # only what trains goes on from a checkpoint
        assert "checkpoint" not in err
        monkeypatch.setattr(pipeline, "train", fail)
        assert run(["train", str(job)]) == 130
        assert "goes on from the newest checkpoint" in capfd.readouterr().err
    if isinstance(error, ValueError):
        assert "unexpected: ValueError" in err and "RAYSFT_DEBUG=1" in err
        assert not error.args or "last line" in err


def test_a_fault_of_ours_shows_its_place_when_asked(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise ValueError("here")

    monkeypatch.setattr(pipeline, "check", fail)
    monkeypatch.setenv("RAYSFT_DEBUG", "1")
    with pytest.raises(ValueError, match="here"):
        run(["check", str(job)])


# --- answers


def test_check_prints_one_json_document_and_nothing_else(job: Path, capsys: Capture) -> None:
    assert run(["check", str(job), "--json", "--set", "train.epochs=2"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == "" and found["schema"] == "raysft.check/1" and found["name"] == "tiny"
    assert found["rows"]["read"] == sum(found["plan"]["rows"].values()) == 240
    assert found["plan"]["total_steps"] == 2 * found["plan"]["steps_per_epoch"]


def test_check_says_the_same_to_people(job: Path, capsys: Capture) -> None:
    assert run(["check", str(job)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "tiny: the job file is valid" in out
    assert "account, delivery, product, refund" in out and "train 144, validation 48, test 48" in out
    assert "text = text (found by its name)" in out and "label = label (found by its name)" in out
    assert re.search(r"group = customer *\n", out)


def test_check_says_in_words_why_rows_are_rejected(tmp_path: Path, base_folder: Path, capsys: Capture) -> None:
    rows = corpus_rows(240)
    rows[3]["text"] = " "
    assert run(["check", str(write_job(tmp_path, base_folder, rows))]) == 0
    assert re.search(r"rows rejected +1 +blank text 1\n", re.sub(r" +\n", "\n", capsys.readouterr().out))


def test_schema_prints_the_schema_and_the_reference(capsys: Capture) -> None:
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
    assert run(["schema", "--cluster"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema(ClusterConfig)
    assert run(["schema", "--markdown"]) == 0
    assert capsys.readouterr().out == markdown()


def test_init_tells_what_it_took_the_columns_for(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "rows [bold] 1.csv", corpus_rows(60))
    assert run(["init", "rows [bold] 1.csv"]) == 0
    out = capsys.readouterr().out
    assert "label (4 classes)" in out
    assert "wrote rows [bold] 1.yaml" in out and "raysft check 'rows [bold] 1.yaml'" in out
    assert run(["init", "rows [bold] 1.csv", "--job", "other.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == "other.yaml"
    assert run(["init", "rows [bold] 1.csv"]) == 2
    assert "exists" in capsys.readouterr().err


# Long and short answers, and one that Rich prints.
@pytest.mark.parametrize("arguments", [["schema"], ["--help"], ["check", "JOB", "--json"], ["check", "JOB"]])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str], job: Path) -> None:
    command = [sys.executable, "-m", "raysft", *(str(job) if each == "JOB" else each for each in arguments)]
    # Buffered as usual: a short answer meets the closed pipe only when it is flushed at the end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_progress_in_a_pipe_says_how_much_time_is_left(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysft.cli.console import Watch

    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Watch() as watch:
        for done, total in ((10, 100), (20, 100), (100, 100), (5, 10)):
            now[0] += 15
            watch.progress(done, total, "steps")
    # 10 steps took 15 s, so 80 more take 120 s; work with another total begins anew.
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert lines == ["10/100 steps", "20/100 steps  2:00 left", "100/100 steps", "5/10 steps"]
