"""Every task from a file to its tokens: classes, tags and answers are those computed by hand from what was written."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raysft.errors import DataError
from raysft.preparation.prepared import Prepared
from tests.support.jobs import TOPICS, corpus_rows, write_csv
from tests.support.preparing import finding, job_of, kept, left_out, run, write_lines
from tests.support.tokenizers import unlimited, write_bytes_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALONE: dict[str, Any] = {"group": None}


def encoded(prepared: Prepared) -> dict[int, dict[str, Any]]:
    """row_id -> input_ids, label and targets, of all shards."""
    return {row["row_id"]: row for row in every_piece(prepared)}


def every_piece(prepared: Prepared) -> list[dict[str, Any]]:
    """The rows of all shards, of which a text may have several."""
    files = [file for sealed in (False, True) for file in sorted(prepared.folder.tokens(sealed).glob("*.arrow"))]
    tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]
    return [row for table in tables for row in table.to_pylist()]


# --- several labels


@pytest.mark.parametrize("form", ["json lines", "separator", "own separator"])
def test_several_labels(base_folder: Path, tmp_path: Path, form: str) -> None:
    sets = [["refund"], ["urgent", "refund"], ["account", "urgent"], ["delivery", "refund", "urgent", "refund"]]
    rows = [{"text": row["text"], "labels": sets[n % 4]} for n, row in enumerate(corpus_rows(80))]
    data: dict[str, Any] = {**ALONE, "multi_label": True}
    if form == "json lines":
        data["train"] = str(write_lines(tmp_path / "rows.jsonl", rows))
    else:
        mark = ";" if form == "separator" else " + "
        joined = [{"text": str(row["text"]), "labels": mark.join(row["labels"])} for row in rows]
        data |= {"train": str(write_csv(tmp_path / "sets.csv", joined))}
        data |= {"label_separator": mark} if form == "own separator" else {}
    prepared = run(job_of(tmp_path, base_folder, data=data))
    assert prepared.labels == ("account", "delivery", "refund", "urgent")
    found = encoded(prepared)
    for row in kept(prepared):
        expected = sorted({prepared.labels.index(name) for name in sets[row["row_id"] % 4]})
        assert (found[row["row_id"]]["targets"], found[row["row_id"]]["label"]) == (expected, -1)
    counts = {name: sum(parts.values()) for name, parts in prepared.audit["labels"].items()}
    assert counts == {"refund": 60, "urgent": 60, "account": 20, "delivery": 20}
    for parts in prepared.audit["labels"].values():
        assert all(abs(n / sum(parts.values()) - 0.2) < 0.1 for n in parts.values())


def test_a_label_of_several_that_training_lacks(base_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "labels": f"urgent;{row['label']}"} for row in corpus_rows(80)]
    write_csv(tmp_path / "sets.csv", rows)
    write_csv(tmp_path / "held.csv", [{"text": "one", "labels": "urgent"}, {"text": "two", "labels": "urgent;lost"}])
    data = {**ALONE, "train": "sets.csv", "test": "held.csv", "multi_label": True, "audit": {"unseen_labels": "drop"}}
    prepared = run(job_of(tmp_path, base_folder, data=data))
    assert [(row["line"], row["reason"]) for row in left_out(prepared)] == [(3, "unseen_label")]
    assert "lost" not in prepared.labels


# --- tags

SENTENCES = [
    [("ann", "B-PER"), ("lives", "O"), ("at", "O"), ("new", "B-LOC"), ("york", "I-LOC"), (".", "O")],
    [("the", "O"), ("größe", "O"), ("of", "O"), ("bern", "B-LOC"), ("ann", "B-PER"), ("bob", "B-PER")],
    [("nothing", "O"), ("here", "O")],
    [("O'Neil", "B-PER"), ("Smith-Jones", "I-PER"), ("!", "O")],
]


def tagged_rows(count: int) -> list[list[tuple[str, str]]]:
    """Each sentence again and again, with a number that makes it another one."""
    return [[*SENTENCES[n % len(SENTENCES)], (f"x{n * 7919}", "O")] for n in range(count)]


def as_conll(rows: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(f"{token}\t{tag}\n" for token, tag in row) for row in rows)


def as_spans(rows: list[list[tuple[str, str]]]) -> list[dict[str, Any]]:
    """Text and spans by characters, counted here."""
    found = []
    for row in rows:
        spans: list[list[Any]] = []
        size = 0
        for token, tag in row:
            if tag.startswith("I-"):
                spans[-1][1] = size + len(token)
            elif tag != "O":
                spans.append([size, size + len(token), tag[2:]])
            size += len(token) + 1
        found.append({"text": " ".join(token for token, _ in row), "spans": spans})
    return found


@pytest.mark.parametrize("form", ["conll", "spans", "tokens"])
def test_tags(base_folder: Path, tmp_path: Path, form: str) -> None:
    rows = tagged_rows(60)
    if form == "conll":
        file = tmp_path / "rows.conll"
        file.write_text(as_conll(rows), encoding="utf-8")
    elif form == "spans":
        file = write_lines(tmp_path / "rows.jsonl", as_spans(rows))
    else:
        words = [{"tokens": [t for t, _ in row], "ner_tags": [tag for _, tag in row]} for row in rows]
        file = write_lines(tmp_path / "rows.jsonl", words)
    data = {**ALONE, "train": str(file), "audit": {"similarity": 1.0}}
    prepared = run(job_of(tmp_path, base_folder, data=data, task="token-classification", model={"max_length": 16}))
    assert prepared.labels == ("LOC", "PER") and prepared.audit["rows"]["kept"] == 60
    names = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    tokenizer = unlimited(base_folder / "tokenizer.json")
    windows = every_piece(prepared)
    assert all(len(window["input_ids"]) <= 16 for window in windows) and len(windows) > 60
    found: dict[int, list[int]] = defaultdict(list)  # tags of the tokens of each text, over its windows
    for window in windows:
        found[window["row_id"]] += [number for number in window["targets"] if number >= 0]
    assert sorted(found) == list(range(60))
    for number, row in enumerate(rows):
        encoding = tokenizer.encode(" ".join(token for token, _ in row))
        word_of: dict[int, int] = {}  # character -> word
        size = 0
        for place, (token, _) in enumerate(row):
            word_of |= dict.fromkeys(range(size, size + len(token)), place)
            size += len(token) + 1
        expected, last = [], -1
        for start, _ in encoding.offsets[1:-1]:
            tag = row[word_of[start]][1]
            # A word may be several tokens: all but the first of an entity are inside of it.
            goes_on = tag.startswith("B-") and word_of[start] == last
            expected.append(names.index("I-" + tag[2:] if goes_on else tag))
            last = word_of[start]
        assert [tag % len(names) for tag in found[number]] == expected, row
    assert prepared.audit["lengths"]["cut"] == 0 < finding(prepared, "pieces")["found"]


def test_no_entity_at_all(base_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.conll").write_text(as_conll([[("a", "O"), (f"w{n}", "O")] for n in range(30)]), encoding="utf-8")
    job = job_of(tmp_path, base_folder, data={**ALONE, "train": "rows.conll"}, task="token-classification")
    with pytest.raises(DataError, match=r"data\.label: no row has an entity"):
        run(job)


# --- answers


@pytest.fixture
def chat_base(base_folder: Path, tmp_path: Path) -> Path:
    """The tiny base with a tokenizer that can give every text back."""
    base = shutil.copytree(base_folder, tmp_path / "base")
    write_bytes_tokenizer(base / "tokenizer.json")
    return base


def learnt(prepared: Prepared, base: Path, row_id: int) -> tuple[str, str]:
    """(all that a row's tokens say, what is learnt of it)."""
    row, tokenizer = encoded(prepared)[row_id], unlimited(base / "tokenizer.json")
    answers = [token for token, counts in zip(row["input_ids"], row["targets"], strict=True) if counts]
    whole, part = (tokenizer.decode(ids, skip_special_tokens=False) for ids in (row["input_ids"], answers))
    return whole, part


@pytest.mark.parametrize("place", ["none", "chat_template.jinja", "tokenizer_config.json"])
def test_questions_and_answers(chat_base: Path, tmp_path: Path, place: str) -> None:
    rows = [
        {"question": f"{a} eggs at ${a * 7} each — how much?", "answer": f"<<{a}*{a * 7}>>\n#### {a * a * 7}"}
        for a in range(2, 50)
    ]
    if place == "chat_template.jinja":
        (chat_base / place).write_text(CHATML, encoding="utf-8")
    elif place == "tokenizer_config.json":
        (chat_base / place).write_text(json.dumps({"chat_template": CHATML}), encoding="utf-8")
    data = {**ALONE, "train": str(write_lines(tmp_path / "gsm.jsonl", rows)), "audit": {"similarity": 1.0}}
    prepared = run(job_of(tmp_path, chat_base, data=data, task="generation", model={"max_length": 256}))
    assert (prepared.audit["columns"]["text"], prepared.audit["columns"]["label"]) == ("question", "answer")
    assert prepared.labels == () and prepared.audit["labels"] == {}
    for number, row in enumerate(rows):
        whole, part = learnt(prepared, chat_base, number)
        if place == "none":
            assert whole == f"<|user|>\n{row['question']}\n<|assistant|>\n{row['answer']}\n"
            assert part == row["answer"] + "\n"
        else:
            turns = (("user", row["question"]), ("assistant", row["answer"]))
            assert whole == "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
            assert part == row["answer"] + "<|im_end|>\n"


def test_chats_learn_every_answer_of_the_assistant(chat_base: Path, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": f"what of {n}?"},
                {"role": "assistant", "content": f"it is {n} 🙂"},
                {"role": "user", "content": "sure?"},
                {"role": "assistant", "content": f"yes, {n * n}"},
            ]
        }
        for n in range(30)
    ]
    rows.append({"messages": [{"role": "user", "content": "nobody answers"}]})
    data = {**ALONE, "train": str(write_lines(tmp_path / "chats.jsonl", rows)), "audit": {"similarity": 1.0}}
    prepared = run(job_of(tmp_path, chat_base, data=data, task="generation", model={"max_length": 512}))
    assert [(row["line"], row["reason"]) for row in left_out(prepared)] == [(31, "no_answer")]
    for row in kept(prepared):
        n = row["row_id"]
        assert learnt(prepared, chat_base, n)[1] == f"it is {n} 🙂\nyes, {n * n}\n"
        assert row["label"] == f"yes, {n * n}" and row["text"] == f"be brief\nwhat of {n}?\nit is {n} 🙂\nsure?"


def test_the_same_question_may_have_several_answers(chat_base: Path, tmp_path: Path) -> None:
    """Neither a contradiction nor, under another answer, a duplicate; but never in two parts."""
    rows = [{"prompt": f"say {topic} {n // 2}", "completion": f"{topic} {n}"} for topic in TOPICS for n in range(12)]
    rows.append(rows[0])
    data = {**ALONE, "train": str(write_lines(tmp_path / "qa.jsonl", rows)), "audit": {"similarity": 1.0}}
    prepared = run(job_of(tmp_path, chat_base, data=data, task="generation"))
    assert prepared.audit["rows"]["rejected"] == {"duplicate": 1}
    assert "conflicts" not in {each["name"] for each in prepared.audit["findings"]}
    folds: dict[str, set[int]] = {}
    for row in kept(prepared):
        folds.setdefault(row["text"], set()).add(row["fold"])
    assert len(folds) == 24 and all(len(each) == 1 for each in folds.values())


def test_a_chat_that_the_template_refuses_is_left_out_and_the_rest_is_learnt(chat_base: Path, tmp_path: Path) -> None:
    alternate = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m.content }}\n{% endfor %}"
    )
    (chat_base / "chat_template.jinja").write_text(alternate, encoding="utf-8")
    chats = [[("user", f"what of {n}?"), ("assistant", f"it is {n}")] for n in range(30)]
    chats[7].insert(0, ("user", "hello"))
    rows = [{"messages": [{"role": role, "content": said} for role, said in chat]} for chat in chats]
    data = {**ALONE, "train": str(write_lines(tmp_path / "chats.jsonl", rows)), "audit": {"similarity": 1.0}}
    prepared = run(job_of(tmp_path, chat_base, data=data, task="generation"))
    (refused,) = left_out(prepared)
    assert (refused["line"], refused["reason"]) == (8, "template_refuses")
    assert "Conversation roles must alternate" in refused["detail"]
    assert prepared.audit["rows"]["kept"] == 29


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ loop.last and m.content or '...' }}\n{% endfor %}",
        "{{ ''.__class__.__mro__ }}{% for m in messages %}{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_that_will_not_do(chat_base: Path, tmp_path: Path, source: str) -> None:
    (chat_base / "chat_template.jinja").write_text(source, encoding="utf-8")
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    rows = [{"messages": [{"role": role, "content": f"{text}{n}"} for role, text in turns]} for n in range(30)]
    data = {**ALONE, "train": str(write_lines(tmp_path / "chats.jsonl", rows)), "audit": {"similarity": 1.0}}
    with pytest.raises(DataError, match=r"no usable row: 30 read, all rejected \(template_refuses 30\)"):
        run(job_of(tmp_path, chat_base, data=data, task="generation"))
    assert not [each for each in (tmp_path / "out/data").iterdir() if each.is_dir()]
