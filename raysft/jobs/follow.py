"""Watch a job from afar: its log as it grows, through connections that break, to its end and its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from raysft.errors import NotFound, RaysftError
from raysft.jobs.client import Client, Failing, Job, LogGone, Unreachable
from raysft.jobs.tail import Tail

POLL_S = 1.0
IDLE, LONGEST_S = 10, 30.0  # times as long as the last look took, and at most, nothing is asked
PATIENCE_S = 120.0  # without an answer, after which the cluster is taken to be gone
FAILED, STOPPED = 100, 130
# What our own command ends with (errors.py); another number is of something that was killed, or no command of ours.
OURS = {1, 2, 3, 4, 5, 100, 130}


@dataclass
class Follower:
    """Reads the log of a job from where it is, whatever connection brings it."""

    client: Client
    id: str
    patience_s: float = PATIENCE_S
    poll_s: float = POLL_S
    last: int | None = None  # lines of the log to begin with; None: all

    def follow(self, show: Callable[[list[str]], None], tell: Callable[[str], None] = lambda _: None) -> Job:
        """Give the whole lines of the log as they come, and return the job when it is over.

        tell: what is to be known beside the log, once: that the cluster does not answer, and why the job has not begun.
        Raises NotFound when it has not answered for `patience_s` seconds, and when the job is not there (any more).
        """
        silent: float | None = None
        waits = ""
        job: Job | None = None
        tail = Tail(lambda last: "" if job is None else self.client.log(job, last), self.last)
        while True:
            began = time.monotonic()
            try:
                job = self.client.job(self.id)  # before the log, whose last lines are then sure to be read
                if lines := tail.new(job.over):
                    show(lines)
            except LogGone as error:
                if job is not None and job.over:
                    tell(error.message)
                    return job
                silent = self._wait(silent, error, tell)
                continue
            except (Unreachable, Failing) as error:  # the head, or what stands before it, is started anew
                silent = self._wait(silent, error, tell)
                continue
            silent = None
            if job.over:
                return job
            if job.status == "PENDING" and job.message and job.message != waits:
                waits = job.message
                tell(waits)
            # A log that has to be read whole once more is asked for less often.
            took = time.monotonic() - began if tail.read_again else 0.0
            time.sleep(max(self.poll_s, min(IDLE * took, LONGEST_S)))

    def _wait(self, silent: float | None, error: RaysftError, tell: Callable[[str], None]) -> float:
        now = time.monotonic()
        if silent is None:
            tell(f"{error.message}; trying again for {self.patience_s:.0f} s")
            silent = now
        if now - silent > self.patience_s:
            raise NotFound(
                f"{self.client.address} has not answered for {self.patience_s:.0f} s; job {self.id} may go on there",
                f"Come back with `raysft jobs logs {self.id} -f{self.client.flags}`; where the cluster is gone, the "
                "same `raysft submit` goes on from the newest checkpoint on another.",
            ) from None
        time.sleep(self.poll_s)
        return silent


def exit_code(job: Job) -> int:
    """What a command that followed the job ends with: 0, the job's own code where it is one of ours, else 100."""
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return STOPPED
    return job.exit_code if job.exit_code in OURS else FAILED
