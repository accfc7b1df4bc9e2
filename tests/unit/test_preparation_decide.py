"""What is refused, where every row goes, and that nothing that belongs together stands on two sides of a boundary."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.errors import DataError, JobFileError
from raysft.preparation.prepared import Prepared
from tests.support.jobs import TOPICS, corpus_rows, write_csv
from tests.support.preparing import fold_of, job_of, kept, left_out, quarantine, run

Row = dict[str, str]
GOOD = corpus_rows(100)
HELD = corpus_rows(20, seed=5)


def blank(rows: list[Row], number: int) -> list[Row]:
    """The same with the texts of the first rows gone."""
    return [{**row, "text": " "} for row in rows[:number]] + rows[number:]


# --- too much left out, or nothing left


@pytest.mark.parametrize(("share", "most"), [("5%", 5), (0, 0), ("29%", 29), ("7%", 7), (0.57, 57), ("5.5%", 5)])
def test_as_many_rows_as_max_rejected_says_and_not_one_more(
    base_folder: Path, tmp_path: Path, share: Any, most: int
) -> None:
    data = {"audit": {"max_rejected": share}}
    fine = run(job_of(tmp_path, base_folder, blank(GOOD, most), data=data))
    assert sum(fine.audit["rows"]["rejected"].values()) == most
    with pytest.raises(DataError, match=rf"^{most + 1} of 100 rows rejected .*blank_text {most + 1}") as caught:
        run(job_of(tmp_path, base_folder, blank(GOOD, most + 1), data=data))
    assert "rows.csv:2: blank_text" in str(caught.value) and "data.audit.max_rejected" in str(caught.value)


def test_quarantined_rows_count_as_left_out(base_folder: Path, tmp_path: Path) -> None:
    other = "refund" if GOOD[0]["label"] != "refund" else "account"
    rows = [*GOOD[:99], {**GOOD[0], "label": other}]
    with pytest.raises(DataError, match=r"^2 of 100 rows rejected .*conflicting_labels 2"):
        run(job_of(tmp_path, base_folder, rows, data={"audit": {"max_rejected": "1%"}}))


def test_no_usable_row(base_folder: Path, tmp_path: Path) -> None:
    rows = [*blank(GOOD[:2], 2), {**GOOD[2], "label": ""}]
    with pytest.raises(DataError, match=r"no usable row: 3 read, all rejected \(blank_text 2, missing_label 1\)"):
        run(job_of(tmp_path, base_folder, rows))
    (tmp_path / "rows.csv").write_text("text,label,customer\n", encoding="utf-8")
    job = job_of(tmp_path / "b", base_folder, rows, data={"train": str(tmp_path / "rows.csv")})
    with pytest.raises(DataError, match=r"no usable row: 0 read, .*the files hold no rows"):
        run(job)


def test_no_training_row_is_left(base_folder: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "held.csv", HELD)
    rows = [{**GOOD[0], "label": "a"}, {**GOOD[0], "label": "b"}]
    audit = {"max_rejected": "99%", "unseen_labels": "drop"}
    with pytest.raises(DataError, match="22 of 22 rows rejected"):
        run(job_of(tmp_path, base_folder, rows, data={"test": "held.csv", "audit": audit}))


def test_one_class_is_none(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": "all the same"} for row in GOOD]
    with pytest.raises(DataError, match=r"job\.yaml:\d+: data\.label: only one class.*'all the same'"):
        run(job_of(tmp_path, base_folder, rows))


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_file_of_the_person_s_own_without_a_usable_row(base_folder: Path, tmp_path: Path, part: str) -> None:
    """A part that is drawn from the training rows must not silently stand in for it."""
    write_csv(tmp_path / "held.csv", blank(HELD[:4], 4))
    job = job_of(tmp_path, base_folder, GOOD, data={part: "held.csv"})
    with pytest.raises(DataError, match=rf"data\.{part}: no usable row: 4 read") as caught:
        run(job)
    assert "held.csv:2: blank_text" in str(caught.value)


# --- labels that training lacks


def unseen_job(folder: Path, base: Path, action: str | None) -> Any:
    rows = [*HELD, {**HELD[0], "text": "brand new", "label": "warranty"}]
    write_csv(folder / "held.csv", rows)
    audit = {"unseen_labels": action} if action else {}
    return job_of(folder, base, GOOD, data={"test": "held.csv", "audit": audit})


@pytest.mark.parametrize("action", [None, "fail"])
def test_labels_that_training_lacks_stop_the_job(base_folder: Path, tmp_path: Path, action: str | None) -> None:
    with pytest.raises(DataError, match=r"held\.csv:22: label never seen in training: 'warranty' \(1 rows\)"):
        run(unseen_job(tmp_path, base_folder, action))


@pytest.mark.parametrize("action", ["drop", "quarantine"])
def test_labels_that_training_lacks_are_left_out_when_asked(base_folder: Path, tmp_path: Path, action: str) -> None:
    prepared = run(unseen_job(tmp_path, base_folder, action))
    (row,) = left_out(prepared)
    assert (row["reason"], row["origin"], row["label"]) == ("unseen_label", "test", "warranty")
    assert row["quarantined"] == (action == "quarantine") == (len(quarantine(prepared)) == 1)
    assert "warranty" not in prepared.labels and prepared.audit["parts"]["test"] == len(HELD)


def test_a_label_whose_training_rows_are_all_left_out_is_unseen_too(base_folder: Path, tmp_path: Path) -> None:
    twice = [{**GOOD[0], "text": "twice", "label": "warranty"}, {**GOOD[0], "text": "twice", "label": "refund"}]
    write_csv(tmp_path / "held.csv", [*HELD, {**HELD[0], "text": "brand new", "label": "warranty"}])
    job = job_of(tmp_path, base_folder, GOOD + twice, data={"test": "held.csv"})
    with pytest.raises(DataError, match=r"held\.csv:22: label never seen in training: 'warranty'"):
        run(job)


# --- parts


def test_too_few_units_for_the_parts(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "customer": f"c{number % 4}"} for number, row in enumerate(GOOD)]
    with pytest.raises(
        DataError, match=r"would be empty: 100 rows fall into 4 units .*data\.group: customer"
    ) as caught:
        run(job_of(tmp_path, base_folder, rows))
    assert "5 parts need many more units" in str(caught.value)
    assert run(job_of(tmp_path, base_folder, rows, folds={"k": 2, "test": "20%"})).audit["rows"]["kept"] == 100


def test_neither_folds_nor_a_test_part(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(job_of(tmp_path, base_folder, GOOD, folds={"k": 0, "test": 0}))
    assert prepared.audit["parts"] == {"train": 100} and prepared.k == 0
    for part, rows in (("train", 100), ("validation", 0), ("test", 0)):
        assert len(prepared.tokens(part)) == prepared.part(part).num_rows == rows


def test_files_of_the_person_s_own_take_the_place_of_folds(base_folder: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "held.csv", HELD)
    write_csv(tmp_path / "mine.csv", corpus_rows(15, seed=6))
    prepared = run(job_of(tmp_path, base_folder, GOOD, data={"test": "held.csv", "validation": "mine.csv"}))
    assert prepared.audit["folds"] == {"-2": 15, "-1": 20, "0": 100} and prepared.k == 0
    assert prepared.audit["parts"] == {"train": 100, "validation": 15, "test": 20}


def test_a_column_that_says_the_part(base_folder: Path, tmp_path: Path) -> None:
    names = ["train", " Training"] + ["dev"] + ["TEST"] + ["train"] * 6
    rows = [{**row, "part": names[number % 10]} for number, row in enumerate(GOOD)]
    rows[5]["part"] = "later"
    prepared = run(job_of(tmp_path, base_folder, rows, data={"split": "part", "group": None}))
    assert prepared.audit["parts"] == {"train": 79, "validation": 10, "test": 10}
    (row,) = left_out(prepared)
    assert (row["reason"], row["line"]) == ("unknown_split", 7) and "later" in row["detail"]
    for row in kept(prepared):
        assert row["fold"] == {"dev": -2, "TEST": -1}.get(names[row["row_id"] % 10], 0)


# --- by time


def dated(rows: list[Row], seed: int = 0) -> list[Row]:
    """Rows with a day each, in no order."""
    days = list(range(len(rows)))
    random.Random(seed).shuffle(days)
    return [{**row, "day": f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}"} for row, day in zip(rows, days, strict=True)]


def by_time(folder: Path, base: Path, rows: list[Row], **folds: Any) -> Prepared:
    return run(job_of(folder, base, rows, data={"time": "day", "group": None}, folds={"order": "time", **folds}))


def test_each_part_is_newer_than_the_one_before(base_folder: Path, tmp_path: Path) -> None:
    rows = dated(GOOD)
    prepared = by_time(tmp_path, base_folder, rows)
    days: dict[int, list[str]] = defaultdict(list)
    for row in kept(prepared):
        days[row["fold"]].append(rows[row["row_id"]]["day"])
    parts = [days[fold] for fold in (0, 1, 2, 3, -1)]
    assert all(max(older) < min(newer) for older, newer in pairwise(parts))
    assert [len(part) for part in parts] == [20, 20, 20, 20, 20]
    assert all(check["crossing"] == 0 for check in prepared.audit["proof"])
    assert "units in order of time" in {check["what"] for check in prepared.audit["proof"]}


def test_the_newest_fold_validates_and_what_is_newer_than_it_waits(base_folder: Path, tmp_path: Path) -> None:
    newest = by_time(tmp_path, base_folder, dated(GOOD))
    assert newest.validation == 3 and newest.audit["parts"] == {"train": 60, "validation": 20, "test": 20}
    second = by_time(tmp_path, base_folder, dated(GOOD), validation=1)
    assert second.reused and second.digest == newest.digest
    assert second.audit["parts"] == {"train": 20, "validation": 20, "later": 40, "test": 20}
    folds = {part: set(second.part(part).column("fold").to_pylist()) for part in ("train", "validation", "test")}
    assert folds == {"train": {0}, "validation": {1}, "test": {-1}}
    assert len(second.tokens("train")) == 20


@pytest.mark.parametrize(
    ("data", "folds", "said"),
    [
        ({"time": "day"}, {"order": "time", "validation": 0}, "fold 0 holds the oldest rows"),
        ({}, {"order": "time"}, "time needs data.time"),
        ({"time": "when"}, {"order": "time"}, "no column 'when'"),
        ({}, {"validation": 7}, "folds are 0 to 3, found 7"),
    ],
)
def test_folds_that_cannot_be(
    base_folder: Path, tmp_path: Path, data: dict[str, Any], folds: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobFileError, match=said):
        run(job_of(tmp_path, base_folder, dated(GOOD), data=data, folds=folds))


def test_rows_without_a_time_are_rejected(base_folder: Path, tmp_path: Path) -> None:
    rows = dated(GOOD)
    rows[3]["day"], rows[4]["day"] = "", "soon"
    prepared = by_time(tmp_path, base_folder, rows)
    assert [(row["line"], row["reason"]) for row in left_out(prepared)] == [(5, "missing_time"), (6, "bad_time")]


# --- what belongs together


def pieces(text: str) -> set[str]:
    """4-letter pieces, as the reference page says it: case, punctuation and spacing aside."""
    letters = " ".join("".join(c for c in text.casefold() if c.isalnum() or c.isspace()).split())
    return {letters[start : start + 4] for start in range(max(1, len(letters) - 3))}


def overlap(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


@st.composite
def families(draw: st.DrawFn) -> list[Row]:
    """Long texts, some of them almost alike, of customers who wrote several; enough loners to fill every part."""
    shuffler = random.Random(draw(st.integers(0, 10**6)))
    rows: list[Row] = []
    for number in range(25):
        words = [f"{shuffler.choice('bcdfgklm')}{shuffler.randint(1000, 9999)}x" for _ in range(12)]
        for copy in range(draw(st.integers(1, 3))):
            changed = [*words[:-1], words[-1] + "s" * copy]
            text = draw(st.sampled_from([" ".join, ", ".join, "  ".join]))(changed)
            customer = draw(st.sampled_from(["", f"c{draw(st.integers(0, 9))}", f"d{number}"]))
            label = draw(st.sampled_from(["refund", "account"]))
            rows.append({"text": text, "label": label, "customer": customer or f"e{len(rows)}"})
    shuffler.shuffle(rows)
    return rows


@settings(max_examples=8)
@given(rows=families(), grouped=st.booleans(), conflicts=st.sampled_from(["report", "quarantine"]))
def test_groups_and_near_duplicates_never_cross(
    base_folder: Path, tmp_path_factory: pytest.TempPathFactory, rows: list[Row], grouped: bool, conflicts: str
) -> None:
    """Compared pair by pair on the written corpus, without the code that assigned the parts."""
    data = {"group": "customer" if grouped else None, "audit": {"conflicts": conflicts, "max_rejected": "90%"}}
    rows = [*rows, *({**row, "customer": f"z{n}"} for n, row in enumerate(corpus_rows(30)))]
    job = job_of(tmp_path_factory.mktemp("families"), base_folder, rows, data=data, folds={"k": 3, "test": "20%"})
    found = kept(run(job))
    assert {row["fold"] for row in found} == {-1, 0, 1, 2}
    unit_folds, group_folds = defaultdict(set), defaultdict(set)
    for row in found:
        unit_folds[row["unit"]].add(row["fold"])
        if grouped:
            group_folds[row["group"]].add(row["fold"])
    assert all(len(folds) == 1 for folds in [*unit_folds.values(), *group_folds.values()])
    known = [(row, pieces(row["text"])) for row in found]
    close = [(a, b) for (a, first), (b, second) in combinations(known, 2) if overlap(first, second) >= 0.85]
    assert all(a["unit"] == b["unit"] and a["fold"] == b["fold"] for a, b in close)


def test_near_duplicates_are_not_looked_for_at_similarity_one(base_folder: Path, tmp_path: Path) -> None:
    prepared = run(job_of(tmp_path, base_folder, GOOD, data={"audit": {"similarity": 1.0}}))
    assert prepared.audit["near_duplicates"]["clusters"] == 0
    assert not [check for check in prepared.audit["proof"] if "pairs" in check["what"]]


def apart(rows: list[Row], **changed: str) -> list[Row]:
    """One row of each customer, changed."""
    return [{**row, **changed} for row in {row["customer"]: row for row in rows}.values()]


def test_rows_that_are_left_out_do_not_join_their_customers(base_folder: Path, tmp_path: Path) -> None:
    """An empty row, a repeated one and a contradicted one of every customer; all of a kind have one text."""
    data = {"audit": {"similarity": 1.0, "max_rejected": "90%"}}
    torn = apart(GOOD, text="torn")
    torn[0]["label"], torn[1]["label"] = "refund", "account"
    gone = [*apart(GOOD, text=" "), *apart(GOOD, text=GOOD[0]["text"], label=GOOD[0]["label"]), *torn]
    plain = run(job_of(tmp_path / "plain", base_folder, GOOD, data=data))
    prepared = run(job_of(tmp_path / "more", base_folder, GOOD + gone, data=data))
    customers = len({row["customer"] for row in GOOD})
    assert prepared.audit["rows"]["rejected"] == {"blank_text": customers, "duplicate": customers}
    assert prepared.audit["rows"]["quarantined"] == {"conflicting_labels": customers}
    assert len({row["unit"] for row in kept(prepared)}) == customers
    alike = [[(row["text"], row["unit"], row["fold"]) for row in kept(each)] for each in (plain, prepared)]
    assert alike[0] == alike[1]
    assert all(check["crossing"] == 0 for check in prepared.audit["proof"])


def test_a_row_that_is_left_out_still_joins_the_texts_that_are_like_it(base_folder: Path, tmp_path: Path) -> None:
    """A search that found first ~ middle and middle ~ last need not have compared first and last."""
    words = [f"{letter}{number}x" for number, letter in enumerate("bcdfgklm" * 5, start=1000)]
    texts = [
        " ".join(words),
        " ".join([*words[:-2], "other", "end"]),
        " ".join(["begin", "anew", *words[2:-2], "other", "end"]),
    ]
    assert [overlap(pieces(a), pieces(b)) >= 0.85 for a, b in combinations(texts, 2)] == [True, False, True]
    labels = ["refund", "refund", "account", "refund"]
    rows = [
        {"text": text, "label": label, "customer": f"own{number}"}
        for number, (text, label) in enumerate(zip([texts[0], texts[1], texts[1], texts[2]], labels, strict=True))
    ]
    prepared = run(job_of(tmp_path, base_folder, GOOD + rows, data={"audit": {"similarity": 0.85}}))
    assert prepared.audit["rows"]["quarantined"] == {"conflicting_labels": 2}
    first, last = (row for row in kept(prepared) if row["group"] in {"own0", "own3"})
    assert first["unit"] == last["unit"] and first["fold"] == last["fold"]


def test_a_row_left_out_for_its_label_does_not_join_customers_either(base_folder: Path, tmp_path: Path) -> None:
    """All words of a topic tell the labels apart even with random weights."""
    rows = [
        {"text": f"{' '.join(words[n % 7 :] + words[: n % 7])} {n}", "label": label, "customer": f"{label}{n}"}
        for label, words in TOPICS.items()
        for n in range(30)
    ]
    others = rows[:-5:-1]
    rows += [
        {**row, "label": other["label"], "customer": other["customer"]}
        for row, other in zip(rows, others, strict=False)
    ]
    audit = {"wrong_labels": "drop", "conflicts": "report", "similarity": 1.0, "max_rejected": "20%"}
    prepared = run(job_of(tmp_path, base_folder, rows, data={"audit": audit}))
    gone = {row["row_id"] for row in left_out(prepared)}
    assert gone & set(range(120, 124))
    unit = {row["group"]: row["unit"] for row in kept(prepared)}
    for place, other in enumerate(others):
        joined = unit.get(rows[place]["customer"], -1) == unit.get(other["customer"], -2)
        assert joined == (not gone & {place, 120 + place})


# --- stable


def test_the_order_of_rows_and_files_moves_no_row(base_folder: Path, tmp_path: Path) -> None:
    rows = corpus_rows(200)
    first = fold_of(run(job_of(tmp_path / "a", base_folder, rows)))
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    assert fold_of(run(job_of(tmp_path / "b", base_folder, shuffled))) == first
    write_csv(tmp_path / "c/more.csv", shuffled[90:])
    data = {"train": ["more.csv", "rows.csv"]}
    assert fold_of(run(job_of(tmp_path / "c", base_folder, shuffled[:90], data=data))) == first


@pytest.mark.parametrize(("group", "most"), [(None, 0.1), ("customer", 0.25)])
def test_a_tenth_more_rows_move_few_of_the_old(
    base_folder: Path, tmp_path: Path, group: str | None, most: float
) -> None:
    """Measured: 2%; 22% where all rows are in groups of three, which are placed for balance too. At random: 80%."""
    rows = corpus_rows(1100, seed=3)
    old, new = (
        fold_of(run(job_of(tmp_path / str(size), base_folder, rows[:size], data={"group": group})))
        for size in (1000, 1100)
    )
    moved = sum(new[text] != fold for text, fold in old.items())
    assert len(old) == 1000 and moved < most * len(old)
    sizes = [sum(fold == number for fold in new.values()) for number in (-1, 0, 1, 2, 3)]
    assert all(math.isclose(size, 220, abs_tol=25) for size in sizes)


def test_another_seed_is_another_draw(base_folder: Path, tmp_path: Path) -> None:
    first, second = (
        fold_of(run(job_of(tmp_path / str(seed), base_folder, GOOD, folds={"seed": seed}))) for seed in (7, 8)
    )
    assert sum(first[text] != second[text] for text in first) > 30
