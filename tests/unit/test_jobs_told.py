"""Events travel through a log among other lines, and what is torn on the way is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.jobs.state import State, fold, newest
from raysft.jobs.told import EVENTS, MARK, Teller, events_in, history, lines_of, parted

Capture = pytest.CaptureFixture[str]
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
NUMBER = st.integers(0, 10**9)
KINDS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("stage"), "name": TEXT}),
    st.fixed_dictionaries({"kind": st.just("progress"), "done": NUMBER, "total": NUMBER, "text": TEXT}),
    st.fixed_dictionaries({"kind": st.sampled_from(["note", "warning"]), "text": TEXT}),
    st.fixed_dictionaries({"kind": st.just("error"), "text": TEXT, "next": TEXT, "exit_code": NUMBER}),
    st.fixed_dictionaries(
        {"kind": st.just("nodes"), "pools": st.dictionaries(TEXT, NUMBER, max_size=3), "gpus": NUMBER}
    ),
)
OTHER = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40).filter(
    lambda line: MARK not in line
)


def line_of(event: dict[str, Any]) -> str:
    """As Teller writes it."""
    return MARK + json.dumps(event, ensure_ascii=False)


@given(st.lists(st.tuples(KINDS, st.lists(OTHER, max_size=2)), max_size=6), OTHER)
def test_events_come_back_and_other_lines_stay(found: list[tuple[dict[str, Any], list[str]]], last: str) -> None:
    events = [{"t": 1.5 + index, **event} for index, (event, _) in enumerate(found)]
    lines = [line for event, (_, others) in zip(events, found, strict=True) for line in (line_of(event), *others)] + [
        last
    ]
    log = "\n".join(lines)
    assert events_in(lines_of(log)) == events
    assert [text for line in lines_of(log) if (text := parted(line)[0]) is not None] == lines_of(
        "\n".join(line for line in lines if not line.startswith(MARK))
    )


@given(KINDS, st.integers(1, 200))
def test_a_torn_line_is_left_out_and_harms_no_other(event: dict[str, Any], cut: int) -> None:
    whole = line_of({"t": 2.0, **event})
    torn = whole[: max(len(MARK), len(whole) - cut)]
    good = line_of({"t": 3.0, "kind": "note", "text": "after"})
    assert events_in([torn, good]) == [{"t": 3.0, "kind": "note", "text": "after"}]


@pytest.mark.parametrize(
    "rest",
    [
        *(
            "",
            "{",
            "[]",
            "null",
            "3",
            '"note"',
            "{}",
            '{"t": "now", "kind": "note"}',
            '{"t": 1}',
            '{"t": 1, "kind": 2}',
        ),
        *('{"t": 1, "kind": "progress"}', '{"t": 1, "kind": "progress", "done": 1, "total": "x"}'),
        *('{"t": 1, "kind": "progress", "done": 1.5, "total": 2}', '{"t": 1, "kind": "nodes", "pools": [1]}'),
        *('{"t": 1, "kind": "nodes", "pools": {"a": "b"}}', '{"t": 1, "kind": "note", "text": 5}'),
        *(
            '{"t": 1e999, "kind": "note"}',
            '{"t": 1, "kind": "note", "x": 1e999}',
            f'{{"t": 1{"0" * 400}, "kind": "x"}}',
        ),
        *('{"t": 1, "kind": "nodes", "pools": {}, "held_gpus": "x"}', '{"t": true, "kind": "note"}'),
        *('{"t": NaN, "kind": "note"}', '{"t": 1, "kind": "x", "y": Infinity}', "[" * 100_000),
    ],
    ids=lambda rest: str(rest)[:40],
)
def test_what_is_of_another_version_is_left_out(rest: str) -> None:
    assert parted(MARK + rest) == (None, None) and events_in([MARK + rest]) == []


def test_an_event_of_an_unknown_kind_is_kept() -> None:
    assert events_in([line_of({"t": 1, "kind": "later"})]) == [{"t": 1, "kind": "later"}]


def test_an_event_behind_a_line_that_was_not_ended_is_one() -> None:
    """As a progress bar leaves the terminal."""
    event = {"t": 1, "kind": "note", "text": "x"}
    assert parted(f"loading: 50%{line_of(event)}") == ("loading: 50%", event)
    assert parted(f"loading: 50%{MARK}torn") == ("loading: 50%", None)
    assert parted("loading") == ("loading", None) and parted("") == ("", None)


def test_halves_of_characters_are_shown_as_unknown() -> None:
    """As names of files have them that are not UTF-8: a terminal would refuse them."""
    (event,) = events_in([MARK + r'{"t": 1, "kind": "note", "text": "caf\udce9", "more": [{"\ud800": "\ud800"}]}'])
    assert event == {"t": 1, "kind": "note", "text": "caf?", "more": [{"?": "?"}]}


def test_lines_end_at_line_feeds_alone() -> None:
    assert lines_of("a\x85b\u2028c\x0cd\n\ng") == ["a\x85b\u2028c\x0cd", "", "g"]
    assert lines_of("") == [] and lines_of("\n") == [""] and lines_of("a\n") == ["a"]


def test_a_teller_says_nothing_unless_it_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv(EVENTS, raising=False)
    Teller().tell("note", text="x")
    assert capsys.readouterr() == ("", "")


def test_what_a_teller_says_is_read_back(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv(EVENTS, "1")
    teller = Teller()
    teller.tell("stage", name="train")
    teller.tell("note", text="line\u2028one\nline two \x85 größe")
    teller.tell("nodes", pools={"spot": 2}, gpus=2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 6 and {text for text, _ in map(parted, lines_of(err))} == {None}
    found = history(events_in(lines_of(err)))
    assert [each["kind"] for each in found] == ["stage", "note", "nodes"]
    assert found[1]["text"] == "line\u2028one\nline two \x85 größe" and found[2]["pools"] == {"spot": 2}


def test_what_is_known_stands_behind_each_event_for_all_tellers_of_a_process(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv(EVENTS, "1")
    monkeypatch.setattr(Teller, "_state", State())
    Teller().tell("stage", name="train")
    Teller().tell("nodes", pools={"spot": 2}, gpus=4, held_gpus=1)
    Teller().tell("progress", done=3, total=9, text="loss 0.5")
    events = events_in(lines_of(capsys.readouterr().err))
    found = newest(events[-1:])
    assert found is not None and found == fold(history(events))
    assert (found.stage, found.done, found.pools, found.gpus) == ("train", 3, {"spot": 2}, 1)


def test_what_cannot_be_written_is_no_end_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVENTS, "1")
    Teller().tell("note", text="caf\udce9")
    Teller().tell("progress", done=10**400, total=0, text="")


def test_progress_is_told_now_and_then_and_at_its_end(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv(EVENTS, "1")
    clock = iter([99.0, 100.0, 100.1, 100.2, 103.0, 103.1])
    monkeypatch.setattr("raysft.jobs.told.time.monotonic", lambda: next(clock))
    teller = Teller()
    for done, total in ((1, 9), (2, 9), (9, 9), (10, 99), (11, 99)):
        teller.tell("progress", done=done, total=total, text="")
    assert [each["done"] for each in history(events_in(lines_of(capsys.readouterr().err)))] == [1, 9, 10]
