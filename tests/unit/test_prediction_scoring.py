"""Scores on other labelled files: read as the job says, and never over the few rows that happened to survive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from raysft.config import Job, load_job
from raysft.errors import DataError, JobFileError
from raysft.prediction.recorded import recorded_columns
from raysft.prediction.scoring import evaluate_files
from raysft.storage.commit import read_json, write_json
from raysft.storage.layout import RunFolder, open_output
from tests.support.jobs import corpus_rows, write_csv, write_job
from tests.support.label_sets import label_set_rows
from tests.support.predicting import Heard, write_model
from tests.support.preparing import job_of, run


@pytest.fixture(scope="module")
def model(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), base_folder)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Forty rows; line 3 has no label, line 5 no text."""
    rows = corpus_rows(40, seed=9)
    rows[1]["label"], rows[3]["text"] = "", " "
    return write_csv(tmp_path / "fresh.csv", rows)


def job(folder: Path, base: Path, **data: Any) -> Job:
    return load_job(write_job(folder, base, data=data))


def test_rejected_rows_are_said_with_their_reasons_and_the_first_place(
    model: Path, base_folder: Path, tmp_path: Path, fresh: Path
) -> None:
    heard = Heard()
    found = evaluate_files(model, [str(fresh)], job(tmp_path, base_folder, audit={"max_rejected": "5%"}), heard)
    assert found.test is not None and found.test.metrics["accuracy"].n == 38
    assert heard.notes == ["rows: 40 read = 38 kept + 2 rejected (missing_label 1, blank_text 1)"]
    assert heard.warnings == [f"2 of 40 rows are not scored; the first: {fresh}:3: missing_label"]


def test_more_rejected_rows_than_the_job_allows_are_an_error(
    model: Path, base_folder: Path, tmp_path: Path, fresh: Path
) -> None:
    strict = job(tmp_path, base_folder, audit={"max_rejected": "4%"})
    with pytest.raises(DataError, match=r"2 of 40 rows rejected \(5\.0%\).*max_rejected \(4%\)") as error:
        evaluate_files(model, [str(fresh)], strict, Heard())
    assert "missing_label 1, blank_text 1" in error.value.message
    assert f"The first: {fresh}:3: missing_label." in error.value.next_step


def test_clean_files_are_not_warned_about(model: Path, base_folder: Path, tmp_path: Path) -> None:
    heard = Heard()
    evaluate_files(model, [str(write_csv(tmp_path / "x.csv", corpus_rows(20)))], job(tmp_path, base_folder), heard)
    assert heard.notes == ["rows: 20 read = 20 kept + 0 rejected"] and heard.warnings == []


def test_files_are_read_in_the_format_and_encoding_of_the_job(model: Path, base_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "ru.txt"
    path.write_bytes("text,label\nгде мой заказ,delivery\nверните деньги,refund\n".encode("cp1251"))
    with pytest.raises(DataError, match=r"cannot read \.txt"):
        evaluate_files(model, [str(path)], job(tmp_path, base_folder), Heard())
    with pytest.raises(DataError, match=r"2 of 2 rows rejected.*not_utf8 2"):
        evaluate_files(model, [str(path)], job(tmp_path, base_folder, format="csv", encoding="utf-8"), Heard())
    right = job(tmp_path, base_folder, format="csv", encoding="cp1251")
    found = evaluate_files(model, [str(path)], right, Heard())
    assert found.test is not None and found.test.metrics["accuracy"].n == 2
    with pytest.raises(JobFileError, match=r"job\.yaml:\d+: data\.encoding: .*'klingon'"):
        evaluate_files(model, [str(path)], job(tmp_path, base_folder, encoding="klingon"), Heard())


def test_an_unknown_label_and_a_file_without_rows_are_errors(model: Path, base_folder: Path, tmp_path: Path) -> None:
    plain = job(tmp_path, base_folder)
    odd = write_csv(tmp_path / "odd.csv", [{"text": "x", "label": "nonsense"}])
    with pytest.raises(DataError, match=r"odd\.csv:2: label 'nonsense'"):
        evaluate_files(model, [str(odd)], plain, Heard())
    (tmp_path / "none.csv").write_text("text,label\n")
    with pytest.raises(DataError, match="no row in the files"):
        evaluate_files(model, [str(tmp_path / "none.csv")], plain, Heard())


# --- what stands between labels


@pytest.fixture
def several(model: Path, base_folder: Path, tmp_path: Path) -> tuple[Job, RunFolder]:
    """A job whose corpus has ; between labels, prepared, and a run of it with a model of several labels."""
    job = job_of(tmp_path, base_folder, label_set_rows(80), data={"multi_label": True})
    place = open_output(job.config.output).run(job.config.name)
    shutil.copytree(model, place.model)
    settings = read_json(place.model / "config.json")
    write_json(place.model / "config.json", {**settings, "problem_type": "multi_label_classification"})
    write_json(place.model / "raysft.json", {"data": run(job).digest})
    return job, place


@pytest.fixture
def commas(tmp_path: Path) -> str:
    """Labels that may have several, as somebody else writes them."""
    rows = [{**row, "label": row["label"].replace(";", ",")} for row in label_set_rows(40, seed=3)]
    return str(write_csv(tmp_path / "commas.csv", rows))


def test_labels_are_cut_as_they_were_for_training(several: tuple[Job, RunFolder], tmp_path: Path, commas: str) -> None:
    job, place = several
    same = str(write_csv(tmp_path / "same.csv", label_set_rows(40, seed=3)))
    found = evaluate_files(place.model, [same], job, Heard())
    assert found.test is not None and found.test.metrics["f1_micro"].n == 40
    with pytest.raises(DataError, match=r"\d+ of 40 rows rejected.*bad_labels \d+") as caught:
        evaluate_files(place.model, [commas], job, Heard())
    assert "while the first rows have ; between labels; set data.label_separator" in caught.value.next_step


def test_whoever_scores_may_say_the_separator(several: tuple[Job, RunFolder], tmp_path: Path, commas: str) -> None:
    said = load_job(tmp_path / "job.yaml", ["data.label_separator=','"])
    found = evaluate_files(several[1].model, [commas], said, Heard())
    assert found.test is not None and found.test.metrics["f1_micro"].n == 40


def test_the_record_outlives_the_prepared_data(several: tuple[Job, RunFolder], commas: str) -> None:
    job, place = several
    data = open_output(job.config.output).data(read_json(place.model / "raysft.json")["data"])
    result = {"data": str(data.path), "columns": read_json(data.audit)["columns"]}
    shutil.rmtree(data.path)
    write_json(place.result, result)
    assert recorded_columns(place.model, job) == {"text": "text", "label": "label", "separator": ";"}
    with pytest.raises(DataError, match="bad_labels"):
        evaluate_files(place.model, [commas], job, Heard())
    write_json(place.result, {**result, "data": "results/data/of-another-run"})
    assert recorded_columns(place.model, job) == {}
    write_json(place.result, {"data": str(data.path)})  # as another version may have left it
    assert recorded_columns(place.model, job) == {}


def test_the_file_tells_where_no_record_is(several: tuple[Job, RunFolder], commas: str) -> None:
    job, place = several
    (place.model / "raysft.json").unlink()
    found = evaluate_files(place.model, [commas], job, Heard())
    assert found.test is not None and found.test.metrics["f1_micro"].n == 40


def test_the_file_tells_where_the_corpus_never_did(model: Path, base_folder: Path, tmp_path: Path) -> None:
    """Lists of labels say nothing of separators; a file that has one is read as it is."""
    rows = [{**row, "label": row["label"].split(";")} for row in label_set_rows(80)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = job_of(tmp_path, base_folder, data={"multi_label": True, "train": "rows.jsonl"})
    place = open_output(job.config.output).run(job.config.name)
    shutil.copytree(model, place.model)
    settings = read_json(place.model / "config.json")
    write_json(place.model / "config.json", {**settings, "problem_type": "multi_label_classification"})
    write_json(place.model / "raysft.json", {"data": run(job).digest})
    csv = str(write_csv(tmp_path / "other.csv", label_set_rows(40, seed=3)))
    found = evaluate_files(place.model, [csv], job, Heard())
    assert found.test is not None and found.test.metrics["f1_micro"].n == 40


def test_the_form_of_tags_is_recorded_too(base_folder: Path, tmp_path: Path) -> None:
    rows = [
        {"tokens": row["text"], "tags": " ".join(["PER", *["O"] * row["text"].count(" ")])} for row in corpus_rows(60)
    ]
    job = job_of(tmp_path, base_folder, rows, task="token-classification", data={"group": None})
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "raysft.json", {"data": run(job).digest})
    assert recorded_columns(tmp_path / "model", job) == {"text": "tokens", "label": "tags", "tags": "plain"}


def test_columns_that_nobody_named_are_those_of_the_corpus(model: Path, base_folder: Path, tmp_path: Path) -> None:
    """A file with further columns would be guessed to mean them, or not be understood at all."""
    rows = [{"message": row["text"], "intent": row["label"]} for row in corpus_rows(80)]
    job = job_of(tmp_path, base_folder, rows, data={"text": None, "label": None, "group": None})
    shutil.copytree(model, tmp_path / "model")
    write_json(tmp_path / "model" / "raysft.json", {"data": run(job).digest})
    wider = [{"text": "a reply", "label": "closed", **row} for row in rows[:20]]
    found = evaluate_files(tmp_path / "model", [str(write_csv(tmp_path / "wider.csv", wider))], job, Heard())
    assert found.test is not None and found.test.metrics["accuracy"].n == 20
    plain = write_csv(tmp_path / "plain.csv", corpus_rows(20))  # has neither, and is read as it tells
    found = evaluate_files(tmp_path / "model", [str(plain)], job, Heard())
    assert found.test is not None and found.test.metrics["accuracy"].n == 20
