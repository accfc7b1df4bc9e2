"""Columns are found by name where it is obvious, and asked for where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysft.config.sections import DataSection
from raysft.errors import DataError, JobFileError, Problem
from raysft.reading.columns import Columns, resolve_columns
from raysft.reading.records import read_batches
from raysft.reading.sources import Source, find_sources
from tests.support.reading import write


def problem(key: str, text: str) -> JobFileError:
    return JobFileError([Problem("job.yaml:1", key, text)])


def resolve(folder: Path, task: str, headers: list[list[str]], **data: Any) -> Columns:
    """The columns of files with these headers."""
    files = []
    for number, names in enumerate(headers):
        content = json.dumps(dict.fromkeys(names, "a"))
        files.append(write(folder, content, f"{number}.jsonl").name)
    section = DataSection.model_validate({"train": files, **data})
    return resolve_columns(section, task, find_sources(section, folder, str), problem)


FOUND = [
    ("classification", ["text", "label"], ("text", "label", None)),
    ("classification", ["text", "category"], ("text", "category", None)),
    ("classification", ["sentence", "label"], ("sentence", "label", None)),
    ("classification", ["id", "Message", "Intent", "customer"], ("Message", "Intent", None)),
    ("classification", ["text", "label", "label_text", "title", "topic"], ("text", "label", None)),
    ("token-classification", ["id", "tokens", "pos_tags", "chunk_tags", "ner_tags"], ("tokens", "ner_tags", None)),
    ("token-classification", ["tokens", "tags"], ("tokens", "tags", None)),
    ("token-classification", ["text", "spans"], ("text", "spans", None)),
    ("token-classification", ["text", "entities", "id"], ("text", "entities", None)),
    ("generation", ["question", "answer"], ("question", "answer", "system")),
    ("generation", ["prompt", "completion"], ("prompt", "completion", "system")),
    ("generation", ["instruction", "input", "output"], ("instruction", "output", "input")),
    ("generation", ["messages", "system_prompt"], ("messages", None, "system_prompt")),
    ("generation", ["id", "conversations"], ("conversations", None, "system")),
]


@pytest.mark.parametrize(("task", "names", "expected"), FOUND)
def test_obvious_columns_are_found(
    tmp_path: Path, task: str, names: list[str], expected: tuple[str, str | None, str | None]
) -> None:
    found = resolve(tmp_path, task, [names])
    assert (found.text, found.label, found.context) == expected
    assert found.guessed == tuple(
        role for role, name in zip(("text", "label", "context"), expected, strict=True) if name in names
    )


ASKED = [
    ("classification", ["a", "b"], "data.text", "no column is clearly the text"),
    ("classification", ["question", "body", "label"], "data.text", "more than one column may be the text"),
    ("classification", ["text", "intent", "category"], "data.label", "more than one column may be the label"),
    ("classification", ["text", "b"], "data.text", "no column is clearly"),
    ("token-classification", ["tokens", "ner_tags", "text", "spans"], "data.text", "more than one column may be"),
    ("token-classification", ["text"], "data.text", "no column is clearly the text or its tokens"),
    ("generation", ["messages", "prompt", "answer"], "data.text", "more than one column may be the prompt or"),
    ("generation", ["prompt", "answer", "output"], "data.label", "more than one column may be the answer"),
    ("generation", ["text"], "data.text", "no column is clearly the prompt or the messages"),
]


@pytest.mark.parametrize(("task", "names", "key", "said"), ASKED)
def test_what_is_not_obvious_is_asked_for(tmp_path: Path, task: str, names: list[str], key: str, said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        resolve(tmp_path, task, [names])
    (asked,) = caught.value.problems
    assert asked.key == key and said in asked.text
    assert f"it has: {', '.join(names)}" in asked.text.replace("has:", "it has:") and f"with {key}" in asked.text


def test_written_names_count_and_the_other_is_found(tmp_path: Path) -> None:
    names = ["text", "title", "label", "customer", "day", "part"]
    found = resolve(tmp_path, "classification", [names], text="title", group="customer", time="day", split="part")
    assert found == Columns("title", "label", None, "customer", "day", "part", guessed=("label",))
    found = resolve(tmp_path, "classification", [["a", "b"]], text="a", label="b")
    assert found == Columns("a", "b")


def test_a_chat_needs_no_label_and_a_prompt_does(tmp_path: Path) -> None:
    assert resolve(tmp_path, "generation", [["messages", "prompt"]], text="messages").label is None
    assert resolve(tmp_path, "generation", [["turns", "id"]], text="turns").label is None
    found = resolve(tmp_path, "generation", [["a", "answer"]], text="a")
    assert (found.label, found.guessed) == ("answer", ("label",))  # no row has a context yet
    found = resolve(
        tmp_path, "generation", [["instruction", "input", "b"]], text="instruction", label="b", context="input"
    )
    assert found == Columns("instruction", "b", "input")


@pytest.mark.parametrize("role", ["text", "label", "context", "group", "time", "split"])
def test_a_written_name_that_one_file_lacks_is_named_with_what_is_there(tmp_path: Path, role: str) -> None:
    headers = [["text", "label", "other"], ["text", "label"]]
    with pytest.raises(JobFileError) as caught:
        resolve(tmp_path, "classification", headers, **{role: "other"})
    (found,) = caught.value.problems
    assert found.key == f"data.{role}"
    assert found.text == f"no column 'other' in {tmp_path / '1.jsonl'}; it has: text, label"


def test_a_name_is_found_only_where_every_file_has_it(tmp_path: Path) -> None:
    found = resolve(tmp_path, "classification", [["text", "topic", "label"], ["text", "topic"]])
    assert (found.text, found.label) == ("text", "topic")
    with pytest.raises(JobFileError, match="no column is clearly the text"):
        resolve(tmp_path, "classification", [["text", "label"], ["sentence", "label"]])


# --- context, which rows and files may have or lack


def found_in(folder: Path, task: str, files: dict[str, str], **data: Any) -> tuple[Columns, list[Source]]:
    """Columns and sources of files with this content."""
    for name, content in files.items():
        write(folder, content, name)
    section = DataSection.model_validate({"train": list(files), **data})
    sources = find_sources(section, folder, str)
    return resolve_columns(section, task, sources, problem), sources


def lines(count: int, **row: Any) -> str:
    return (json.dumps(row) + "\n") * count


@pytest.mark.parametrize("rows", [120, 12_000])
def test_input_that_later_rows_have_is_read(tmp_path: Path, rows: int) -> None:
    content = lines(rows, instruction="a", output="b") + lines(120, instruction="a", output="b", input="more")
    columns, (source,) = found_in(tmp_path, "generation", {"a.jsonl": content})
    cells = [cell for batch in read_batches(source, columns) for cell in batch.cells["context"]]
    assert cells == [None] * rows + ["more"] * 120


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_input_that_one_file_has_is_read_there(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        files = {"a.csv": "instruction,output\na,b\n", "b.csv": "instruction,input,output\na,more,b\n"}
    else:
        files = {"a.jsonl": lines(1, instruction="a", output="b")}
        files["b.jsonl"] = lines(1, instruction="a", output="b", input="more")
    columns, sources = found_in(tmp_path, "generation", files)
    cells = [batch.cells.get("context", [None]) for source in sources for batch in read_batches(source, columns)]
    assert (columns.context, cells) == ("input", [[None], ["more"]])


def test_tables_without_context_have_none(tmp_path: Path) -> None:
    assert found_in(tmp_path, "generation", {"a.csv": "question,answer\na,b\n"})[0].context is None


def test_of_two_contexts_one_must_be_named(tmp_path: Path) -> None:
    files = {"a.jsonl": lines(1, instruction="a", output="b", input="c", system="d")}
    with pytest.raises(JobFileError, match=r"data\.context: input, system: one column can be read"):
        found_in(tmp_path, "generation", files)
    assert found_in(tmp_path, "generation", files, context="system")[0].context_is_system


def test_a_label_that_the_first_rows_lack_is_found(tmp_path: Path) -> None:
    content = lines(150, text="a") + lines(5, text="a", label="x")
    assert found_in(tmp_path, "classification", {"a.jsonl": content})[0].label == "label"
    array = json.dumps([{"text": "a"}] * 150 + [{"text": "a", "kind": "x"}])
    assert found_in(tmp_path, "classification", {"a.json": array}, label="kind")[0].label == "kind"
    with pytest.raises(JobFileError, match="no column is clearly the text"):
        found_in(tmp_path, "classification", {"a.jsonl": lines(150, text="a")})


def test_a_name_that_stands_there_twice_is_refused_where_it_counts(tmp_path: Path) -> None:
    write(tmp_path, "text,label,note,note\na,x,1,2\n", "a.csv")
    section = DataSection.model_validate({"train": "a.csv"})
    sources = find_sources(section, tmp_path, str)
    assert resolve_columns(section, "classification", sources, problem).label == "label"
    section = DataSection.model_validate({"train": "a.csv", "label": "note"})
    with pytest.raises(JobFileError, match=r"2 columns of .* are called 'note'"):
        resolve_columns(section, "classification", sources, problem)


def test_formats_with_fixed_columns(tmp_path: Path) -> None:
    write(tmp_path, "a\tO\n", "a.conll")
    write(tmp_path, "text,ner\na,O\n", "a.csv")
    section = DataSection.model_validate({"train": "a.conll"})
    found = resolve_columns(section, "token-classification", find_sources(section, tmp_path, str), problem)
    assert found == Columns("text", "label", guessed=("text", "label"))
    for role, name in (("label", "ner"), ("group", "customer")):
        section = DataSection.model_validate({"train": "a.conll", role: name})
        with pytest.raises(JobFileError, match=rf"data\.{role}: no column '{name}' in .*a\.conll; it has: text, label"):
            resolve_columns(section, "token-classification", find_sources(section, tmp_path, str), problem)
    section = DataSection.model_validate({"train": "a.conll", "test": "a.csv", "label": "ner"})
    found = resolve_columns(section, "token-classification", find_sources(section, tmp_path, str), problem)
    assert (found.text, found.label) == ("text", "ner")


def test_a_file_without_columns_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "\n \n", "a.jsonl")
    section = DataSection.model_validate({"train": "a.jsonl"})
    with pytest.raises(DataError, match=r"a\.jsonl: no row with named columns"):
        resolve_columns(section, "classification", find_sources(section, tmp_path, str), problem)


def test_a_header_is_found_without_reading_the_file(tmp_path: Path) -> None:
    """A hole of 100 GB stands behind the first rows; reading it would not end."""
    for name, content in (("a.csv", "text,label\na,x\n"), ("a.jsonl", '{"text": "a", "label": "x"}\n' * 200)):
        with write(tmp_path, content, name).open("ab") as file:
            file.truncate(100 << 30)
        section = DataSection.model_validate({"train": name})
        assert (
            resolve_columns(section, "classification", find_sources(section, tmp_path, str), problem).label == "label"
        )
