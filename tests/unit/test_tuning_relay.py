"""Between Ray Tune and a search: the first error ends everything, and only faults of the configuration count as its."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from raysft.errors import (
    DataError,
    JobFileError,
    NoCapacity,
    NotAllowed,
    NotFound,
    OutputError,
    Problem,
    RaysftError,
    TrainingFailed,
)
from raysft.tuning.director import Errand, FoldJob
from raysft.tuning.relay import RETRIES, Relay, answer_to, words
from raysft.tuning.work import FoldId
from tests.support.sweeps import units_of

JOBS = [FoldJob(1, {}, FoldId(place)) for place in range(3)]


class Full(Errand):
    """Whose lines cannot be written."""

    def done(self, job: FoldJob) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def relay(kind: type[Errand] = Errand, slots: int = 2) -> Relay:
    return Relay(kind(list(JOBS)), slots)


def test_no_more_folds_are_begun_than_there_is_room_for() -> None:
    of = relay()
    assert [of.next() for _ in range(3)] == [JOBS[0], JOBS[1], None]
    assert of.stops(JOBS[0], ("done",)) and of.next() == JOBS[2]
    assert not of.over()
    assert of.stops(JOBS[1], ("done",)) and of.stops(JOBS[2], ("done",)) and of.over()


def test_what_a_step_found_is_told() -> None:
    of = relay()
    assert of.next() is not None and of.next() is not None
    assert not of.stops(JOBS[0], ("epoch", 1, {}, units_of(1).row_id, {}))
    assert of.stops(JOBS[0], ("failed", "weights of 0"))
    of.died(JOBS[1], "no memory")
    assert isinstance(of.orders, Errand)
    assert of.orders.failures == {JOBS[0]: "weights of 0", JOBS[1]: "no memory"} and of.error is None


def test_a_fold_whose_process_died_before_its_first_step_is_begun_again_a_few_times() -> None:
    """It takes the room that it had, before any other."""
    of = relay(slots=1)
    assert of.next() == JOBS[0]
    for _ in range(RETRIES):
        of.died(JOBS[0], "its node is gone", waited=True)
        assert not of.over() and of.next() == JOBS[0] and of.next() is None
    of.died(JOBS[0], "its node is gone", waited=True)
    assert of.next() == JOBS[1]
    assert isinstance(of.orders, Errand) and of.orders.failures == {JOBS[0]: "its node is gone"}


def test_an_error_of_ours_is_kept_and_ends_the_search() -> None:
    """Else Tune would raise one of its own, or wait for ever for what nobody stops."""
    of = relay(Full)
    assert of.next() is not None and of.next() is not None
    assert of.stops(JOBS[0], ("done",))
    assert isinstance(of.error, OSError) and of.error.errno == errno.ENOSPC
    assert of.over() and of.next() is None and of.orders.running == 2
    assert of.stops(JOBS[1], ("epoch", 1, {}, units_of(1).row_id, {}))
    of.died(JOBS[1], "no memory")
    assert isinstance(of.orders, Errand) and of.orders.failures == {} and of.orders.jobs == []


def test_a_fold_that_cannot_be_written_ends_the_search() -> None:
    of = relay()
    of.next()
    assert of.stops(JOBS[0], answer_to(OutputError("cannot write here", "Free some space.")))
    assert isinstance(of.error, OutputError) and of.error.next_step == "Free some space." and of.over()


@pytest.mark.parametrize(
    "error",
    [
        TrainingFailed("the loss is not finite"),
        DataError("no row"),
        NoCapacity("out of memory with one row"),
        JobFileError([Problem("job.yaml:3", "train.epochs", "must be above 0")]),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told(error: RaysftError) -> None:
    assert answer_to(error) == ("failed", error.message)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ValueError("torn file"),
        NotAllowed("the fold is in use by another process"),
        NotFound("model.base: not on this node"),
    ],
)
def test_what_is_no_fault_of_a_configuration_ends_the_process(error: Exception) -> None:
    with pytest.raises(type(error)):
        answer_to(error)


def test_errors_in_one_line() -> None:
    class Brought(Exception):
        cause: Any = RuntimeError("CUDA error: gone\n\nlast line\n")

    assert words(Brought("a long trace")) == "RuntimeError: last line"
    assert words(TrainingFailed("no memory", "Buy some.")) == "no memory" and words(KeyError()) == "KeyError: "
