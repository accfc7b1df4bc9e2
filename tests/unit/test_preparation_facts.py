"""audit.json: valid JSON, complete, and every number agrees with the files beside it and with every other number."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raysft.audit.finding import LEVELS
from raysft.events import Silent
from raysft.preparation.announce import announce
from raysft.preparation.prepared import Prepared
from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import finding, job_of, kept, left_out, run, write_lines

CONTRACT = {
    "schema", "task", "columns", "sources", "rows", "folds", "labels", "findings", "proof", "lengths", "language",
    "scripts", "drift", "wrong_labels", "rejected_examples", "near_duplicates", "settings",
}  # fmt: skip
ALWAYS = {"leakage", "duplicates", "near_leakage", "near_duplicates", "personal_data", "one_word", "cut"}
LABELLED = {"conflicts", "small_labels", "imbalance", "label_names", "missing_labels"}


def strict(file: Path) -> dict[str, Any]:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {file}")

    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    return found


def mixed_rows() -> list[dict[str, str]]:
    """Some of everything, and good rows."""
    rows = corpus_rows(120)
    return [
        {**rows[0], "text": rows[0]["text"].upper()},
        {"text": "under two labels", "label": "refund", "customer": "x1"},
        {"text": "under two labels", "label": "account", "customer": "x1"},
        {"text": "mail ann@example.org", "label": "Refund ", "customer": "x2"},
        {"text": "", "label": "refund", "customer": "x3"},
        {"text": "nobody knows the label", "label": "", "customer": "x4"},
        {"text": "где моя посылка сегодня", "label": "delivery", "customer": "x5"},
        {"text": "call " * 60, "label": "delivery", "customer": "x6"},
        *rows,
    ]


def task_job(folder: Path, base: Path, task: str) -> Any:
    if task == "classification":
        held = [{**row, "customer": f"h{row['customer']}"} for row in corpus_rows(40, seed=4)]
        write_csv(folder / "held.csv", held)
        return job_of(folder, base, mixed_rows(), data={"test": "held.csv"})
    rows: list[dict[str, Any]]
    if task == "token-classification":
        rows = [{"text": f"ann number {n * 7919} is here", "spans": [[0, 3, "PER"]]} for n in range(40)]
        rows += [{"text": "bob", "spans": [[0, 9, "PER"]]}]
    else:
        rows = [{"question": f"what is {n * 7919}", "answer": f"it is {n}"} for n in range(40)] + [{"question": "why"}]
    write_lines(folder / "rows.jsonl", rows)
    return job_of(folder, base, data={"train": "rows.jsonl", "group": None}, task=task)


@pytest.fixture(scope="module", params=["classification", "token-classification", "generation"])
def prepared(request: pytest.FixtureRequest, base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return run(task_job(tmp_path_factory.mktemp("facts"), base_folder, request.param))


def test_the_file_is_json_and_has_all_that_was_agreed(prepared: Prepared) -> None:
    audit = strict(prepared.folder.audit)
    assert set(audit) == CONTRACT and audit["schema"] == "raysft.audit/1"
    names = [each["name"] for each in audit["findings"]]
    expected = ALWAYS | (LABELLED if audit["task"] == "classification" else set())
    if audit["task"] == "token-classification":  # nothing is cut
        expected = (expected - {"cut"}) | {"pieces"}
    assert set(names) >= expected and len(set(names)) == len(names)
    for each in audit["findings"]:
        assert each["level"] in LEVELS and each["title"] and each["explanation"] and each["unit"]
        assert len(each["examples"]) <= 20 and (each["found"] > 0 or each["level"] == "fine" or each["name"] == "drift")
        assert all(set(shown) == {"where", "text", "label", "detail"} for shown in each["examples"])


def test_the_numbers_agree(prepared: Prepared) -> None:
    audit = strict(prepared.folder.audit)
    staying, leaving, books = kept(prepared), left_out(prepared), audit["rows"]
    assert books["read"] == books["kept"] + sum(books["rejected"].values()) + sum(books["quarantined"].values())
    assert books["rejected"] == Counter(row["reason"] for row in leaving if not row["quarantined"])
    assert books["quarantined"] == Counter(row["reason"] for row in leaving if row["quarantined"])
    assert audit["folds"] == Counter(str(row["fold"]) for row in staying)
    assert sum(prepared.audit["parts"].values()) == books["kept"] == len(staying)
    by_file = Counter(row["source"] for row in staying)
    assert {each["path"]: each["kept"] for each in audit["sources"]} == by_file
    assert sum(each["rows"] for each in audit["sources"]) == books["read"]
    if audit["task"] == "classification":
        found = Counter((row["label"], str(row["fold"])) for row in staying)
        assert {(label, fold): n for label, folds in audit["labels"].items() for fold, n in folds.items()} == found
        assert list(prepared.labels) == sorted({row["label"] for row in staying})
    sizes = [sum(folds.values()) for folds in audit["labels"].values()]
    assert sizes == sorted(sizes, reverse=True)
    assert not [check for check in audit["proof"] if check["crossing"] and "your files" not in check["what"]]
    assert {check["what"] for check in audit["proof"]} >= {"same texts", "units", "near-duplicate pairs"}


def test_lengths_are_those_of_the_kept_rows(prepared: Prepared) -> None:
    audit = strict(prepared.folder.audit)
    lengths = audit["lengths"]
    assert lengths["unit"] == "tokens" and lengths["texts"] == audit["rows"]["kept"]
    assert sum(lengths["histogram"]["counts"]) == lengths["texts"]
    assert len(lengths["histogram"]["edges"]) == len(lengths["histogram"]["counts"]) + 1
    assert lengths["p50"] <= lengths["p90"] <= lengths["p99"] <= lengths["max"]
    stored = [n for part in ("train", "validation", "test") for n in prepared.tokens(part).lengths.tolist()]
    assert max(stored) <= lengths["max_length"] == 32
    assert lengths["cut"] == (lengths["max"] > 32) * sum(n == 32 for n in stored)
    assert lengths["cut_share"] == round(lengths["cut"] / lengths["texts"], 4)


def test_rejected_examples_say_where_and_why(prepared: Prepared) -> None:
    shown = strict(prepared.folder.audit)["rejected_examples"]
    leaving = left_out(prepared)
    assert [(each["where"], each["reason"]) for each in shown] == [
        (f"{Path(row['source']).name}:{row['line']}", row["reason"]) for row in leaving
    ]
    assert shown


def test_what_is_found_in_a_mixed_corpus(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(task_job(tmp_path, base_folder, "classification"))
    audit = prepared.audit
    assert audit["columns"] == {"text": "text", "label": "label", "group": "customer", "guessed": ["text", "label"]}
    assert audit["rows"]["rejected"] == {"duplicate": 1, "blank_text": 1, "missing_label": 1}
    assert audit["rows"]["quarantined"] == {"conflicting_labels": 2}
    for name, count in {"conflicts": 2, "duplicates": 1, "personal_data": 1, "label_names": 2, "cut": 1}.items():
        assert finding(prepared, name)["found"] == count, name
    assert audit["scripts"]["Latin"] > 100 and audit["scripts"]["Cyrillic"] == 1
    assert audit["drift"]["between"] == ["train", "test"] and audit["wrong_labels"] is None
    assert "ann@example.org" not in prepared.folder.audit.read_text(encoding="utf-8"), "personal data is masked"
    assert "max_rejected" in audit["settings"]["audit"] and audit["settings"]["folds"]["k"] == 4


def test_a_test_part_that_was_drawn_does_not_drift(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(job_of(tmp_path, base_folder, corpus_rows(60)))
    assert prepared.audit["drift"] is None
    assert "drift" not in {each["name"] for each in prepared.audit["findings"]}


def test_near_duplicates_are_shown_by_cluster(base_folder: Path, tmp_path: Path) -> None:
    long = "hello the courier came late with my parcel and left it at the wrong doorstep of an other house"
    rows = [*corpus_rows(60), *({"text": long + "s" * n, "label": "refund", "customer": f"x{n}"} for n in range(3))]
    near = run(job_of(tmp_path, base_folder, rows)).audit["near_duplicates"]
    assert near["skipped"] == 0
    assert (near["clusters"], near["rows"], near["largest"], near["similarity"]) == (1, 3, 3, 0.8)
    (cluster,) = near["examples"]
    assert cluster["rows"] == 3 and [place.rsplit(":", 1)[1] for place in cluster["where"]] == ["62", "63", "64"]
    assert cluster["labels"] == ["refund"] * 3


# --- what a person is told


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_the_lines_that_a_person_sees(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(task_job(tmp_path, base_folder, "classification"))
    heard = Heard()
    announce(prepared.audit, [source["path"] for source in prepared.audit["sources"]], heard)
    parts = prepared.audit["parts"]
    assert heard.notes == [
        "prepared before",
        "columns: text = text (found by its name), label = label (found by its name), group = customer",
        "rows: 168 read = 163 kept + 3 rejected + 2 quarantined (blank_text 1, missing_label 1, duplicate 1, "
        "conflicting_labels 2)",
        f"parts: train {parts['train']}, validation {parts['validation']}, test 40; 5 labels",
    ]
    assert any(line.startswith("Same text, different labels: 2 rows.") for line in heard.warnings)
    assert not any("cross a boundary" in line for line in heard.warnings)
    crossing = {"what": "units", "checked": 9, "crossing": 1, "note": ""}
    announce({**prepared.audit, "proof": [crossing]}, None, heard)
    assert heard.warnings[-1].startswith("units: 1 of 9 cross a boundary.")


def test_places_in_files_of_another_folder_are_named_as_such(base_folder: Path, tmp_path: Path) -> None:
    """The same contents, in a second project with the same output."""
    first = run(task_job(tmp_path, base_folder, "classification"))
    heard = Heard()
    announce(first.audit, ["/elsewhere/rows.csv"], heard)
    paths = ", ".join(source["path"] for source in first.audit["sources"])
    assert heard.notes[0].endswith(f"files of the same contents, by which places are named: {paths}")


def test_a_context_that_no_row_has_is_not_told_as_a_column(base_folder: Path, tmp_path: Path) -> None:
    def columns(name: str, more: dict[str, str]) -> Any:
        rows = [{"instruction": f"what is {n}", "output": f"it is {n}", **(more if n > 25 else {})} for n in range(40)]
        folder = tmp_path / name
        folder.mkdir()
        file = write_lines(folder / "rows.jsonl", rows)
        job = job_of(folder, base_folder, data={"train": str(file), "group": None}, task="generation")
        return run(job).audit["columns"]

    assert columns("without", {})["guessed"] == ["text", "label"] and "context" not in columns("again", {})
    assert columns("with", {"input": "in words"})["context"] == "input"
