"""What is prepared is whole, balanced and sealed. Ray is replaced by a plain loop: its part is tested in tests/ray."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysft.config import load_job
from raysft.config.sections import FoldsSection
from raysft.corpus import build
from raysft.corpus.build import Prepared, Sources, check_rows, data_digest, find_sources, load_prepared, prepare
from raysft.corpus.records import Columns
from raysft.corpus.rows import ROW, concat, tables_of
from raysft.corpus.tokens import TOKENS, encode, read_shards
from raysft.errors import DataError, JobFileError, NotFound
from raysft.events import Silent
from raysft.storage.layout import open_output
from raysft.storage.pretrained import Base, resolve_base
from tests.support.jobs import corpus_rows, write_csv, write_job


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(sources: Sources) -> pa.Table:
        return concat(t for origin, file in sources.files for t in tables_of(file, origin, sources.columns))

    def tokenize(corpus: pa.Table, base: Base, max_length: int) -> tuple[pa.Table, int]:
        found = build._tokenize_batch(corpus, base, max_length)
        return found.select(TOKENS.names), sum(found.column("cut").to_pylist())

    monkeypatch.setattr(build, "_read", read)
    monkeypatch.setattr(build, "_tokenize", tokenize)


@pytest.fixture(scope="module")
def base(base_folder: Path) -> Base:
    return resolve_base(str(base_folder))


def prepared(folder: Path, base: Base, rows: list[dict[str, str]] | None = None, **sections: Any) -> Prepared:
    job = load_job(write_job(folder, base.folder, rows, **sections))
    return prepare(job, base, open_output(job.config.output), Silent())


def test_every_row_read_is_kept_in_one_part_or_rejected_for_a_reason(tmp_path: Path, base: Base) -> None:
    rows = corpus_rows(240)
    bad = [
        {**rows[0]},
        {**rows[1], "label": "product", "text": rows[1]["text"]},
        {"text": "", "label": "x", "customer": "c"},
    ]
    found = prepared(tmp_path, base, rows + bad)
    counts, parts = found.audit["rows"], found.audit["parts"]
    kept, rejected = pq.read_table(found.folder.corpus), pq.read_table(found.folder.rejected)
    assert counts["read"] == 243 == kept.num_rows + rejected.num_rows
    assert counts["kept"] == kept.num_rows == sum(parts.values()) == sum(found.audit["folds"].values())
    assert sum(counts["rejected"].values()) == rejected.num_rows
    assert sorted(kept.column("row_id").to_pylist() + rejected.column("row_id").to_pylist()) == list(range(243))
    assert {name: found.part(name).num_rows for name in parts} == parts
    per_label = [sum(of.values()) for of in found.audit["labels"].values()]
    assert sum(per_label) == kept.num_rows


def test_nothing_that_belongs_together_stands_in_two_parts(tmp_path: Path, base: Base) -> None:
    rows = corpus_rows(240)
    close = [{**row, "text": row["text"] + " x", "customer": f"d{index}"} for index, row in enumerate(rows[:20])]
    found = prepared(tmp_path, base, rows + close)
    assert found.audit["crossings"] == {"group": 0, "text": 0, "near_duplicate": 0}
    assert found.audit["near_duplicate_pairs"]["kept_together"] >= 15
    by_customer: dict[str, set[int]] = {}
    for row in found.corpus.to_pylist():
        by_customer.setdefault(row["group"], set()).add(row["fold"])
    assert all(len(fold) == 1 for fold in by_customer.values())


def test_each_part_gets_its_own_tokens_and_the_open_shards_hold_no_test_row(tmp_path: Path, base: Base) -> None:
    found = prepared(tmp_path, base)
    for name in ("train", "validation", "test"):
        part, tokens = found.part(name), found.tokens(name)
        assert tokens.row_id.tolist() == part.column("row_id").to_pylist()
        assert tokens.label.tolist() == part.column("label_id").to_pylist()
        ids, _ = encode(part.column("text").to_pylist(), base, 32)
        assert [tokens.tokens(i).tolist() for i in range(len(tokens))] == ids
    test_rows = set(found.part("test").column("row_id").to_pylist())
    opened = read_shards(found.folder.tokens(sealed=False))
    assert test_rows and not test_rows & set(opened.row_id.tolist())


def test_own_validation_and_test_rows_stay_where_they_were_given(tmp_path: Path, base: Base) -> None:
    write_csv(tmp_path / "val.csv", corpus_rows(30, seed=5))
    write_csv(tmp_path / "held.csv", corpus_rows(30, seed=6))
    found = prepared(tmp_path, base, data={"validation": "val.csv", "test": "held.csv"})
    for part, origin in (("train", "train"), ("validation", "validation"), ("test", "test")):
        assert set(found.part(part).column("origin").to_pylist()) == {origin}
    assert found.part("test").num_rows == 30


def test_without_folds_all_that_is_not_sealed_trains(tmp_path: Path, base: Base) -> None:
    parts = prepared(tmp_path, base, folds={"k": 0, "test": "20%"}).audit["parts"]
    assert set(parts) == {"train", "test"}
    assert abs(parts["test"] - 0.2 * sum(parts.values())) <= 3


def test_the_same_data_is_prepared_once_and_anew_when_anything_that_counts_changes(tmp_path: Path, base: Base) -> None:
    first = prepared(tmp_path, base)
    again = prepared(tmp_path, base)
    assert (first.reused, again.reused) == (False, True)
    assert again.digest == first.digest and again.audit == first.audit and again.labels == first.labels
    changed: list[dict[str, Any]] = [
        {"folds": {"seed": 8}},
        {"model": {"max_length": 16}},
        {"data": {"group": None}},
        {"data": {"audit": {"near_duplicates": 0.9}}},
        {"rows": corpus_rows(239)},
    ]
    digests = {first.digest, *(prepared(tmp_path, base, **sections).digest for sections in changed)}
    assert len(digests) == len(changed) + 1


def test_what_does_not_count_leaves_the_digest_alone(tmp_path: Path, base: Base) -> None:
    def digest(**sections: Any) -> str:
        job = load_job(write_job(tmp_path, base.folder, **sections))
        return data_digest(job, base, find_sources(job))

    assert digest() == digest(name="other", train={"epochs": 9}, folds={"validation": 2}, data={"train": "*.csv"})


def test_a_torn_preparation_is_not_used(tmp_path: Path, base: Base) -> None:
    found = prepared(tmp_path, base)
    job = load_job(tmp_path / "job.yaml")
    output = open_output(job.config.output)
    assert load_prepared(job, output, found.digest) is not None
    shard = next(found.folder.tokens(sealed=False).glob("shard-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert load_prepared(job, output, found.digest) is None
    assert not prepared(tmp_path, base).reused


def test_the_validation_fold_only_chooses_among_the_folds(tmp_path: Path, base: Base) -> None:
    first, other = prepared(tmp_path, base), prepared(tmp_path, base, folds={"validation": 2})
    assert other.reused and other.digest == first.digest
    assert set(other.part("validation").column("fold").to_pylist()) == {2}
    for each in (first, other):
        assert each.audit["parts"] == {name: each.part(name).num_rows for name in ("train", "validation", "test")}
        trains = Counter(each.part("train").column("label").to_pylist())
        assert {label: counts["train"] for label, counts in each.audit["labels"].items()} == dict(trains)
    assert not set(other.part("validation").column("row_id").to_pylist()) & set(
        first.part("validation").column("row_id").to_pylist()
    )


def test_only_names_travel_to_workers_never_the_sealed_rows(tmp_path: Path, base: Base) -> None:
    found = prepared(tmp_path, base)
    before = len(pickle.dumps(found))
    assert found.corpus.num_rows == 240 and found.audit
    assert len(pickle.dumps(found)) == before
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301


def test_what_a_killed_preparation_left_is_swept(tmp_path: Path, base: Base) -> None:
    first = prepared(tmp_path, base)
    left = first.folder.path.with_name(f"{first.folder.path.name}.tmp-0a1b2c3d")
    shutil.move(first.folder.path, left)
    again = prepared(tmp_path, base)
    assert not again.reused and not left.exists()
    assert again.audit == first.audit


# --- what is refused


def test_parts_that_would_be_empty_are_refused_and_leave_nothing(tmp_path: Path, base: Base) -> None:
    rows = [{**row, "customer": f"c{index % 3}"} for index, row in enumerate(corpus_rows(60))]
    with pytest.raises(DataError, match=r"would be empty: 60 rows fall into 3 units.*data\.group: customer") as caught:
        prepared(tmp_path, base, rows)
    assert "folds.k" in caught.value.next_step
    assert [path for path in (tmp_path / "out" / "data").iterdir() if path.is_dir()] == []


def checked(folder: Path, rows: list[tuple[str, str, str, str | None]], **sections: Any) -> tuple[str, ...]:
    """check_rows on (origin, text, label, reason)."""
    job = load_job(write_job(folder, Path("base"), **sections))
    table = pa.Table.from_pylist(
        [
            {
                "origin": o,
                "source": f"{o}.csv",
                "line": i,
                "text": t,
                "label": label,
                "group": "",
                "reason": r,
                "detail": "",
            }
            for i, (o, t, label, r) in enumerate(rows)
        ],
        schema=ROW,
    )
    return check_rows(job, table)


GOOD: list[tuple[str, str, str, str | None]] = [("train", "a", "y", None), ("train", "b", "x", None)] * 5


def test_the_labels_are_sorted(tmp_path: Path) -> None:
    assert checked(tmp_path, GOOD) == ("x", "y")


def test_rejected_rows_are_tolerated_up_to_the_limit(tmp_path: Path) -> None:
    bad: list[tuple[str, str, str, str | None]] = [("train", "", "", "blank_text")]
    assert checked(tmp_path, GOOD * 9 + bad * 10, data={"audit": {"max_rejected": "10%"}})
    with pytest.raises(DataError, match=r"11 of 101 rows rejected \(10\.9%\).*\(10%\): blank_text 11") as caught:
        checked(tmp_path, GOOD * 9 + bad * 11, data={"audit": {"max_rejected": "10%"}})
    assert "train.csv:90: blank_text" in caught.value.next_step


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no usable row: 0 read"),
        ([("train", "", "", "blank_text")] * 3, "no usable row: 3 read, all rejected .blank_text 3"),
        ([("test", "a", "x", None)], "no usable row"),
        ([("train", "a", "x", None)] * 3, r"job\.yaml.*data\.label: only one class.*'x'"),
        (
            [*GOOD, ("test", "c", "z", None), ("test", "d", "z", None)],
            r"test\.csv:10: label never seen.*'z' \(2 rows\)",
        ),
        ([*GOOD, ("validation", "c", "z", None)], r"validation\.csv:10: label never seen"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(
    tmp_path: Path, rows: list[tuple[str, str, str, str | None]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        checked(tmp_path, rows)


@pytest.mark.parametrize("key", ["text", "label", "group"])
def test_a_column_that_is_not_there_points_at_the_job_file(tmp_path: Path, key: str) -> None:
    job = load_job(write_job(tmp_path, Path("base"), data={key: "nope"}))
    with pytest.raises(JobFileError) as caught:
        find_sources(job)
    (problem,) = caught.value.problems
    assert problem.key == f"data.{key}" and "it has: text, label, customer" in problem.text
    assert problem.where == job.where("data", key) != str(job.path)


def test_sources_are_the_files_of_each_part(tmp_path: Path) -> None:
    write_csv(tmp_path / "held.csv", corpus_rows(3))
    job = load_job(write_job(tmp_path, Path("base"), data={"test": "held.csv"}))
    found = find_sources(job)
    assert found.files == (("train", tmp_path / "rows.csv"), ("test", tmp_path / "held.csv"))
    assert found.columns == Columns("text", "label", "customer")
    (tmp_path / "held.csv").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        find_sources(job)
    (tmp_path / "held.csv").unlink()
    with pytest.raises(NotFound):
        find_sources(job)


def test_every_fold_that_a_job_may_ask_for_fits_the_column_of_folds() -> None:
    assert FoldsSection.model_json_schema()["properties"]["k"]["maximum"] <= np.iinfo(np.int8).max
