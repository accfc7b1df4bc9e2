"""Every error has the exit code of its kind, says what to do, and survives the trip between processes."""

from __future__ import annotations

import pickle

import pytest

from raysft import errors
from raysft.errors import JobFileError, Problem, RaysftError
from raysft.storage.pretrained import BaseCorrupt

CODES = {
    "RaysftError": 1,
    "JobFileError": 2,
    "UsageError": 2,
    "DataError": 2,
    "RunConflict": 2,
    "OutputError": 2,
    "BaseCorrupt": 2,
    "NotFound": 3,
    "NotAllowed": 4,
    "NoCapacity": 5,
    "NoRoom": 5,
    "TrainingFailed": 100,
    "UnlikeNode": 100,
    "Interrupted": 130,
    "Kept": 130,
}
CLASSES: list[type] = [each for each in vars(errors).values() if isinstance(each, type)]
KINDS: list[type[RaysftError]] = [BaseCorrupt, *(each for each in CLASSES if issubclass(each, RaysftError))]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_exit_code_is_the_documented_one(kind: type[RaysftError]) -> None:
    assert kind.exit_code == CODES[kind.__name__]


def test_every_kind_was_looked_at() -> None:
    assert {kind.__name__ for kind in KINDS} == set(CODES)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not JobFileError], ids=str)
def test_an_error_survives_pickling(kind: type[RaysftError]) -> None:
    found = pickle.loads(pickle.dumps(kind("it broke", "mend it")))  # noqa: S301
    assert type(found) is kind
    assert (found.message, found.next_step) == ("it broke", "mend it")
    assert str(found) == "it broke\n  -> mend it"


def test_a_job_file_error_keeps_its_problems_when_pickled() -> None:
    problems = [Problem("job.yaml:3", "train.epochs", "too few"), Problem("--set x", "", "no such key")]
    found = pickle.loads(pickle.dumps(JobFileError(problems)))  # noqa: S301
    assert found.problems == problems
    assert str(found) == "job.yaml:3: train.epochs: too few\n--set x: no such key"
