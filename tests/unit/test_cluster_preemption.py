"""The notices of three clouds, asked over HTTP as their machines ask, and what the watcher makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import HTTPError

import pytest

from raysft.cluster import preemption
from raysft.cluster.notices import CLOUDS, GCP_S, Metadata, Notice, Unanswered
from raysft.cluster.preemption import main, take_over, tell_ray, wait_for_notice
from raysft.errors import RaysftError
from tests.support.metadata import AWS_ACTION, AWS_REBALANCE, AWS_TOKEN, AZURE_EVENTS, events, metadata_service

EACH = sorted(CLOUDS)


@pytest.mark.parametrize("cloud", EACH)
def test_a_machine_that_stays_has_no_notice_and_one_that_goes_has_its_deadline(cloud: str) -> None:
    deadline = float(int(time.time()) + 120)
    with metadata_service(cloud) as (service, url):
        asks = CLOUDS[cloud](Metadata(url))
        assert asks.notice() is None
        service.give_notice(deadline)
        notice = asks.notice()
    assert notice is not None and notice.certain and notice.deadline is not None
    if cloud == "gcp":  # which shuts down 30 s after the notice, and does not say when that was
        assert notice.deadline == pytest.approx(time.time() + GCP_S, abs=5)
    else:
        assert notice.deadline == deadline


@pytest.mark.parametrize("cloud", EACH)
def test_the_services_refuse_who_does_not_ask_as_documented(cloud: str) -> None:
    """So that the tests would fail if the watcher forgot its token or header."""
    path = {"aws": AWS_ACTION, "gcp": "/computeMetadata/v1/instance/preempted", "azure": AZURE_EVENTS}[cloud]
    with metadata_service(cloud) as (service, url):
        service.give_notice(time.time())
        with pytest.raises(HTTPError) as refusal:
            Metadata(url).get(path, {})
    assert refusal.value.code == {"aws": 401, "gcp": 403, "azure": 400}[cloud]


def test_one_token_serves_until_it_is_too_old() -> None:
    with metadata_service("aws") as (service, url):
        asks = CLOUDS["aws"](Metadata(url))
        for _ in range(3):
            asks.notice()
        assert [path for _, path, _ in service.asked].count(AWS_TOKEN) == 1
        service.tokens.append("another, since that one is too old")
        service.give_notice(time.time() + 60)
        assert asks.notice() is not None
        assert [(method, status) for method, path, status in service.asked if path == AWS_TOKEN] == [("PUT", 200)] * 2


def test_a_recommendation_is_no_notice_and_gives_way_to_one() -> None:
    with metadata_service("aws") as (service, url):
        asks = CLOUDS["aws"](Metadata(url))
        service.answers[AWS_REBALANCE] = json.dumps({"noticeTime": "2026-11-26T08:22:00Z"})
        assert asks.notice() == Notice("rebalance recommendation of 2026-11-26T08:22:00Z", None, certain=False)
        service.give_notice(1_800_000_000)
        assert asks.notice() == Notice("spot instance action: terminate", 1_800_000_000)


def test_azure_tells_of_others_and_of_pauses_too() -> None:
    at = "Mon, 19 Jan 2026 18:29:47 GMT"
    with metadata_service("azure") as (service, url):
        asks = CLOUDS["azure"](Metadata(url))
        service.answers[AZURE_EVENTS] = events(("Preempt", ["gpu-8"], at), ("Freeze", ["gpu-7"], at))
        assert asks.notice() is None
        service.answers[AZURE_EVENTS] = events(("Redeploy", ["gpu-7"], at), ("Preempt", ["gpu-7"], ""))
        assert asks.notice() == Notice("scheduled event: Preempt", None)  # it has begun


@pytest.mark.parametrize("cloud", EACH)
@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_service_that_refuses_is_a_line_and_no_notice(cloud: str, status: int) -> None:
    with metadata_service(cloud) as (service, url):
        service.broken = status
        with pytest.raises(Unanswered, match=str(status)):
            CLOUDS[cloud](Metadata(url)).notice()


@pytest.mark.parametrize(("cloud", "path"), [("aws", AWS_ACTION), ("azure", AZURE_EVENTS)])
@pytest.mark.parametrize("text", ["", "<html>", "[1]", '{"action"'])
def test_an_answer_that_is_not_as_documented_is_a_line(cloud: str, path: str, text: str) -> None:
    with metadata_service(cloud) as (service, url):
        service.answers[path] = text
        with pytest.raises(Unanswered, match="where JSON is documented"):
            CLOUDS[cloud](Metadata(url)).notice()


def test_google_answers_true_or_false() -> None:
    with metadata_service("gcp") as (service, url):
        service.answers["/computeMetadata/v1/instance/preempted"] = "perhaps"
        with pytest.raises(Unanswered, match="neither TRUE nor FALSE"):
            CLOUDS["gcp"](Metadata(url)).notice()


@pytest.mark.parametrize("cloud", EACH)
def test_nobody_at_the_address_is_a_line(cloud: str) -> None:
    with metadata_service(cloud) as (_, url):
        pass
    with pytest.raises(Unanswered, match="does not answer"):
        CLOUDS[cloud](Metadata(url)).notice()


def test_azure_at_boot_has_no_name_for_a_machine_and_then_one() -> None:
    """An empty name that was kept would leave the node undrained for ever."""
    name = "/metadata/instance/compute/name"
    with metadata_service("azure") as (service, url):
        service.give_notice(1_800_000_000)
        asks = CLOUDS["azure"](Metadata(url))
        (path,) = [each for each in service.answers if each.startswith(name)]
        known, service.answers[path] = service.answers[path], ""
        for _ in range(2):
            with pytest.raises(Unanswered, match="has no name yet"):
                asks.notice()
        service.answers[path] = known
        notice = asks.notice()
    assert notice is not None and notice.deadline == 1_800_000_000


@pytest.mark.parametrize("list_", ['["Preempt", null, 7, {"EventType": "Preempt", "Resources": null}]', "null"])
def test_events_of_azure_that_are_no_objects_are_passed_over(list_: str) -> None:
    with metadata_service("azure") as (service, url):
        service.answers[AZURE_EVENTS] = f'{{"Events": {list_}}}'
        assert CLOUDS["azure"](Metadata(url)).notice() is None


def test_events_of_azure_that_are_no_list_are_a_line() -> None:
    with metadata_service("azure") as (service, url):
        service.answers[AZURE_EVENTS] = '{"Events": "soon"}'
        with pytest.raises(Unanswered, match="where a list is documented"):
            CLOUDS["azure"](Metadata(url)).notice()


# What the watcher makes of them.


def test_no_error_ends_the_watcher(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody would start it again."""
    certain = Notice("preempted", 5.0)
    told: list[Exception | Notice] = [AttributeError("no get"), certain]

    def ask() -> Notice:
        found = told.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert wait_for_notice(ask, 0.001) == certain
    assert "no notices: AttributeError: no get; asked again" in capsys.readouterr().out


SLEEPS = "import time; time.sleep(60)"


@pytest.mark.parametrize(("is_watcher", "ends"), [(True, True), (False, False)])
def test_a_new_watcher_ends_the_old_one_and_nobody_else(is_watcher: bool, ends: bool, tmp_path: Path) -> None:
    """Where the old one is gone, its number may be that of another process by now."""
    name = [preemption.MODULE] if is_watcher else []
    with subprocess.Popen([sys.executable, "-c", SLEEPS, *name]) as old:
        try:
            pid_file = tmp_path / "pid"
            pid_file.write_text(f"{old.pid}\n", encoding="utf-8")
            take_over(pid_file)
            assert (old.poll() is not None) == ends
            assert int(pid_file.read_text(encoding="utf-8")) == os.getpid()
        finally:
            old.kill()


@pytest.mark.parametrize("content", [None, "", "x", "999999999"])
def test_a_file_that_names_no_process_is_written_anew(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "pid").write_text(content, encoding="utf-8")
    take_over(tmp_path / "pid")
    assert int((tmp_path / "pid").read_text(encoding="utf-8")) == os.getpid()
    take_over(tmp_path / "none" / "pid")
    assert "cannot be written: No such file or directory; the next watcher" in capsys.readouterr().out


def test_the_watcher_goes_on_when_the_service_was_away(capsys: pytest.CaptureFixture[str]) -> None:
    with metadata_service("aws") as (service, url):
        service.broken = 500
        service.give_notice(1_800_000_000)
        threading.Timer(0.3, lambda: setattr(service, "broken", 0)).start()
        notice = wait_for_notice(CLOUDS["aws"](Metadata(url)).notice, 0.02)
    assert notice.deadline == 1_800_000_000
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "no notices: the token is refused with 500; asked again every 0.02 s" in said[0]


def test_a_recommendation_is_said_once_and_followed_only_if_told(capsys: pytest.CaptureFixture[str]) -> None:
    advice = Notice("rebalance recommendation", None, certain=False)
    certain = Notice("spot instance action: terminate", 5.0)
    told = iter([None, advice, advice, certain])
    assert wait_for_notice(lambda: next(told), 0.001) == certain
    said = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert said == ["watching", "rebalance recommendation; the node is kept"]
    followed = wait_for_notice(lambda: advice, 0.001, "drain")
    assert followed.deadline == pytest.approx(time.time() + preemption.REBALANCE_S, abs=5)


def test_a_head_that_is_away_for_a_moment_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "AGAIN_S", 0.01)
    tries: list[float] = []

    def drain(why: str, deadline: float) -> None:
        tries.append(deadline)
        if len(tries) < 3:
            raise RaysftError("the head does not answer")

    tell_ray(drain, Notice("preempted", None))
    assert len(tries) == 3 and len(set(tries)) == 1  # the deadline does not move with the tries
    assert tries[0] == pytest.approx(time.time() + preemption.UNTOLD_S, abs=5)


def test_a_head_that_stays_away_is_told_of_until_the_machine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "AGAIN_S", 0.01)

    def drain(why: str, deadline: float) -> None:
        raise RaysftError("the head does not answer")

    with pytest.raises(RaysftError, match="does not answer"):
        tell_ray(drain, Notice("preempted", time.time() + 0.1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--cloud"),
        (["--cloud", "ibm"], "invalid choice: 'ibm'"),
        (["--cloud", "aws", "--every", "0"], "more than 0"),
        (["--cloud", "aws", "--every", "soon"], "--every"),
    ],
)
def test_wrong_usage_says_what_is_allowed(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
