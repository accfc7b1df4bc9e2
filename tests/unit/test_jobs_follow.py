"""A job is followed through logs that grow, shrink and break off, and through a server that goes and comes back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from raysft.cluster.endpoint import Endpoint
from raysft.errors import NotAllowed, NotFound
from raysft.jobs.client import Client, Job
from raysft.jobs.follow import Follower, exit_code
from tests.support.job_api import JobApi, event, serving

ID = "tiny-train-0a1b2c3d-1"
POLL_S = 0.01


@pytest.fixture
def api() -> Iterator[JobApi]:
    with serving(JobApi()) as api:
        api.add(ID)
        yield api


def follower(api: JobApi, patience_s: float = 5.0) -> Follower:
    return Follower(Client(Endpoint(api.address)), ID, patience_s, POLL_S)


def plays(api: JobApi, *steps: str | Callable[[], None]) -> None:
    """With each look at the log: another text of it, or something that happens. After the last the job is over."""
    left = list(steps)
    if left:
        api.jobs[ID]["status"] = "RUNNING"

    def step(path: str) -> None:
        if "/logs/" not in path:
            return
        if left:
            now = left.pop(0)
            if callable(now):
                now()
            else:
                api.logs[ID] = now
        if not left:
            api.jobs[ID]["status"] = "SUCCEEDED"

    api.before = step


def shown(api: JobApi, *steps: str | Callable[[], None]) -> list[str]:
    plays(api, *steps)
    lines: list[str] = []
    assert follower(api).follow(lines.extend).status == "SUCCEEDED"
    return lines


def test_a_log_that_grows_is_shown_line_by_line_and_once(api: JobApi) -> None:
    whole = f"one\ntwo ü\n{event('note', text='x')}\nlast\n"
    steps = [whole[:end] for end in range(0, len(whole) + 1, 7)] + [whole, whole]
    assert shown(api, *steps) == whole.removesuffix("\n").split("\n")


def test_a_last_line_without_an_end_is_shown_when_the_job_is_over(api: JobApi) -> None:
    assert shown(api, "one\ntw", "one\ntwo", "one\ntwo and a half") == ["one", "two and a half"]
    api.logs[ID] = "one\nno end"
    assert shown(api) == ["one", "no end"]


def test_what_only_unicode_takes_for_ends_of_lines_stays_in_its_line(api: JobApi) -> None:
    assert shown(api, "a\u2028b\n", "a\u2028b\nc\x85d\r\n") == ["a\u2028b", "c\x85d"]


def test_a_progress_bar_is_a_line_each_time_that_it_is_drawn(api: JobApi) -> None:
    assert shown(api, "a\r", "a\rb\r\nc\n") == ["a", "b", "c"]


def test_an_empty_log_ends(api: JobApi) -> None:
    assert shown(api) == []


def test_a_log_that_is_shorter_for_a_moment_is_not_shown_again(api: JobApi) -> None:
    assert shown(api, "one\ntwo\n", "", "one\n", "one\nt", "one\ntwo\nthree\n") == ["one", "two", "three"]


def test_another_log_is_shown_from_its_beginning_once_it_is_longer(api: JobApi) -> None:
    assert shown(api, "one\ntwo\n", "uno\n", "uno\ndos\n", "uno\ndos y mas\n") == ["one", "two", "uno", "dos y mas"]
    assert shown(api, "one\n", "longer than before\nand another\n") == ["one", "longer than before", "and another"]


def test_trouble_of_the_server_is_waited_out_and_told_once(api: JobApi) -> None:
    def trouble() -> None:
        api.instead = (503, "starting", {})
        threading.Timer(0.1, lambda: setattr(api, "instead", None)).start()

    lines: list[str] = []
    lost: list[str] = []
    plays(api, "one\n", trouble, "one\ntwo\n")
    assert follower(api).follow(lines.extend, lost.append).status == "SUCCEEDED"
    assert lines == ["one", "two"]
    assert len(lost) == 1 and "(503): starting; trying again for 5 s" in lost[0]


def test_a_server_that_dies_and_comes_back_is_waited_for() -> None:
    api, lines, lost, found = JobApi(), list[str](), list[str](), list[Job]()
    api.add(ID, log="one\n")
    with ExitStack() as first:
        first.enter_context(serving(api))
        port = urlsplit(api.address).port or 0
        thread = threading.Thread(target=lambda: found.append(follower(api).follow(lines.extend, lost.append)))
        thread.start()
        until(lambda: lines == ["one"])
    until(lambda: bool(lost))
    api.logs[ID] = "one\ntwo\n"
    api.jobs[ID] |= {"status": "FAILED", "driver_exit_code": 100}
    with serving(api, port):
        thread.join(10)
    assert not thread.is_alive() and lines == ["one", "two"]
    assert found[0].exit_code == 100 and len(lost) == 1 and "no cluster answers" in lost[0]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_does_not_come_back_is_given_up_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        api = JobApi(address=f"http://127.0.0.1:{taken.getsockname()[1]}")
        lost: list[str] = []
        with pytest.raises(NotFound, match="has not answered for 0 s; job tiny-train-0a1b2c3d-1 may go on") as gone:
            follower(api, patience_s=0.1).follow(lambda _: None, lost.append)
    assert len(lost) == 1 and "raysft jobs logs tiny-train-0a1b2c3d-1 -f" in gone.value.next_step


def test_each_silence_has_its_own_patience(api: JobApi) -> None:
    def trouble() -> None:
        api.instead = (500, "x", {})
        threading.Timer(0.15, lambda: setattr(api, "instead", None)).start()

    lost: list[str] = []
    plays(api, "", trouble, "", trouble, "")
    assert follower(api, patience_s=1.0).follow(lambda _: None, lost.append).status == "SUCCEEDED"
    assert len(lost) == 2


def test_a_job_that_is_not_there_and_a_token_that_is_refused_end_it_at_once(api: JobApi) -> None:
    api.jobs.clear()
    with pytest.raises(NotFound, match="no job tiny"):
        follower(api).follow(lambda _: None)
    api.token = "x"  # noqa: S105  # of this server alone
    with pytest.raises(NotAllowed, match="asks for a token"):
        follower(api).follow(lambda _: None)


@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        *(("SUCCEEDED", 0, 0), ("SUCCEEDED", None, 0), ("STOPPED", None, 130), ("STOPPED", -15, 130)),
        *(("FAILED", code, code) for code in (1, 2, 3, 4, 5, 100, 130)),
        *(("FAILED", code, 100) for code in (None, -9, 137, 127, 77)),
    ],
)
def test_the_exit_code_is_the_jobs_own_where_it_is_one_of_ours(status: str, code: int | None, ends: int) -> None:
    assert exit_code(Job(ID, status, "", "", {}, {}, None, None, code)) == ends
