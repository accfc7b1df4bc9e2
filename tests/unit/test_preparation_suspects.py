"""Likely wrong labels, with a base whose points tell the topics apart: found, acted on, and not computed twice."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysft.errors import DataError
from raysft.events import Silent
from raysft.preparation import points
from raysft.preparation.build import prepare
from raysft.preparation.suspects import RANKED
from raysft.storage.layout import DataFolder, open_output
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import TOPICS, write_csv
from tests.support.preparing import digest, finding, job_of, kept, left_out, quarantine, run

# Texts of all words of a topic and a number tell the labels apart even with random weights.
ROWS = [
    {
        "text": f"{' '.join([*words[n % len(words) :], *words[: n % len(words)]])} {n}",
        "label": label,
        "customer": f"{label}{n}",
    }
    for label, words in TOPICS.items()
    for n in range(30)
]
WRONG = {5: "refund", 40: "delivery"}  # row -> label that it gets


def mislabelled() -> list[dict[str, str]]:
    return [{**row, "label": WRONG.get(number, row["label"])} for number, row in enumerate(ROWS)]


def wrong_job(folder: Path, base: Path, action: str, **data: Any) -> Any:
    audit = {"wrong_labels": action, "similarity": 1.0, "max_rejected": "20%", **data.pop("audit", {})}
    return job_of(folder, base, mislabelled(), data={**data, "audit": audit})


@pytest.mark.parametrize("action", ["report", "drop", "quarantine"])
def test_suspects_are_acted_on(base_folder: Path, tmp_path: Path, action: str) -> None:
    prepared = run(wrong_job(tmp_path, base_folder, action))
    section = prepared.audit["wrong_labels"]
    told = finding(prepared, "wrong_labels")
    assert (section["looked_at"], section["of"]) == (120, 120)
    assert section["found"] == told["found"] == len(section["examples"]) and told["action"] == action
    lines: dict[int, dict[str, Any]] = {
        int(example["where"].rsplit(":", 1)[1]) - 2: example for example in section["examples"]
    }
    assert set(WRONG) <= set(lines) and len(lines) < 20
    for row, label in WRONG.items():
        assert lines[row]["label"] == label and lines[row]["suggested"] != label
        assert 0 < lines[row]["probability"] <= 1
    assert sum(pair["count"] for pair in section["by_pair"]) <= section["found"]
    leaving = left_out(prepared)
    assert {row["row_id"] for row in leaving} == (set() if action == "report" else set(lines))
    for left in leaving:
        assert re.fullmatch(r"suggested: \w+ \((0\.\d\d|1\.00)\)", left["detail"])
        assert f"suggested: {lines[left['row_id']]['suggested']} " in left["detail"]
    assert len(quarantine(prepared)) == (len(lines) if action == "quarantine" else 0)
    assert len(kept(prepared)) == 120 - len(leaving)


def test_suspects_that_shall_stop_the_job(base_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\d+ rows: wrong_label, the first at .*rows\.csv:\d+ \(suggested: "):
        run(wrong_job(tmp_path, base_folder, "fail"))


def test_a_sample_is_looked_at_where_there_are_more_rows(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(wrong_job(tmp_path, base_folder, "report", audit={"wrong_labels_rows": 100}))
    assert (prepared.audit["wrong_labels"]["looked_at"], prepared.audit["wrong_labels"]["of"]) == (100, 120)


def test_other_rows_than_those_of_training_are_not_looked_at(base_folder: Path, tmp_path: Path) -> None:
    held = [{**ROWS[0], "text": f"parcel parcel {n} held", "label": "refund"} for n in range(6)]
    write_csv(tmp_path / "held.csv", held)
    prepared = run(wrong_job(tmp_path, base_folder, "drop", test="held.csv"))
    assert prepared.audit["wrong_labels"]["looked_at"] == 120
    assert prepared.audit["parts"]["test"] == 6


def test_a_label_that_loses_its_last_training_row(base_folder: Path, tmp_path: Path) -> None:
    """Every row of `lost` looks like delivery; once they are gone, the test row of that name cannot be learnt."""
    rows = [{**row, "label": "lost"} if number in (0, 8, 16) else row for number, row in enumerate(ROWS)]
    write_csv(tmp_path / "held.csv", [{"text": "one more", "label": "lost", "customer": "h"}, ROWS[50] | {"text": "b"}])
    audit = {"wrong_labels": "drop", "similarity": 1.0, "max_rejected": "20%"}
    job = job_of(tmp_path, base_folder, rows, data={"test": "held.csv", "audit": audit})
    with pytest.raises(DataError, match=r"held\.csv:2: label never seen in training: 'lost'"):
        run(job)


class Stop(Exception):
    """What a crash is to the code that it hits."""


class Stopping(Silent):
    def progress(self, done: int, total: int, text: str) -> None:
        if "shards" in text:
            raise Stop


def test_points_outlive_a_crash(base_folder: Path, tmp_path: Path) -> None:
    job = wrong_job(tmp_path, base_folder, "report")
    output, base = open_output(job.config.output), resolve_base(str(base_folder))
    with pytest.raises(Stop):
        prepare(job, base, output, Stopping())
    partial = DataFolder(output.data(digest(job)).partial)
    before = inodes(partial.points)
    partial.decided.unlink()
    with pytest.raises(Stop):
        prepare(job, base, output, Stopping())
    assert inodes(partial.points) == before and len(before) == 1
    prepared = run(job)
    assert not prepared.folder.points.exists() and prepared.audit["wrong_labels"]["looked_at"] == 120


def inodes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


class StopsEmbedding(Silent):
    """Stops once so many texts have been read by the base."""

    def __init__(self, after: int) -> None:
        self.after = after

    def progress(self, done: int, total: int, text: str) -> None:
        if "wrong labels" in text and done > self.after:
            raise Stop


@pytest.mark.parametrize("after", [0, 45, 70])
def test_blocks_of_points_outlive_a_crash(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Killed anywhere, each finished block is kept, and the points are those of an undisturbed run, bit by bit."""
    monkeypatch.setattr(points, "BLOCK", 20)
    texts = [row["text"] for row in ROWS]
    base = resolve_base(str(base_folder))
    whole = points.points_of(texts, base, 32, tmp_path / "whole", Silent())
    with pytest.raises(Stop):
        points.points_of(texts, base, 32, tmp_path / "cut", StopsEmbedding(after))
    kept_blocks = inodes(tmp_path / "cut") if after else {}
    assert len(kept_blocks) == after // 20
    again = points.points_of(texts, base, 32, tmp_path / "cut", Silent())
    np.testing.assert_array_equal(again, whole)
    after_all = inodes(tmp_path / "cut")
    assert len(after_all) == 6 and kept_blocks.items() <= after_all.items()


def test_points_do_not_depend_on_the_order_of_rows(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "BLOCK", 20)
    base = resolve_base(str(base_folder))
    texts = [row["text"] for row in ROWS]
    order = np.random.default_rng(0).permutation(len(texts))
    first = points.points_of(texts, base, 32, tmp_path / "a", Silent())
    second = points.points_of([texts[row] for row in order], base, 32, tmp_path / "b", Silent())
    np.testing.assert_array_equal(second, first[order])


def test_all_rows_of_another_mind_are_ranked(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(wrong_job(tmp_path, base_folder, "report"))
    section = prepared.audit["wrong_labels"]
    table = pq.read_table(prepared.folder.suspects)
    assert table.schema.equals(RANKED)
    rows = table.to_pylist()
    assert len(rows) == section["disagrees"] >= section["estimated"] >= section["found"] > 0
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["flagged"] for row in rows] == [True] * section["found"] + [False] * (len(rows) - section["found"])
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    by_id = {row["row_id"]: row for row in kept(prepared)}
    for row in rows:
        own = by_id[row["row_id"]]
        assert (row["source"], row["line"], row["label"]) == (own["source"], own["line"], own["label"])
        assert row["suggested"] != row["label"] and row["suggested"] in TOPICS and 0 < row["probability"] <= 1
    where = [f"{Path(row['source']).name}:{row['line']}" for row in rows[: section["found"]]]
    assert where == [example["where"] for example in section["examples"]]


def test_the_ranking_is_the_same_each_time(base_folder: Path, tmp_path: Path) -> None:
    first, second = (
        run(wrong_job(tmp_path / name, base_folder, "report")).folder.suspects.read_bytes() for name in ("a", "a2")
    )
    assert len(first) > 500
    tables = [pq.read_table(io.BytesIO(each)).drop_columns(["source"]) for each in (first, second)]
    assert tables[0].equals(tables[1])
