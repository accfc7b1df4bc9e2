"""A log that grows is read from its end, and each of its lines is given once, whatever lines there are."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.jobs import tail
from raysft.jobs.tail import AHEAD, KEPT, Tail, reach
from raysft.jobs.told import MARK


class Log:
    """One on a cluster, which notes how much of it was read."""

    def __init__(self, text: str = "") -> None:
        self.text, self.read = text, list[int | None]()

    def __call__(self, last: int | None) -> str:
        self.read.append(last)
        lines = re.findall(r"[^\n]*\n|[^\n]+", self.text)
        return self.text if last is None else "".join(lines[-last:])


def numbered(first: int, count: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, first + count))


def test_a_long_log_is_read_whole_once() -> None:
    log = Log(numbered(0, 10_000))
    found = Tail(log)
    given = found.new(False)
    for first in range(10_000, 12_000, 40):
        log.text += numbered(first, 40)
        given += found.new(False)
    assert given == numbered(0, 12_000).splitlines()
    assert log.read.count(None) == 1 and set(log.read[1:]) == {KEPT + AHEAD[0]}


def test_more_lines_at_once_are_looked_for_further_back() -> None:
    log = Log(numbered(0, 5000))
    found = Tail(log)
    found.new(False)
    log.read.clear()
    log.text += numbered(5000, 1500)
    assert len(found.new(False)) == 1500 and log.read == [KEPT + each for each in AHEAD] and not found.read_again
    log.read.clear()
    log.text += numbered(6500, 5000)
    assert len(found.new(False)) == 5000 and log.read[-1] is None and found.read_again
    log.text += numbered(11_500, 1)
    assert found.new(False) == ["line 11500"] and not found.read_again


def test_lines_that_are_all_alike_are_counted() -> None:
    log = Log("same\n" * 3000)
    found = Tail(log)
    given = found.new(False)
    log.text += "same\n" * 7
    given += found.new(False)
    assert len(given) == 3007 and found.read_again  # there is no other way to tell


LINES = st.lists(st.sampled_from(["a", "b", "", "ü", "a longer line"]), max_size=60)


@given(LINES, st.lists(st.integers(0, 12), max_size=30), st.booleans())
@example(["a", "b"] * 20, [5, 5, 5, 5], True)
def test_each_line_is_given_once(lines: list[str], cuts: list[int], ends: bool) -> None:
    """Wherever the log stands at each look, also in the midst of a line, and however alike its lines are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "KEPT", 5)
        patch.setattr(tail, "AHEAD", (5, 20))
        whole = "\n".join(lines) + ("\n" if ends else "")
        log, place, given = Log(), 0, list[str]()
        found = Tail(log)
        for cut in cuts:
            place += cut
            log.text = whole[:place]
            given += found.new(False)
        log.text = whole
        given += found.new(True)
        assert given == (whole.split("\n")[:-1] if whole.endswith("\n") or not whole else whole.split("\n"))


def test_one_that_begins_with_its_end_goes_on_from_there() -> None:
    log = Log(numbered(0, 5000))
    found = Tail(log, last=2)
    assert found.new(False) == ["line 4998", "line 4999"]
    log.text += numbered(5000, 3)
    assert found.new(False) == ["line 5000", "line 5001", "line 5002"]
    log.text += numbered(5003, 9000)
    assert len(found.new(True)) == 9000
    assert None not in log.read[:-1]


def test_how_far_back_lines_for_people_are() -> None:
    events = f'{MARK}{{"t": 1, "kind": "note", "text": "x"}}\n' * 1000
    assert reach(Log("a\nb\n" + events), 1) == 1001
    assert reach(Log("a\nb\n" + events), 2) == 1002
    assert reach(Log("a\nb\n" + events), 3) is None
    assert reach(Log(events + "a\n"), 1) == 1
