"""The same data is prepared once, any change is noticed, and what a crash or a bad disk left is never trusted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from raysft.config import Job
from raysft.corpus import tokens
from raysft.errors import DataError
from raysft.events import Silent
from raysft.preparation import write
from raysft.preparation.build import prepare
from raysft.storage.commit import sha256_file
from raysft.storage.layout import DataFolder, open_output
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import digest, job_of, kept, run

ROWS = corpus_rows(90)
GSM = [{"text": f"what is {n} and {n}", "label": f"it is {2 * n}", "customer": f"c{n}"} for n in range(30)]


def contents(folder: Path) -> dict[str, str]:
    """File -> sha256."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): sha256_file(file) for file in files}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 10 rows, so that small corpora have several."""
    monkeypatch.setattr(write, "SHARD_ROWS", 10)
    monkeypatch.setattr(tokens, "SHARD_ROWS", 10)


# --- done once


def test_the_same_data_and_settings_are_prepared_once(base_folder: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base_folder, ROWS)
    first = run(job)
    stamps = {file: file.stat().st_mtime_ns for file in first.folder.path.rglob("*")}
    again = run(job)
    assert (first.reused, again.reused) == (False, True)
    assert again.digest == first.digest == digest(job) and again.audit == first.audit
    assert {file: file.stat().st_mtime_ns for file in first.folder.path.rglob("*")} == stamps
    assert [each.name for each in (tmp_path / "out/data").iterdir() if each.is_dir()] == [first.digest]


def test_the_list_of_refused_rows_goes_once_the_data_can_be_used(base_folder: Path, tmp_path: Path) -> None:
    """Also where the way back to usable data is one that was prepared before."""
    good, bad = (job_of(tmp_path, base_folder, ROWS), tmp_path / "rows.csv")
    run(good)
    whole = bad.read_bytes()
    write_csv(bad, [{**row, "text": ""} for row in ROWS])
    with pytest.raises(DataError, match="refused"):
        run(good)
    (refused,) = (tmp_path / "out" / "data").glob("*.refused.csv")
    bad.write_bytes(whole)
    assert run(good).reused and not refused.exists()


def test_what_lies_in_the_folder(base_folder: Path, tmp_path: Path, small_shards: None) -> None:
    prepared = run(job_of(tmp_path, base_folder, ROWS))
    files = set(contents(prepared.folder.path))
    shards = {name for name in files if name.startswith("tokenized/")}
    assert files - shards == {
        "audit.json",
        "manifest.json",
        "rejected.parquet",
        "findings.parquet",
        "corpus/open.parquet",
        "corpus/test.parquet",
    }
    manifest = json.loads((prepared.folder.path / "manifest.json").read_bytes())
    named = {
        f"tokenized/{'test' if each['sealed'] else 'open'}/shard-{each['number']:05d}.arrow": each
        for each in manifest["shards"]
    }
    assert set(named) == shards and len(shards) >= 9
    assert {name: each["sha256"] for name, each in named.items()} == {
        name: sha256_file(prepared.folder.path / name) for name in shards
    }
    assert sum(each["rows"] for each in manifest["shards"]) == 90
    lengths = [length for part in ("train", "validation", "test") for length in prepared.tokens(part).lengths.tolist()]
    assert sum(each["tokens"] for each in manifest["shards"]) == sum(lengths)


def test_tokens_and_corpus_rows_stand_in_one_order(base_folder: Path, tmp_path: Path, small_shards: None) -> None:
    prepared = run(job_of(tmp_path, base_folder, ROWS))
    whole = Tokenizer.from_file(str(base_folder / "tokenizer.json"))
    seen = []
    for part in ("train", "validation", "test"):
        corpus, rows = prepared.part(part), prepared.tokens(part)
        assert rows.row_id.tolist() == corpus.column("row_id").to_pylist()
        assert rows.label.tolist() == corpus.column("label_id").to_pylist()
        assert [prepared.labels[label] for label in rows.label.tolist()] == corpus.column("label").to_pylist()
        texts = corpus.column("text").to_pylist()
        assert [rows.tokens(at).tolist() for at in range(len(rows))] == [whole.encode(text).ids for text in texts]
        seen += rows.row_id.tolist()
    assert sorted(seen) == [row["row_id"] for row in kept(prepared)] == list(range(90))


# --- the digest


def edit_tokenizer(base: Path) -> None:
    file = base / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens(["zebra"])
    tokenizer.save(str(file))


Change = tuple[dict[str, Any], list[dict[str, str]]]  # sections, rows
CHANGES: dict[str, Callable[[Path], Change]] = {
    "a letter": lambda _: ({}, [{**ROWS[0], "text": ROWS[0]["text"] + "."}, *ROWS[1:]]),
    "a label": lambda _: ({}, [{**ROWS[0], "label": "other"}, *ROWS[1:]]),
    "one row less": lambda _: ({}, ROWS[:-1]),
    "the order": lambda _: ({}, ROWS[::-1]),
    "max_length": lambda _: ({"model": {"max_length": 31}}, ROWS),
    "similarity": lambda _: ({"data": {"audit": {"similarity": 0.79}}}, ROWS),
    "an action": lambda _: ({"data": {"audit": {"duplicates": "report"}}}, ROWS),
    "the ceiling": lambda _: ({"data": {"audit": {"max_rejected": "6%"}}}, ROWS),
    "wrong labels": lambda _: ({"data": {"audit": {"wrong_labels": "report"}}}, ROWS),
    "label column": lambda _: ({"data": {"label": "customer"}}, ROWS),
    "no group": lambda _: ({"data": {"group": None}}, ROWS),
    "several labels": lambda _: ({"data": {"multi_label": True}}, ROWS),
    "task": lambda _: ({"task": "generation", "data": {"text": "text", "label": "label"}}, ROWS),
    "k": lambda _: ({"folds": {"k": 5}}, ROWS),
    "test share": lambda _: ({"folds": {"test": "21%"}}, ROWS),
    "seed": lambda _: ({"folds": {"seed": 8}}, ROWS),
    "encoding": lambda _: ({"data": {"encoding": "utf-8"}}, ROWS),
    "a test file": lambda folder: ({"data": {"test": str(write_csv(folder / "t.csv", corpus_rows(9, 4)))}}, ROWS),
    "one more file": lambda folder: (
        {"data": {"train": ["rows.csv", str(write_csv(folder / "t.csv", corpus_rows(9, 4)))]}},
        ROWS,
    ),
}


def test_every_change_is_another_digest(base_folder: Path, tmp_path: Path) -> None:
    found = {"as it is": digest(job_of(tmp_path, base_folder, ROWS))}
    for name, change in CHANGES.items():
        sections, rows = change(tmp_path)
        found[name] = digest(job_of(tmp_path, base_folder, rows, **sections))
    for name, edit in (("tokenizer", edit_tokenizer),):
        other = shutil.copytree(base_folder, tmp_path / "base")
        edit(other)
        found[name] = digest(job_of(tmp_path, other, ROWS))
    by_digest: dict[str, list[str]] = {}
    for name, each in found.items():
        by_digest.setdefault(each, []).append(name)
    assert [names for names in by_digest.values() if len(names) > 1] == []


def test_what_changes_nothing_is_the_same_digest(base_folder: Path, tmp_path: Path) -> None:
    expected = digest(job_of(tmp_path / "a", base_folder, ROWS))
    base = shutil.copytree(base_folder, tmp_path / "the same base")
    (base / "README.md").write_text("not read", encoding="utf-8")
    jobs = {
        "another folder": job_of(tmp_path / "another 'folder' é", base_folder, ROWS),
        "a copy of the base": job_of(tmp_path / "a", base, ROWS),
        "the fold that validates": job_of(tmp_path / "a", base_folder, ROWS, folds={"validation": 2}),
        "who does it": job_of(tmp_path / "a", base_folder, ROWS, data={"engine": "ray"}),
        "training": job_of(tmp_path / "a", base_folder, ROWS, train={"epochs": 1, "seed": 1}, name="other"),
        "where it goes": job_of(tmp_path / "a", base_folder, ROWS, output=str(tmp_path / "elsewhere")),
    }
    assert {name: digest(job) for name, job in jobs.items()} == dict.fromkeys(jobs, expected)


def test_the_template_counts_where_answers_are_learnt(base_folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(base_folder, tmp_path / "base")
    columns = {"text": "text", "label": "label"}
    jobs = [job_of(tmp_path, base, GSM, task=task, data=columns) for task in ("generation", "classification")]
    before = [digest(job) for job in jobs]
    (base / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    assert [digest(job) == old for job, old in zip(jobs, before, strict=True)] == [False, True]


def test_the_weights_count_where_they_look_for_wrong_labels(base_folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(base_folder, tmp_path / "base")
    actions = ("report", "off")

    def digests() -> list[str]:
        return [digest(job_of(tmp_path, base, ROWS, data={"audit": {"wrong_labels": action}})) for action in actions]

    before = digests()
    config = json.loads((base / "config.json").read_bytes())
    (base / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-6}), encoding="utf-8")
    assert [new == old for new, old in zip(digests(), before, strict=True)] == [False, True]


# --- the fold that validates is chosen anew without work


def test_any_fold_may_validate(base_folder: Path, tmp_path: Path) -> None:
    seen: set[int] = set()
    for fold in range(4):
        prepared = run(job_of(tmp_path, base_folder, ROWS, folds={"validation": fold}))
        assert prepared.reused == (fold > 0) and prepared.validation == fold
        validation = prepared.part("validation")
        assert set(validation.column("fold").to_pylist()) == {fold}
        assert prepared.audit["parts"]["validation"] == validation.num_rows
        seen |= set(validation.column("row_id").to_pylist())
        assert seen.isdisjoint(prepared.part("test").column("row_id").to_pylist())
    assert "validation" not in prepared.audit["settings"]["folds"], "it would be that of the first job only"


# --- crashes and bad disks


class Stop(Exception):
    """What a crash is to the code that it hits."""


class Stopping(Silent):
    """A listener in whose hands the process dies when so many steps of one kind are done."""

    def __init__(self, what: str, after: int) -> None:
        self._what, self._after = what, after

    def progress(self, done: int, total: int, text: str) -> None:
        if self._what in text and done == self._after:
            raise Stop


def stop_at(job: Job, what: str, after: int) -> DataFolder:
    """Prepare until there; the folder that is left."""
    output = open_output(job.config.output)
    with pytest.raises(Stop):
        prepare(job, resolve_base(job.config.model.base), output, Stopping(what, after))
    return DataFolder(output.data(digest(job)).partial)


@pytest.fixture
def undisturbed(base_folder: Path, tmp_path: Path, small_shards: None) -> dict[str, str]:
    return contents(run(two_files(tmp_path, base_folder, "undisturbed")).folder.path)


def two_files(folder: Path, base: Path, output: str) -> Job:
    write_csv(folder / "more.csv", ROWS[60:])
    data = {"train": ["rows.csv", "more.csv"]}
    return job_of(folder, base, ROWS[:60], data=data, output=str(folder / output))


def test_going_on_redoes_no_shard(
    base_folder: Path, tmp_path: Path, small_shards: None, undisturbed: dict[str, str]
) -> None:
    job = two_files(tmp_path, base_folder, "out")
    partial = stop_at(job, "shards", 4)
    done = {file.name: file.stat().st_ino for file in partial.tokens(sealed=False).glob("*.arrow")}
    assert len(done) == 4
    prepared = run(job)
    assert contents(prepared.folder.path) == undisturbed and not partial.path.exists()
    after = {file.name: file.stat().st_ino for file in prepared.folder.tokens(sealed=False).glob("*.arrow")}
    assert {name: after[name] for name in done} == done and len(after) > 4


def test_what_is_outdated_is_removed_and_what_others_began_is_not(base_folder: Path, tmp_path: Path) -> None:
    shared = str(tmp_path / "out")
    theirs = stop_at(job_of(tmp_path / "theirs", base_folder, ROWS[:40], name="theirs", output=shared), "files", 1)
    outdated = stop_at(job_of(tmp_path / "ours", base_folder, ROWS[:70], output=shared), "files", 1)
    assert theirs.path.exists() and outdated.path.exists()
    prepared = run(job_of(tmp_path / "ours", base_folder, ROWS[:80], output=shared))
    assert prepared.folder.path.exists() and theirs.path.exists() and not outdated.path.exists()


def torn_rows(partial: DataFolder) -> None:
    (partial.rows / "00000.arrow.tmp-").write_bytes(b"ARROW1 torn")


def unfinished_rows(partial: DataFolder) -> None:
    """The rows of the second file are there, but nothing says that they are complete."""
    (partial.rows / "00001.arrow").write_bytes(b"")
    (partial.rows / "00001.json").unlink(missing_ok=True)
    partial.decided.unlink(missing_ok=True)


def torn_shard(partial: DataFolder) -> None:
    file = partial.tokens(sealed=False) / "shard-00001.arrow"
    file.write_bytes(file.read_bytes()[:100])
    file.with_suffix(".json").unlink()
    (partial.tokens(sealed=False) / "shard-00004.arrow.tmp-").write_bytes(b"half")
    (partial.tokens(sealed=False) / "shard-00003.json.tmp-0a1b2c3d").write_text('{"rows": 1', encoding="utf-8")
    (partial.path / "decided.json.tmp-0a1b2c3d").write_text("{", encoding="utf-8")


def undecided(partial: DataFolder) -> None:
    """Killed while the corpus was written: the files are there, cut short."""
    partial.decided.unlink()
    for file in (partial.corpus(sealed=False), partial.corpus(sealed=True), partial.rejected):
        file.write_bytes(file.read_bytes()[:50])
    partial.audit.write_text('{"rows":', encoding="utf-8")


def nothing_but_folders(partial: DataFolder) -> None:
    shutil.rmtree(partial.path)
    partial.path.mkdir()


@pytest.mark.parametrize(
    ("what", "after", "damage"),
    [
        ("files read", 1, torn_rows),
        ("files read", 1, unfinished_rows),
        ("shards", 4, unfinished_rows),
        ("shards", 4, torn_shard),
        ("shards", 4, undecided),
        ("shards", 9, nothing_but_folders),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_a_crash_left_is_gone_on_with_or_done_anew(
    base_folder: Path,
    tmp_path: Path,
    small_shards: None,
    undisturbed: dict[str, str],
    what: str,
    after: int,
    damage: Callable[[DataFolder], None],
) -> None:
    job = two_files(tmp_path, base_folder, "out")
    partial = stop_at(job, what, after)
    damage(partial)
    prepared = run(job)
    assert not prepared.reused and not partial.path.exists()
    assert contents(prepared.folder.path) == undisturbed


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tokenized/open/shard-00002.arrow", flip),
        ("tokenized/test/shard-00000.arrow", flip),
        ("corpus/test.parquet", flip),
        ("audit.json", Path.unlink),
        ("manifest.json", lambda file: file.write_text("{", encoding="utf-8")),
        ("rejected.parquet", lambda file: os.truncate(file, 10)),
    ],
)
def test_a_damaged_folder_is_noticed_and_prepared_again(
    base_folder: Path,
    tmp_path: Path,
    small_shards: None,
    undisturbed: dict[str, str],
    name: str,
    damage: Callable[[Path], Any],
) -> None:
    job = two_files(tmp_path, base_folder, "undisturbed")
    first = run(job)
    assert first.reused
    damage(first.folder.path / name)
    again = run(job)
    assert not again.reused and contents(again.folder.path) == undisturbed
    assert run(job).reused


def test_refused_data_leaves_nothing_and_a_mended_file_is_read_anew(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": "one"} for row in ROWS]
    with pytest.raises(DataError, match="only one class"):
        run(job_of(tmp_path, base_folder, rows))
    assert not [each for each in (tmp_path / "out/data").iterdir() if each.is_dir()]
    assert run(job_of(tmp_path, base_folder, ROWS)).audit["rows"]["kept"] == 90


# --- names of files


@pytest.mark.parametrize(
    "name", ["my rows.csv", 'it\'s "new".csv', "größe 数据 🙂.csv", "a[1]{b}*.csv", "#1 %20;&.csv"]
)
def test_any_name_of_folder_and_file(base_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name.removesuffix(".csv")
    write_csv(folder / name, [*ROWS, ROWS[0]])
    prepared = run(job_of(folder, base_folder, ROWS, data={"train": name}))
    (source,) = prepared.audit["sources"]
    assert source["path"] == str(folder / name) and source["rows"] == 91
    assert prepared.audit["rejected_examples"][0]["where"].endswith(f"{name}:92")
    assert run(job_of(folder, base_folder, ROWS, data={"train": name})).reused
