"""The ranks ask about every two seconds whether to stop or to move, however long a step takes."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from raysft.errors import Interrupted
from raysft.training.notice import ASK_S, MOVE, STOP, Moving, Notices, heed


class Clock:
    """Steps that take so long each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
        self.now, self.step_s = 0.0, step_s
        monkeypatch.setattr("raysft.training.notice.time.monotonic", lambda: self.now)

    def steps(self, notices: Notices, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.now += self.step_s
            notices.at(step)


@pytest.mark.parametrize("step_s", [0.001, 0.05, 0.7, 3.0, 60.0])
def test_it_is_asked_about_every_two_seconds(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    asked: list[float] = []
    clock = Clock(monkeypatch, step_s)

    def source() -> str:
        asked.append(clock.now)
        return ""

    clock.steps(Notices(source), 1, max(20, int(60 / step_s)))
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert asked[0] == step_s  # after the very first step
    assert max(gaps) <= max(ASK_S, step_s) * 1.01
    assert len(asked) < 60 / max(ASK_S, step_s) + 25  # a few more at the beginning, when it is not known how long


def test_steps_that_become_longer_are_soon_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.1)
    notices = Notices(lambda: "")
    clock.steps(notices, 1, 1000)
    clock.step_s = 1.0
    assert notices._next - 1000 <= ASK_S / 0.1
    clock.steps(notices, 1001, 1100)
    assert notices._next - 1100 <= 2


def test_without_a_source_nothing_is_told() -> None:
    notices = Notices(None)
    assert [notices.at(1), notices.now(2)] == ["", ""]
    heed("", 3)


@pytest.mark.parametrize(("told", "kind"), [(STOP, Interrupted), (MOVE, Moving)])
def test_what_is_told_ends_the_run_with_the_saved_step(told: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="step 7") as caught:
        heed(told, 7)
    travelled = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # ours
    assert str(travelled) == str(caught.value)
