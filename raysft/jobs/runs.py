"""Which jobs of a cluster are attempts at which run, and which job a name means."""

from __future__ import annotations

import json
import re
from typing import Any

from raysft.errors import NotFound, UsageError
from raysft.jobs.client import OURS, Client, Job

ATTEMPT = re.compile(r"^(?P<run>.+)-(?P<number>\d+)$")


def find_job(client: Client, name: str) -> Job:
    """A job by its id, its run or its name; of several attempts the last. Raises NotFound, UsageError."""
    jobs = client.jobs()
    if found := [job for job in jobs if job.id == name]:
        return found[0]
    found = [job for job in jobs if run_of(job) == name or name_of(job) == name]
    if not found:
        known = ", ".join(job.id for job in jobs[:5]) or "none"
        raise NotFound(f"no job {name} on {client.address}", f"The last ones there: {known}")
    if len({run_of(job) for job in found}) > 1:
        raise UsageError(
            f"several runs are named {name}: {', '.join(sorted({run_of(job) for job in found}))}", "Name one of them."
        )
    return max(found, key=lambda job: number_of(job, run_of(job)))


def is_ours(job: Job) -> bool:
    """Whether raysft sent it, so that it tells how far it is."""
    return OURS in job.metadata


def run_of(job: Job) -> str:
    """The id without its attempt; of a job of another origin its whole id."""
    found = ATTEMPT.match(job.id)
    return found["run"] if found and is_ours(job) else job.id


def attempt_of(job: Job) -> int:
    """Which attempt at its run it is; 1 of a job of another origin."""
    return max(1, number_of(job, run_of(job)))


def name_of(job: Job) -> str:
    """The name of the run, as its job file says; "" of a job of another origin."""
    return str(facts_of(job).get("name", ""))


def facts_of(job: Job) -> dict[str, Any]:
    """What was said of a job when it was submitted: jobs/request.py."""
    try:
        found = json.loads(job.metadata.get(OURS, "{}"))
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def number_of(job: Job, run: str) -> int:
    """Of an attempt at this run; 0 of any other job."""
    found = ATTEMPT.match(job.id)
    return int(found["number"]) if found and found["run"] == run else 0
