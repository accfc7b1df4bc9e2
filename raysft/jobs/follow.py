"""Watch a job from afar: its log as it grows, through connections that break, to its end and its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from raysft.errors import NotFound, RaysftError
from raysft.jobs.client import Client, Failing, Job, Unreachable
from raysft.jobs.told import lines_of

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
    _given: str = ""  # the log as far as it was shown

    def follow(self, show: Callable[[str], None], lost: Callable[[str], None] = lambda _: None) -> Job:
        """Give every whole line of the log as it comes, and return the job when it is over.

        lost: told once whenever the cluster stops answering. Raises NotFound when it has not for `patience_s` seconds,
        and when the job is not there (any more).
        """
        silent: float | None = None
        while True:
            began = time.monotonic()
            try:
                job = self.client.job(self.id)  # before the log, whose last lines are then sure to be read
                self._show_new(self.client.log(self.id), show, job.over)
            except (Unreachable, Failing) as error:  # the head, or what stands before it, is started anew
                silent = self._wait(silent, error, lost)
                continue
            silent = None
            if job.over:
                return job
            # Ray gives logs whole: one that takes long to come is asked for less often.
            time.sleep(max(self.poll_s, min(IDLE * (time.monotonic() - began), LONGEST_S)))

    def _show_new(self, log: str, show: Callable[[str], None], over: bool) -> None:
        whole = log if over else log[: log.rfind("\n") + 1]
        if self._given.startswith(whole):  # no more than before, or less for a moment while the head comes back
            return
        new = whole.removeprefix(self._given)  # all of it where it is another log than before
        self._given = whole
        for line in lines_of(new):
            show(line)

    def _wait(self, silent: float | None, error: RaysftError, lost: Callable[[str], None]) -> float:
        now = time.monotonic()
        if silent is None:
            lost(f"{error.message}; trying again for {self.patience_s:.0f} s")
            silent = now
        if now - silent > self.patience_s:
            raise NotFound(
                f"{self.client.address} has not answered for {self.patience_s:.0f} s; job {self.id} may go on there",
                f"Come back with `raysft jobs logs {self.id} -f`; where the cluster is gone, the same `raysft submit` "
                "goes on from the newest checkpoint on another.",
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
