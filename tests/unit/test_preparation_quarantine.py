"""The way back: whatever was set aside is mended in quarantine.csv, handed in, and is the row that it was."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.preparation.prepared import Prepared
from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import job_of, kept, left_out, quarantine, run, write_lines

SAID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=25).map(lambda text: f"a{text}z")
NASTY = ['say "no", twice', "two\nlines\r\nthree", "NULL", "=1+1", "zażółć 你好 🙂", "semi;colon|tab\tend", "'quoted'"]
CELL = st.sampled_from(NASTY) | SAID
FIELDS = ("origin", "text", "label", "record", "group", "time")  # what a row says, wherever it stands


def contradicting(texts: list[str], labels: list[str], groups: list[str]) -> list[dict[str, str]]:
    """Each text under two labels."""
    return [
        {"utterance": f"{text} {number}", "intent": f"{label}{copy}", "who": f"{group}{number}"}
        for number, (text, label, group) in enumerate(zip(texts, labels, groups, strict=False))
        for copy in "ab"
    ]


def named(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of the good corpus under the names of a person's own columns."""
    return [{"utterance": row["text"], "intent": row["label"], "who": row["customer"]} for row in rows]


def mend_and_hand_in(folder: Path, base: Path, first: Prepared, drop: int = 1, **sections: Any) -> Prepared:
    """Take every second line out of quarantine.csv, put the rest beside the rows that were kept, prepare again."""
    with first.folder.quarantine.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    with (folder / "mended.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *lines[:: 1 + drop]])
    data: dict[str, Any] = {**sections.pop("data"), "train": ["good.csv", "mended.csv"]}
    return run(job_of(folder, base, data=data, **sections))


def said(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in FIELDS) for row in rows]


@settings(max_examples=6)
@given(texts=st.lists(CELL, min_size=1, max_size=4), labels=st.lists(CELL, min_size=4, max_size=4))
def test_texts_labels_and_groups_come_back(
    base_folder: Path, tmp_path_factory: pytest.TempPathFactory, texts: list[str], labels: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("aside")
    good, bad = named(corpus_rows(40)), contradicting(texts, labels, labels[::-1])
    write_csv(folder / "good.csv", good)
    write_csv(folder / "bad.csv", bad)
    data: dict[str, Any] = {"train": ["good.csv", "bad.csv"], "text": "utterance", "label": "intent", "group": "who"}
    data["audit"] = {"max_rejected": "50%"}
    first = run(job_of(folder, base_folder, data=data))
    aside = quarantine(first)
    assert len(aside) == len(bad) == len(left_out(first))
    assert list(aside[0]) == ["file", "line", "reason", "detail", "utterance", "intent", "who"]
    again = mend_and_hand_in(folder, base_folder, first, data=data)
    assert again.audit["rows"] == {"read": 40 + len(texts), "kept": 40 + len(texts), "rejected": {}, "quarantined": {}}
    assert said(kept(again)[40:]) == said(left_out(first)[::2])


def test_every_line_says_where_the_row_stands_and_why(base_folder: Path, tmp_path: Path) -> None:
    rows = [
        *corpus_rows(40),
        {"text": "x y", "label": "a", "customer": "q"},
        {"text": "X y", "label": "b", "customer": "q"},
    ]
    first = run(job_of(tmp_path, base_folder, rows, data={"audit": {"max_rejected": "10%"}}))
    one, two = quarantine(first)
    assert (one["file"], one["line"], one["reason"]) == (str(tmp_path / "rows.csv"), "42", "conflicting_labels")
    assert (one["text"], one["label"], one["customer"]) == ("x y", "a", "q")
    assert one["detail"].endswith("rows.csv:43") and two["detail"].endswith("rows.csv:42")


def test_columns_that_are_called_as_ours(base_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "reason": row["label"]} for row in corpus_rows(40)]
    rows += [{"text": "x y", "reason": label} for label in "ab"]
    write_csv(tmp_path / "good.csv", rows[:40])
    write_csv(tmp_path / "bad.csv", rows[40:])
    data: dict[str, Any] = {
        "train": ["good.csv", "bad.csv"],
        "label": "reason",
        "group": None,
        "audit": {"max_rejected": "10%"},
    }
    first = run(job_of(tmp_path, base_folder, data=data))
    assert list(quarantine(first)[0]) == ["file", "line", "reason (raysft)", "detail", "text", "reason"]
    assert mend_and_hand_in(tmp_path, base_folder, first, data=data).audit["rows"]["kept"] == 41


def test_times_and_parts_come_back(base_folder: Path, tmp_path: Path) -> None:
    good = [
        {**row, "day": f"2024-01-{1 + n % 28:02d}T10:00:00.25", "part": "train"}
        for n, row in enumerate(corpus_rows(40))
    ]
    bad = [{**good[0], "text": "x y", "label": label, "customer": "q"} for label in "ab"]
    write_csv(tmp_path / "good.csv", [*good, {**good[0], "text": "held", "customer": "h", "part": "dev"}])
    write_csv(tmp_path / "bad.csv", bad)
    data: dict[str, Any] = {
        "train": ["good.csv", "bad.csv"],
        "time": "day",
        "split": "part",
        "audit": {"max_rejected": "10%"},
    }
    first = run(job_of(tmp_path, base_folder, data=data))
    again = mend_and_hand_in(tmp_path, base_folder, first, data=data)
    assert said(kept(again)[-1:]) == said(left_out(first)[:1])
    assert kept(again)[-1]["time"] % 1 == 0.25


@pytest.mark.parametrize("separator", [None, " / "])
def test_several_labels_come_back(base_folder: Path, tmp_path: Path, separator: str | None) -> None:
    mark = separator or "|"
    good = [{"text": row["text"], "label": f"urgent{mark}{row['label']}"} for row in corpus_rows(40)]
    write_csv(tmp_path / "good.csv", good)
    name = "refund, all of it" if separator else "refund for all"  # a comma beside | would be a question
    bad = [{"text": "x y", "label": label} for label in (f"urgent{mark}{name}", "refund")]
    write_csv(tmp_path / "bad.csv", bad)
    data: dict[str, Any] = {
        "train": ["good.csv", "bad.csv"],
        "group": None,
        "multi_label": True,
        "label_separator": separator,
    }
    data["audit"] = {"max_rejected": "10%"}
    first = run(job_of(tmp_path, base_folder, data=data))
    again = mend_and_hand_in(tmp_path, base_folder, first, data=data)
    assert kept(again)[-1]["label"] == f'["{name}","urgent"]'


def test_spans_come_back(base_folder: Path, tmp_path: Path) -> None:
    good = [{"text": f"hello ann {n} of bern", "spans": json.dumps([[6, 9, "PER"]])} for n in range(40)]
    write_csv(tmp_path / "good.csv", good)
    bad = [{"text": " Größe of Bern", "spans": json.dumps([[10, 14, name]])} for name in ("LOC", "ORG")]
    write_csv(tmp_path / "bad.csv", bad)
    data: dict[str, Any] = {
        "train": ["good.csv", "bad.csv"],
        "group": None,
        "audit": {"max_rejected": "10%", "similarity": 1.0},
    }
    first = run(job_of(tmp_path, base_folder, data=data, task="token-classification"))
    again = mend_and_hand_in(tmp_path, base_folder, first, data=data, task="token-classification")
    assert said(kept(again)[-1:]) == said(left_out(first)[:1])
    assert kept(again)[-1]["label"] == '[[9,13,"LOC"]]'


MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo\nyo"},
]
CHATS: dict[str, dict[str, Any]] = {
    "prompt and answer": {"prompt": "who, me?", "completion": 'say "yes"'},
    "messages": {"messages": MESSAGES},
    "one question": {"messages": MESSAGES[1:]},
    "instruction with input": {"instruction": "add", "input": "1, 2", "output": "3"},
}


@pytest.mark.parametrize("name", list(CHATS))
def test_conversations_come_back(base_folder: Path, tmp_path: Path, name: str) -> None:
    row = CHATS[name]
    first_key = next(iter(row))
    others = []
    for number in range(40):
        asked = f"question {number} of {number * 7919}"
        chat = [{"role": "user", "content": asked}, MESSAGES[-1]]
        others.append({**row, first_key: chat if first_key == "messages" else asked})
    write_lines(tmp_path / "good.jsonl", others)
    write_lines(tmp_path / "bad.jsonl", [row, row])
    data: dict[str, Any] = {"train": ["good.jsonl", "bad.jsonl"], "group": None}
    data["audit"] = {"duplicates": "quarantine", "max_rejected": "10%", "similarity": 1.0}
    first = run(job_of(tmp_path, base_folder, data=data, task="generation"))
    assert len(quarantine(first)) == 1
    shutil.copyfile(first.folder.quarantine, tmp_path / "aside.csv")
    data["train"] = ["good.jsonl", "aside.csv"]
    again = run(job_of(tmp_path, base_folder, data=data, task="generation"))
    assert said(kept(again)[-1:]) == said(left_out(first))
