"""Which conversations are shown as they are learnt, and that nothing personal or sealed is among them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysft.cli.learnt import lessons_text
from raysft.config import load_job
from raysft.corpus.sample import Run
from raysft.events import Silent
from raysft.preparation.answering import answering_of
from raysft.preparation.prepared import Prepared
from raysft.report.audit_page import audit_page
from raysft.report.learnt import Lesson, _found_again, lessons, masked
from raysft.run import prepare_with_page
from raysft.storage.layout import open_output
from raysft.storage.pretrained import resolve_base
from tests.support.answering import asked, write_chat_model
from tests.support.jobs import write_job
from tests.support.preparing import write_lines

MAIL, CARD = "jane.doe@example.com", "4111 1111 1111 1111"
LESSON = Lesson("a.jsonl:1", 9, 4, False, (Run("<b>Q</b>", False), Run("[A] &", True), Run("<|end|>", True, True)))


class Ear(Silent):
    def __init__(self) -> None:
        self.found: list[Lesson] = []

    def lessons(self, found: Any) -> None:
        self.found += found


def prepared_of(folder: Path, rows: list[list[dict[str, str]]], max_length: int = 200) -> tuple[Prepared, Ear]:
    """A corpus of conversations, prepared as `raysft data` does it."""
    base = write_chat_model(folder / "base")
    write_lines(folder / "rows.jsonl", [{"messages": turns} for turns in rows])
    path = write_job(
        folder,
        base,
        task="generation",
        model={"max_length": max_length},
        data={"train": "rows.jsonl", "group": None},
        train={"learning_rate": 1e-3},
    )
    job, ear = load_job(path), Ear()
    found = resolve_base(job.config.model.base)
    return prepare_with_page(job, found, open_output(job.config.output), ear), ear


def spoken(lesson: Lesson) -> str:
    return "".join(run.text for run in lesson.runs)


def test_training_rows_are_told_and_stand_on_the_page(tmp_path: Path) -> None:
    rows = [asked(f"where is parcel {number}{' please' * (number % 9)}", f"here is {number}") for number in range(40)]
    prepared, ear = prepared_of(tmp_path, rows)
    assert len(ear.found) == 3
    training = set(prepared.part("train").column("text").to_pylist())
    sealed = set(prepared.part("test").column("text").to_pylist())
    assert training and sealed
    page = prepared.folder.audit_page.read_text(encoding="utf-8")
    for lesson in ear.found:
        asks = spoken(lesson).split("user⏎\n")[1].split("<|im_end|>")[0]
        assert asks in training and asks not in sealed
        assert f"{asks}</bdi>" in page
        assert 0 < lesson.learnt < lesson.tokens and not lesson.cut
    assert [lesson.tokens for lesson in ear.found] == sorted(lesson.tokens for lesson in ear.found)
    assert "What is learnt" in page and "3 training conversations" in page


def test_what_was_cut_is_said_and_its_rest_is_shown(tmp_path: Path) -> None:
    rows = [asked(f"{number} {'parcel ' * 60}end {number}", f"here is {number}") for number in range(30)]
    _, ear = prepared_of(tmp_path, rows, max_length=64)
    assert all(lesson.cut and "its beginning was cut" in lesson.facts for lesson in ear.found)
    assert all("here is" in spoken(lesson) and lesson.tokens == 64 for lesson in ear.found)


def test_nothing_personal_is_shown_not_even_what_a_cut_has_left(tmp_path: Path) -> None:
    rows = [asked(f"my card {number} is {CARD}", f"write to {MAIL} about {number}") for number in range(30)]
    for length in (56, 60, 62, 64, 66, 68, 200):
        _, ear = prepared_of(tmp_path / str(length), rows, max_length=length)
        shown = "".join(map(spoken, ear.found))
        assert "jane" not in shown and "1111 1111" not in shown, length
        assert "j***@e***.com" in shown


def test_a_row_whose_tokens_give_back_another_text_is_not_shown() -> None:
    """Of an address with spaces around its signs nothing tells that it is one."""
    whole = f"write to {MAIL} please"
    spaced = [Run(whole.replace("@", " @ ").replace(".", " . "), False)]
    assert not _found_again(spaced, whole, cut=False)
    assert _found_again([Run(whole, False)], whole, cut=False)
    assert _found_again([Run("<s>", False, True), Run("please", False)], f"<s>{whole}", cut=True)


def test_the_end_of_a_number_that_was_cut_is_hidden() -> None:
    runs = [Run("<s>", False, True), Run("11 1111 1111 is it", False)]
    assert masked(runs, f"<s>my card {CARD} is it") == [runs[0], Run("*** is it", False)]
    assert masked(runs) == runs  # of a row that was not cut it is what it is
    assert masked([Run(f"to {MAIL[:4]}", False), Run(f"{MAIL[4:]} now", True)]) == [
        Run("to j***@e***.com", False),
        Run(" now", True),
    ]


def test_a_corpus_without_training_rows_shows_none(tmp_path: Path) -> None:
    class Empty:
        def tokens(self, part: str) -> Any:
            from raysft.corpus.tokens import from_lists

            return from_lists([], [])

    base = resolve_base(str(write_chat_model(tmp_path / "base")))
    job = load_job(write_job(tmp_path, base.folder, task="generation", train={"learning_rate": 1e-3}))
    answering = answering_of(job.config, base)
    assert answering is not None
    assert lessons(Empty(), answering) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", [True, False])
def test_in_a_terminal_colour_or_brackets_tell_it(colour: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=colour, color_system="standard" if colour else None, width=80)
    console.print(lessons_text([LESSON], colour), highlight=False, soft_wrap=True)
    said = out.getvalue()
    assert "a.jsonl:1: 4 of 9 tokens are learnt" in said
    if colour:
        assert "\x1b[32m[A] &<|end|>\x1b[0m" in said and "\x1b[2m<b>Q</b>\x1b[0m" in said
    else:
        assert said.splitlines()[0] == "what is learnt: what stands in [brackets]; the rest is only read"
        assert said.splitlines()[2] == "<b>Q</b>[[A] &<|end|>]"


def test_the_page_escapes_what_is_shown() -> None:
    page = audit_page({"rows": {"read": 1, "kept": 1}}, "job", [LESSON])
    assert "<bdi>&lt;b&gt;Q&lt;/b&gt;</bdi>" in page
    assert '<mark class="learnt"><bdi>[A] &amp;</bdi></mark>' in page
    assert '<mark class="learnt"><code>&lt;|end|&gt;</code></mark>' in page
    assert "What is learnt" not in audit_page({"rows": {"read": 1, "kept": 1}}, "job")
