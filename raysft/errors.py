"""Every way a job can end badly, one exception per situation.

Facts are attributes; `message` says what happened, `next_step` what to do; `exit_code` is what the shell sees:
1 our fault, 2 the job file, the data or the usage, 3 not found, 4 not allowed, 5 no capacity,
100 the job ran and failed, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class RaysftError(Exception):
    """Base of all errors that people are meant to read."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        # Both go to Exception.args, so that the error survives pickling between processes.
        super().__init__(message, next_step)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message + (f"\n  -> {self.next_step}" if self.next_step else "")


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a job file: where it stands, and what to do about it."""

    where: str  # "jobs/x.yaml:12" or "--set train.epochs"
    key: str  # dotted key, "" for the whole file
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.text) if part)


class JobFileError(RaysftError):
    """The job file says something that cannot be; all problems at once."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type[JobFileError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class UsageError(RaysftError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class DataError(RaysftError):
    """The labelled corpus cannot be used as it is."""

    exit_code = 2


class RunConflict(RaysftError):
    """A run of this name exists with other settings."""

    exit_code = 2


class OutputError(RaysftError):
    """The output cannot be written: no permission, no space, not a folder."""

    exit_code = 2


class NotFound(RaysftError):
    """A file, folder, model or run that is not there."""

    exit_code = 3


class NotAllowed(RaysftError):
    """Refused: another process holds the run, or credentials are missing."""

    exit_code = 4


class NoCapacity(RaysftError):
    """More CPUs, GPUs or memory are asked for than there are."""

    exit_code = 5


class NoRoom(NoCapacity):
    """What there is is held by others, or is gone for the moment; the same may have room later."""


class TrainingFailed(RaysftError):
    """The job ran and failed: a non-finite loss, ranks that differ, lost workers, an artifact that does not reload."""

    exit_code = 100


class UnlikeNode(TrainingFailed):
    """A node holds something else than the others, so that what is trained there is not what was asked for."""


class Interrupted(RaysftError):
    """Stopped by the person; the same command goes on from the newest checkpoint."""

    exit_code = 130


class Kept(Interrupted):
    """Stopped by the person, and all that was computed until then is saved."""
