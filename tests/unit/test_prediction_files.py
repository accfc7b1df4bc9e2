"""Predictions come batch by batch, one for each row, and are written as they come; a bad row costs only itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from raysft import pipeline
from raysft.cli.main import run
from raysft.errors import DataError, OutputError, UsageError
from raysft.prediction import files
from raysft.prediction.artifact import Artifact
from raysft.prediction.output import predictions_file, require_writable_kind
from raysft.prediction.tally import Tally
from raysft.prediction.texts import Row
from tests.support.jobs import TOPICS, corpus_rows
from tests.support.predicting import Heard, write_model

COLUMNS = ["file", "line", "text", "label", "confidence", "error"]


@pytest.fixture(scope="module")
def model(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), base_folder)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A hundred good rows; line 50 has a byte that does not decode, line 60 no text."""
    lines = [row["text"].encode() for row in corpus_rows(100)]
    lines[48:48], lines[58:58] = [b"caf\xff"], [b'" "']
    path = tmp_path / "mixed.csv"
    path.write_bytes(b"\n".join([b"text", *lines, b""]))
    return path


def test_unusable_rows_get_their_reason_and_the_others_their_labels(model: Path, mixed: Path) -> None:
    heard = Heard()
    found = pipeline.predict(model, [str(mixed)], listener=heard)
    assert len(found) == 102
    assert [index for index, each in enumerate(found) if each.error] == [48, 58]
    assert found[48].error.startswith("not_utf8") and found[58].error == "blank_text"
    for each in found:
        assert (each.label in TOPICS) == (each.confidence is not None) == bool(each.probabilities) == (not each.error)
    (said,) = heard.warnings
    assert "2 of 102 rows have no prediction" in said and "not_utf8 1, blank_text 1" in said
    assert f"the first: {mixed}:50: not_utf8" in said


def test_the_file_holds_what_the_list_holds(
    model: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = pipeline.predict(model, [str(mixed)], ["pasted"])
    monkeypatch.setattr(files, "BATCH_ROWS", 7)  # several batches, and one that is not full
    written = pipeline.predict(model, [str(mixed)], ["pasted"], tmp_path / "out.csv")
    assert (written.rows, written.predicted) == (103, 101)
    assert written.unusable == {"not_utf8": 1, "blank_text": 1}
    pipeline.predict(model, [str(mixed)], ["pasted"], tmp_path / "out.jsonl")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert list(table[0]) == list(objects[0]) == COLUMNS
    assert [(row["text"], row["label"], row["error"]) for row in table] == [
        (each.text, each.label, each.error) for each in listed
    ]
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in objects] == table
    for row, each in zip(objects, listed, strict=True):  # other batches, other padding: the last digit may differ
        expected = None if each.error else pytest.approx(each.confidence, abs=2e-6)
        assert row["confidence"] == expected
    assert [(row["file"], row["line"]) for row in objects[-2:]] == [(str(mixed), 103), ("--text", 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.csv", "out.csv", "out.jsonl"]


def test_rows_are_pulled_a_batch_at_a_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream never ends, so whoever wants all of it first never answers."""
    pulled = 0

    def endless(size: int) -> Iterator[Row]:
        nonlocal pulled
        for number in count(1):
            pulled = number
            yield Row("stream", number, "x" * size)

    monkeypatch.setattr(files, "BATCH_ROWS", 20)
    rows = files.predict_rows(Artifact.open(model), endless(3), Tally())
    for asked in range(1, 45):
        assert next(rows)[0].line == asked
        assert pulled == -(-asked // 20) * 20
    monkeypatch.setattr(files, "BATCH_CHARACTERS", 1000)  # long texts: three make a batch
    next(files.predict_rows(Artifact.open(model), endless(400), Tally()))
    assert pulled == 3


def test_the_output_grows_while_predictions_are_made(
    model: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the last batch most rows are in the file aside, and the output does not exist yet."""
    sizes: list[int] = []
    predict = Artifact.predict

    def watched(self: Artifact, texts: list[str]) -> object:
        (aside,) = (tmp_path / "to").iterdir()
        assert aside.name != "out.jsonl"
        sizes.append(aside.stat().st_size)
        return predict(self, texts)

    monkeypatch.setattr(Artifact, "predict", watched)
    monkeypatch.setattr(files, "BATCH_ROWS", 3000)
    texts = [row["text"] for row in corpus_rows(300)] * 20
    pipeline.predict(model, [str(mixed)], texts, tmp_path / "to" / "out.jsonl")
    assert len(sizes) == 3 and sizes[0] == 0 and sizes[1] > 200_000 and sizes[2] > 1.8 * sizes[1]


def test_without_one_usable_row_it_is_an_error_and_an_older_output_stays(model: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "bad.csv", tmp_path / "out.csv"
    path.write_bytes(b"text\n\xff\n\xfe\n")
    output.write_text("older")
    for target in (None, output):
        with pytest.raises(DataError, match="none of 2 rows can be predicted: not_utf8 2") as error:
            pipeline.predict(model, [str(path)], output=target, encoding="utf-8")
        assert f"The first: {path}:2: not_utf8" in error.value.next_step and "--encoding" in error.value.next_step
    assert output.read_text() == "older" and len(list(tmp_path.iterdir())) == 2


def test_nothing_asked_and_nothing_in_the_file_are_two_things(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to predict"):
        pipeline.predict(model)
    (tmp_path / "header.csv").write_text("text\n")
    with pytest.raises(DataError, match="none of 0 rows"):
        pipeline.predict(model, [str(tmp_path / "header.csv")])


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in (("x.xlsx", r"cannot write \.xlsx"), ("x", "without ending"), ("folder.csv", "is a folder")):
        with pytest.raises(UsageError, match=words):
            require_writable_kind(tmp_path / name)
    for path in (Path("/proc/nowhere/out.csv"), tmp_path / "file" / "out.csv"):
        with pytest.raises(OutputError, match="cannot write") as error, predictions_file(path):
            pass
        assert "--output" in error.value.next_step


def test_the_command_warns_and_ends_well_if_any_row_was_predicted(
    model: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output = tmp_path / "out.csv"
    assert run(["predict", str(model), str(mixed), "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    assert "wrote 100 predictions to" in out and "warning: 2 of 102 rows have no prediction" in err
    assert run(["predict", str(model), str(mixed), "--output", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "raysft.predictions/1",
        "output": str(output),
        "rows": 102,
        "predicted": 100,
        "unusable": {"not_utf8": 1, "blank_text": 1},
    }
    assert run(["predict", str(model), str(mixed)]) == 0
    assert "100 predictions" in capsys.readouterr().out
    assert run(["predict", str(model), "--text", "hello", "--text", " ", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["predictions"]
    assert first["error"] == "" and second == {
        "text": "", "label": "", "confidence": None, "probabilities": {}, "error": "blank_text",
    }  # fmt: skip
    assert run(["predict", str(model), "--text", " "]) == 2
    assert "none of 1 rows" in capsys.readouterr().err


def test_the_command_takes_format_and_encoding(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ru.txt"
    path.write_bytes("text\nда\n".encode("cp1251"))
    assert run(["predict", str(model), str(path), "--format", "csv", "--encoding", "cp1251", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["text"] == "да"
    assert run(["predict", str(model), str(path), "--format", "xls"]) == 2
    assert "Allowed: auto, csv" in capsys.readouterr().err
