"""findings.parquet: every row that something was found about stands there, whatever became of it, with its place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysft.corpus.rows import ROW
from raysft.preparation import ledger
from raysft.preparation.books import Books, Found
from raysft.preparation.features import Wanted
from raysft.preparation.prepared import Prepared
from raysft.preparation.rowstore import RowStore
from raysft.storage.commit import sha256_file
from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import finding, job_of, kept, left_out, run

GOOD = corpus_rows(60)
LONG = "the courier came late with my parcel and left it at the wrong doorstep of an other house today"
TRAIN = [
    ("twice the same", "refund"),
    ("Twice the same", "refund"),
    ("said twice", "refund"),
    ("said twice", "account"),
    ("seen before", "refund"),
    (LONG, "refund"),
    (f"{LONG}s", "refund"),
    ("write to ann@example.org", "refund"),
]
HELD = [("seen before", "refund"), ("a b", "refund"), ("a b", "account"), ("a b", "account"), (f"{LONG}ss", "refund")]
MINE = [("A b", "refund"), ("call +49 30 901820 or bob@example.org", "refund")]
EXPECTED = {  # (file, line) and finding -> action, the other's (file, line)
    ("rows.csv", 63, "duplicates"): ("drop", ("rows.csv", 62)),
    ("rows.csv", 64, "conflicts"): ("quarantine", ("rows.csv", 65)),
    ("rows.csv", 65, "conflicts"): ("quarantine", ("rows.csv", 64)),
    ("rows.csv", 66, "leakage"): ("drop", ("held.csv", 2)),
    ("rows.csv", 67, "near_leakage"): ("report", ("held.csv", 6)),
    ("rows.csv", 68, "near_leakage"): ("report", ("held.csv", 6)),
    ("rows.csv", 68, "near_duplicates"): ("report", ("rows.csv", 67)),
    ("rows.csv", 69, "personal_data"): ("drop", None),
    ("held.csv", 3, "held_out_conflicts"): ("report", ("held.csv", 4)),
    ("held.csv", 4, "held_out_conflicts"): ("report", ("held.csv", 3)),
    ("held.csv", 5, "held_out_conflicts"): ("report", ("held.csv", 3)),
    ("held.csv", 5, "held_out_duplicates"): ("report", ("held.csv", 4)),
    ("mine.csv", 2, "validation_in_test"): ("report", ("held.csv", 3)),
    ("mine.csv", 3, "personal_data"): ("report", None),
}


def rows_of(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"text": text, "label": label, "customer": f"x{number}"} for number, (text, label) in enumerate(pairs)]


def prepare(folder: Path, base: Path) -> Prepared:
    write_csv(folder / "held.csv", rows_of(HELD))
    write_csv(folder / "mine.csv", rows_of(MINE))
    audit = {"personal_data": "drop", "max_rejected": "20%"}
    data = {"test": "held.csv", "validation": "mine.csv", "group": None, "audit": audit}
    return run(job_of(folder, base, GOOD + rows_of(TRAIN), data=data))


def lines(prepared: Prepared) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(prepared.folder.findings).to_pylist()
    return found


@pytest.mark.parametrize("stretch", [3, 20_000])
def test_one_line_a_row_and_finding(
    base_folder: Path, tmp_path: Path, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "STRETCH", stretch)
    prepared = prepare(tmp_path, base_folder)
    found = lines(prepared)
    shown = {
        (Path(line["source"]).name, line["line"], line["finding"]): (
            line["action"],
            line["other_source"] and (Path(line["other_source"]).name, line["other_line"]),
        )
        for line in found
    }
    assert shown == EXPECTED and len(found) == len(EXPECTED)
    assert [(line["row_id"], line["finding"]) for line in found] == sorted(
        (line["row_id"], line["finding"]) for line in found
    )
    everything = {row["row_id"]: row for row in kept(prepared) + left_out(prepared)}
    for line in found:
        assert (everything[line["row_id"]]["source"], everything[line["row_id"]]["line"]) == (
            line["source"],
            line["line"],
        )
        assert (line["other_source"] is None) == (line["other_line"] is None)


def test_it_agrees_with_the_audit_and_with_what_was_left_out(base_folder: Path, tmp_path: Path) -> None:
    prepared = prepare(tmp_path, base_folder)
    found = lines(prepared)
    for name, number in Counter(line["finding"] for line in found).items():
        assert finding(prepared, name)["found"] == number
    acted_on = {line["row_id"]: line for line in found if line["action"] in {"drop", "quarantine"}}
    gone = {row["row_id"]: row for row in left_out(prepared)}
    assert set(acted_on) == set(gone)
    for row_id, line in acted_on.items():
        assert line["detail"] == gone[row_id]["detail"]
        assert (line["action"] == "quarantine") == gone[row_id]["quarantined"]
    details = {(line["finding"], line["line"]): line["detail"] for line in found}
    assert details["personal_data", 3] == "e-mail 1, phone 1"
    assert details["near_leakage", 67] == "almost the same as held.csv:6"


def test_it_is_part_of_the_manifest_and_the_same_each_time(base_folder: Path, tmp_path: Path) -> None:
    first = prepare(tmp_path, base_folder)
    manifest = json.loads((first.folder.path / "manifest.json").read_bytes())
    before = sha256_file(first.folder.findings)
    assert manifest["files"]["findings.parquet"]["sha256"] == before
    first.folder.findings.unlink()
    again = prepare(tmp_path, base_folder)
    assert not again.reused and sha256_file(again.folder.findings) == before


def test_nothing_found_is_a_file_without_lines(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(job_of(tmp_path, base_folder, GOOD))
    table = pq.read_table(prepared.folder.findings)
    assert table.num_rows == 0 and table.schema.equals(ledger.FINDINGS)


# --- the books behind it


def store_of(rows: int, batch: int = 10) -> RowStore:
    """Rows in many batches, as files are read."""
    columns: dict[str, list[Any]] = {
        name: [None] * rows if name in {"record", "time", "reason", "detail"} else ["x"] * rows for name in ROW.names
    }
    columns |= {"origin": ["train"] * rows, "source": ["d/a.csv"] * rows, "line": list(range(2, rows + 2))}
    columns["text"] = [f"text {number}" for number in range(rows)]
    whole = RowStore.of_table(pa.table(columns, schema=ROW), Wanted(1.0))
    (table,) = whole._sources
    assert isinstance(table, pa.Table)
    return RowStore([pa.Table.from_batches(table.combine_chunks().to_batches(max_chunksize=batch))], [])


def test_explaining_stretch_by_stretch_reads_the_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every left-out row points to a far one; the reads must not grow with the number of stretches."""
    store = store_of(400)
    books = Books(store)
    rows = np.arange(200)
    books.apply(Found("duplicate", rows, 399 - rows), "drop")
    asked: list[list[str]] = []
    batches = RowStore._batches

    def counted(self: RowStore, columns: Any, wanted: Any = None) -> Any:
        asked.append(columns)
        return batches(self, columns, wanted)

    monkeypatch.setattr(RowStore, "_batches", counted)
    for start in range(0, 200, 10):
        reasons, details = books.explain(rows[start : start + 10], [None] * 10)
        assert reasons == ["duplicate"] * 10
        assert details == [f"same as a.csv:{401 - row}" for row in range(start, start + 10)]
    assert asked == [["source"], ["line"]]


def test_details_are_masked_wherever_they_go(tmp_path: Path) -> None:
    books = Books(store_of(20))
    said = Found("wrong_label", np.array([3]), np.array([-1]), ("suggested: ann@example.org (0.93)",))
    books.apply(said, "quarantine")
    _, (detail,) = books.explain(np.array([3]))
    assert detail == "suggested: a***@e***.org (0.93)"
    assert books.explain(np.array([4]), ["not a date: bob@example.org"])[1] == ["not a date: b***@e***.org"]
    ledger.write_findings(books, tmp_path / "findings.parquet")
    (line,) = pq.read_table(tmp_path / "findings.parquet").to_pylist()
    assert line["detail"] == detail and line["finding"] == "wrong_labels"
