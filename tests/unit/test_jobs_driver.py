"""What a submitted job does beside its work: nothing unless it was submitted, and nothing with other versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from raysft.cli.main import run
from raysft.errors import UsageError
from raysft.jobs.driver import reporting
from raysft.jobs.request import PINS, pins
from raysft.jobs.told import EVENTS, events_in, history, lines_of
from tests.support.jobs import command

Capture = pytest.CaptureFixture[str]


def test_a_job_that_was_not_submitted_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv(EVENTS, raising=False)
    before = threading.active_count()
    with reporting({PINS: json.dumps({"torch": "0.0"})}):
        assert threading.active_count() == before
    assert capsys.readouterr() == ("", "")


def test_one_that_was_is_looked_after_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVENTS, "1")
    before = set(threading.enumerate())
    with pytest.raises(KeyError), reporting({PINS: json.dumps(pins())}):
        (watcher,) = set(threading.enumerate()) - before
        assert watcher.daemon
        raise KeyError
    watcher.join(5)
    assert not watcher.is_alive()


def test_other_versions_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVENTS, "1")
    with pytest.raises(UsageError, match=r"the cluster has raysft .*, not 99"), reporting({PINS: '{"raysft": "99"}'}):
        raise AssertionError("it worked")


def test_how_a_command_ends_is_told_where_it_was_submitted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv(EVENTS, "1")
    assert run(["check", "nothing.yaml"]) == 3
    (event,) = history(events_in(lines_of(capsys.readouterr().err)))
    assert (event["kind"], event["exit_code"]) == ("error", 3) and "nothing.yaml" in event["text"]
    monkeypatch.delenv(EVENTS)
    assert run(["check", "nothing.yaml"]) == 3
    assert history(events_in(lines_of(capsys.readouterr().err))) == []


@pytest.mark.parametrize(("asked", "code"), [(pins(), 0), ({**pins(), "ray": "0.1"}, 2)])
def test_a_submitted_command_ends_with_its_code(asked: dict[str, str], code: int) -> None:
    environment = {**os.environ, EVENTS: "1", PINS: json.dumps(asked)}
    done = subprocess.run(command("schema"), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert [event["exit_code"] for event in history(events_in(lines_of(done.stderr)))] == ([] if code == 0 else [2])
    assert (done.stdout == "") == (code == 2)


def test_looking_after_a_job_loads_no_ray_of_its_own() -> None:
    code = "import time, sys; import raysft.jobs.driver as driver\nwith driver.reporting({}): time.sleep(0.8)\n"
    code += "assert 'ray' not in sys.modules"
    environment = {**os.environ, EVENTS: "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
