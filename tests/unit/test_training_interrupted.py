"""The first Ctrl-C asks the workers to save and end, the second one ends at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysft.errors import Interrupted, NoCapacity, TrainingFailed
from raysft.events import Silent
from raysft.storage.commit import write_json
from raysft.storage.layout import RunFolder
from raysft.training.launch import NO_ROOM, Stop, chain, fit_aside


class Workers:
    """Work until they are told to stop, and then some."""

    def __init__(self, saving_s: float) -> None:
        self.told, self._saving_s = threading.Event(), saving_s

    def __call__(self) -> str:
        assert self.told.wait(10)
        time.sleep(self._saving_s)
        return "saved"


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGINT is a KeyboardInterrupt, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_after(seconds: float) -> None:
    threading.Timer(seconds, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()


def test_the_workers_are_told_and_waited_for() -> None:
    workers = Workers(0.3)
    interrupt_after(0.1)
    assert fit_aside(workers, workers.told.set) == "saved"


def test_the_second_time_nothing_is_waited_for() -> None:
    workers, asked = Workers(60), list[int]()

    def ask() -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(1)

    interrupt_after(0.1)
    interrupt_after(0.4)
    with pytest.raises(KeyboardInterrupt):
        fit_aside(workers, ask)
    assert asked


def test_without_anyone_to_tell_it_goes_through() -> None:
    interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        fit_aside(Workers(60))


def test_a_start_that_found_no_room_is_told_from_one_that_failed() -> None:
    from ray.train import ControllerError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

    assert NO_ROOM in chain(ControllerError(WorkerGroupStartupTimeoutError(num_workers=2)))
    assert NO_ROOM not in chain(ControllerError(WorkerGroupStartupFailedError("no such package")))


def stop_of(folder: Path, monkeypatch: pytest.MonkeyPatch, begun: bool = True) -> tuple[Stop, list[bytes]]:
    stop, told = Stop(RunFolder(folder), Silent()), list[bytes]()
    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_put", lambda key, _: told.append(key))
    if begun:
        write_json(RunFolder(folder).groups, [])
    return stop, told


def test_before_anything_is_computed_it_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, told = stop_of(tmp_path, monkeypatch, begun=False)
    with pytest.raises(KeyboardInterrupt):
        stop.ask()
    assert not told


def test_the_ranks_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, told = stop_of(tmp_path, monkeypatch)
    stop.go_on_or_raise()
    stop.ask()
    assert told == [stop.key]
    with pytest.raises(KeyboardInterrupt):
        stop.ask()
    with pytest.raises(Interrupted, match="moved"):
        stop.go_on_or_raise()


def test_what_the_workers_gave_counts_unless_they_were_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, _ = stop_of(tmp_path, monkeypatch)
    assert stop.after("outcome") == "outcome"
    with pytest.raises(TrainingFailed, match="without a result"):
        stop.after(None)
    stop.ask()
    with pytest.raises(NoCapacity):
        stop.after(NoCapacity("of memory"))
    with pytest.raises(Interrupted, match="complete"):
        stop.after("outcome")
