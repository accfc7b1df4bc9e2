"""Events travel through a log among other lines, and what is torn on the way is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.jobs.told import EVENTS, MARK, Teller, event_of, events_in, lines_of, without_events

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
    lambda line: not line.startswith(MARK)
)


def line_of(event: dict[str, Any]) -> str:
    """As Teller writes it."""
    return MARK + json.dumps(event, ensure_ascii=False)


@given(st.lists(st.tuples(KINDS, st.lists(OTHER, max_size=2)), max_size=6), OTHER, st.sampled_from(["\n", "\r\n"]))
def test_events_come_back_and_other_lines_stay(
    found: list[tuple[dict[str, Any], list[str]]], last: str, end: str
) -> None:
    events = [{"t": 1.5 + index, **event} for index, (event, _) in enumerate(found)]
    lines = [line for event, (_, others) in zip(events, found, strict=True) for line in (line_of(event), *others)] + [
        last
    ]
    log = end.join(lines)
    assert events_in(log) == events
    assert not any(line.startswith(MARK) for line in lines_of(without_events(log)))
    assert without_events(log) == end.join(line for line in lines if not line.startswith(MARK)) or end == "\r\n"


@given(KINDS, st.integers(1, 200))
def test_a_torn_line_is_left_out_and_harms_no_other(event: dict[str, Any], cut: int) -> None:
    whole = line_of({"t": 2.0, **event})
    torn = whole[: max(len(MARK), len(whole) - cut)]
    good = line_of({"t": 3.0, "kind": "note", "text": "after"})
    assert events_in(f"{torn}\n{good}\n") == [{"t": 3.0, "kind": "note", "text": "after"}]


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
        *('{"t": NaN, "kind": "note"}', '{"t": 1, "kind": "x", "y": Infinity}', "[" * 100_000),
    ],
    ids=lambda rest: str(rest)[:40],
)
def test_what_is_of_another_version_is_left_out(rest: str) -> None:
    assert event_of(MARK + rest) is None and events_in(f"{MARK}{rest}\n") == []


def test_an_event_of_an_unknown_kind_is_kept() -> None:
    assert events_in(line_of({"t": 1, "kind": "later"})) == [{"t": 1, "kind": "later"}]


def test_lines_end_at_line_feeds_alone() -> None:
    assert lines_of("a\x85b\u2028c\x0cd\r\ne\rf\n\ng") == ["a\x85b\u2028c\x0cd", "e\rf", "", "g"]
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
    assert out == "" and err.count("\n") == 3
    found = events_in(err)
    assert [each["kind"] for each in found] == ["stage", "note", "nodes"]
    assert found[1]["text"] == "line\u2028one\nline two \x85 größe" and found[2]["pools"] == {"spot": 2}
    assert without_events(err) == ""


def test_progress_is_told_now_and_then_and_at_its_end(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv(EVENTS, "1")
    clock = iter([99.0, 100.0, 100.1, 100.2, 103.0, 103.1])
    monkeypatch.setattr("raysft.jobs.told.time.monotonic", lambda: next(clock))
    teller = Teller()
    for done, total in ((1, 9), (2, 9), (9, 9), (10, 99), (11, 99)):
        teller.tell("progress", done=done, total=total, text="")
    assert [each["done"] for each in events_in(capsys.readouterr().err)] == [1, 9, 10]
