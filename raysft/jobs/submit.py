"""Send a job, and find, stop and try again those that were sent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raysft.errors import NotAllowed, NotFound, UsageError
from raysft.jobs.client import OURS, Client, Job
from raysft.jobs.package import package_name
from raysft.jobs.request import Request, pins

ATTEMPT = re.compile(r"^(?P<run>.+)-(?P<number>\d+)$")
STOP_S = 180.0  # that a job which is stopped may take to save
POLL_S = 1.0


@dataclass(frozen=True)
class Sent:
    """A job that was accepted."""

    id: str
    attempt: int


def submit(client: Client, request: Request) -> Sent:
    """Send it as the next attempt at its run.

    Raises NotAllowed (an attempt is running; another was faster), UsageError (another Ray on the cluster).
    """
    refuse_other_ray(client)
    number = 1 + max((_number(job, request.run) for job in _attempts(client, request.run)), default=0)
    if request.package is not None and not client.has_package(name := package_name(request.archive)):
        client.upload(name, request.archive)
    return Sent(client.submit(request.to_json(number)), number)


def retry(client: Client, job: Job) -> Sent:
    """The same command once more, which goes on where it left off. Raises NotAllowed, NotFound."""
    run = run_of(job)
    if not job.over:
        raise _is_at_it(job)
    number = 1 + max((_number(each, run) for each in _attempts(client, run)), default=0)
    package = str(job.runtime_env.get("working_dir", ""))
    if package.startswith("gcs://") and not client.has_package(package.removeprefix("gcs://")):
        raise NotFound(
            f"the files that were sent with {job.id} are not kept any more",
            "Type the `raysft submit` of then again: the run goes on where it left off.",
        )
    id = f"{run}-{number}"
    env = dict(job.runtime_env)
    env["env_vars"] = {**env.get("env_vars", {}), "RAYSFT_JOB": id}
    request = {"submission_id": id, "entrypoint": job.entrypoint, "runtime_env": env, "metadata": job.metadata}
    return Sent(client.submit(request), number)


def stop(client: Client, job: Job, wait_s: float = STOP_S, told: Callable[[], None] = lambda: None) -> Job:
    """Ask it to save and end, and wait until it has ended. told: called again and again meanwhile.

    Raises NotAllowed where it has not ended after `wait_s` seconds.
    """
    client.stop(job.id)
    deadline = time.monotonic() + wait_s
    while not (found := client.job(job.id)).over:
        if time.monotonic() > deadline:
            raise NotAllowed(
                f"{job.id} was asked to end and has not, in {wait_s:.0f} s",
                f"Look at what it does: raysft jobs logs {job.id}",
            )
        told()
        time.sleep(POLL_S)
    return found


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
    return max(found, key=lambda job: _number(job, run_of(job)))


def refuse_other_ray(client: Client) -> None:
    """Raise UsageError where the cluster has another Ray than this environment."""
    mine, theirs = pins()["ray"], client.version()
    if mine != theirs:
        raise UsageError(
            f"the cluster at {client.address} runs Ray {theirs}, this machine has {mine}",
            "Use the image of that version (`image:` of the cluster file), or the same Ray here.",
        )


def run_of(job: Job) -> str:
    """The id without its attempt; of a job of another origin its whole id."""
    found = ATTEMPT.match(job.id)
    return found["run"] if found and OURS in job.metadata else job.id


def name_of(job: Job) -> str:
    """The name of the run, as its job file says; "" of a job of another origin."""
    return str(facts_of(job).get("name", ""))


def facts_of(job: Job) -> dict[str, Any]:
    """What was said of a job when it was submitted: jobs/request.py."""
    import json

    try:
        found = json.loads(job.metadata.get(OURS, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _attempts(client: Client, run: str) -> list[Job]:
    """All attempts at a run. Raises NotAllowed while one of them is not over."""
    found = [job for job in client.jobs() if _number(job, run)]
    for job in found:
        if not job.over:
            raise _is_at_it(job)
    return found


def _is_at_it(job: Job) -> NotAllowed:
    return NotAllowed(
        f"{job.id} is at it already ({job.status.lower()}): two jobs cannot write the same run",
        f"Follow it: raysft jobs logs {job.id} -f; or stop it: raysft jobs stop {job.id}",
    )


def _number(job: Job, run: str) -> int:
    """Of an attempt at this run; 0 of any other job."""
    found = ATTEMPT.match(job.id)
    return int(found["number"]) if found and found["run"] == run else 0
