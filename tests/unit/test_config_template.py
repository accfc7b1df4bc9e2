"""The job file that `raysft init` writes loads, whatever the file and its columns are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.config import JobConfig, load_job
from raysft.config.template import chat_text, job_text, run_name

HOSTILE = [
    "two words",
    "it's",
    'so "called"',
    "a: b",
    "a #b",
    "#b",
    "-dash",
    "- item",
    "ünï¢ode 🙂 مرحبا",
    "no",
    "Null",
    "~",
    "3e-4",
    "2026-01-31",
    "1.10",
    "007",
    "{braces}",
    "[list]",
    "&anchor",
    "*alias",
    "!tag",
    "%percent",
    "@at",
    "`tick",
    "| pipe",
    "back\\slash",
    "line\nbreak",
    "return\rhere",
    "next\x85line",
    "separator\u2028here",
    "no-break\xa0space",
    "delete\x7f",
    "mark\ufeff",
    " spaces around ",
]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def loaded(folder: Path, file: str, train: str, text: str, label: str, group: str | None, base: str) -> JobConfig:
    path = folder / "job.yaml"
    path.write_bytes(job_text(Path(file), train, text, label, group, base).encode())
    return load_job(path).config


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_read_back_as_they_are(tmp_path: Path, name: str) -> None:
    config = loaded(tmp_path, name + ".csv", name, name, name, name, name)
    data = config.data
    assert (data.train, data.text, data.label, data.group, config.model.base) == ((name,), name, name, name, name)
    assert config.name == run_name(name)


@given(st.text(), NAMES, NAMES, NAMES, st.none() | NAMES, NAMES)
@example("undecodable \udcff\n", "\u2029", "\x00", "\x9f", "\U0010ffff", "\ufffe")
def test_any_names_are_read_back_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, file: str, train: str, text: str, label: str, group: str | None, base: str
) -> None:
    config = loaded(tmp_path_factory.getbasetemp(), file, train, text, label, group, base)
    data = config.data
    assert (data.train, data.text, data.label, data.group) == ((train,), text, label, group)
    assert config.model.base == base


@pytest.mark.parametrize("name", HOSTILE)
def test_the_job_of_answers_reads_hostile_names_back_too(tmp_path: Path, name: str) -> None:
    columns = {"text": name, "label": name, "context": name}
    path = tmp_path / "job.yaml"
    path.write_bytes(chat_text(Path(name + ".jsonl"), name, columns, name, (10, 10)).encode())
    data = load_job(path).config.data
    assert (data.train, data.text, data.label, data.context, data.group) == ((name,), name, name, name, name)


@pytest.mark.parametrize(
    ("sizes", "max_length", "max_new_tokens"),
    [
        ((0, 0), 64, 32), ((250, 80), 160, 32), ((9000, 100), 1024, 64), ((9000, 5000), 2048, 2016),
        ((10**6, 10**6), 8192, 8192),
    ],
)  # fmt: skip
def test_lengths_follow_the_conversations(
    tmp_path: Path, sizes: tuple[int, int], max_length: int, max_new_tokens: int
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(chat_text(Path("a.yaml"), "a.jsonl", {"text": "messages"}, None, sizes))
    config = load_job(path).config
    assert (config.model.max_length, config.generation.max_new_tokens) == (max_length, max_new_tokens)
    assert config.data.group is None and "# group: " in path.read_text()


def test_plain_names_stay_without_quotes_and_the_default_base_is_named() -> None:
    written = job_text(Path("tickets.yaml"), "tickets.csv", "message", "intent", "customer_id")
    for line in ("name: tickets", "  train: tickets.csv", "  text: message", "  label: intent", "  group: customer_id"):
        assert line in written.splitlines()
    assert "sentence-transformers/all-MiniLM-L6-v2" in written
    assert "raysft train tickets.yaml" in written


def test_an_unknown_group_is_left_as_a_hint(tmp_path: Path) -> None:
    assert loaded(tmp_path, "a.yaml", "a.csv", "t", "l", None, "base").data.group is None
    assert "# group: " in job_text(Path("a.yaml"), "a.csv", "t", "l", None)


def test_the_settings_that_are_written_are_the_defaults(tmp_path: Path) -> None:
    """The template shows what happens anyway; a default that moves must move here too."""
    config = loaded(tmp_path, "a.yaml", "a.csv", "text", "label", None, "sentence-transformers/all-MiniLM-L6-v2")
    assert config == JobConfig.model_validate(
        {"name": "a", "data": {"train": "a.csv", "text": "text", "label": "label"}}
    )


@given(st.text(max_size=150))
def test_a_run_name_is_always_valid(stem: str) -> None:
    JobConfig.model_validate({"name": run_name(stem), "data": {"train": "a.csv"}})


def test_a_run_name_keeps_what_it_can() -> None:
    assert run_name("my tickets (v1.2)") == "my-tickets-v1.2"
    assert run_name("...") == "job"
