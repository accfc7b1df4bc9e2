"""Between Ray Tune and a search: the first error ends everything, and only faults of the configuration count as its."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

import pytest

from raysft.errors import (
    DataError,
    JobFileError,
    NoCapacity,
    NoRoom,
    NotAllowed,
    NotFound,
    OutputError,
    Problem,
    RaysftError,
    TrainingFailed,
    UnlikeNode,
)
from raysft.storage.pretrained import BaseCorrupt
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


def test_where_there_is_no_room_for_so_many_folds_fewer_train_at_a_time() -> None:
    """As where a node of a cluster that does not grow is gone, or another job has it."""
    of = relay(slots=3)
    told: list[str] = []
    assert isinstance(of.orders, Errand)
    of.orders.told = told.append
    assert [of.next() for _ in range(3)] == JOBS
    assert of.stops(JOBS[2], answer_to(NoRoom("the workers found no place"))) and of.slots == 2
    assert told == ["trial 1, fold 2: the workers found no place; 2 at a time from now on"]
    assert of.next() is None and not of.over()
    assert of.stops(JOBS[0], ("done",)) and of.next() == JOBS[2] and of.next() is None
    assert of.stops(JOBS[1], ("done",)) and of.next() is None
    # Without another fold whose end would make room the search ends, and the configuration has not failed.
    assert of.stops(JOBS[2], answer_to(NoRoom("the workers found no place")))
    assert isinstance(of.error, NoRoom) and of.over() and of.orders.failures == {}


@dataclass
class Spent(Errand):
    """Whose budget is spent."""

    given_up: list[FoldJob] = field(default_factory=list)

    def is_over(self) -> bool:
        return True

    def left(self, job: FoldJob) -> None:
        self.given_up.append(job)


def test_folds_that_wait_for_room_are_given_up_once_the_budget_is_spent() -> None:
    of = relay()
    assert of.next() is not None
    of.waiting(JOBS[:1])
    assert not of.given_up
    spent = relay(Spent)
    assert spent.next() is not None and spent.next() is not None
    for _ in range(2):
        spent.waiting(JOBS[:2])
    assert spent.given_up and spent.error is None
    assert isinstance(spent.orders, Spent) and spent.orders.given_up == JOBS[:2]


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


@pytest.mark.parametrize("kind", [OutputError, UnlikeNode, BaseCorrupt])
def test_what_is_wrong_for_every_configuration_ends_the_search(kind: type[RaysftError]) -> None:
    """The same command goes on with this fold: none is told to have failed."""
    of = relay()
    of.next()
    assert of.stops(JOBS[0], answer_to(kind("cannot write here", "Free some space.")))
    assert isinstance(of.error, kind) and of.error.next_step == "Free some space." and of.over()
    assert isinstance(of.orders, Errand) and of.orders.failures == {}


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
