"""Send a job, stop and try again those that were sent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from raysft.errors import Interrupted, NotAllowed, NotFound, UsageError
from raysft.jobs.client import Client, Failing, Job, Unreachable
from raysft.jobs.package import package_name
from raysft.jobs.request import Request, pins
from raysft.jobs.runs import number_of, run_of

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
    number = 1 + max((number_of(job, request.run) for job in _attempts(client, request.run)), default=0)
    if request.package is not None and not client.has_package(name := package_name(request.archive)):
        client.upload(name, request.archive)
    return Sent(_send(client, request.to_json(number)), number)


def retry(client: Client, job: Job) -> Sent:
    """The same command once more, which goes on where it left off. Raises NotAllowed, NotFound."""
    run = run_of(job)
    if not job.over:
        raise _is_at_it(client, job)
    number = 1 + max((number_of(each, run) for each in _attempts(client, run)), default=0)
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
    return Sent(_send(client, request), number)


def stop(client: Client, job: Job, wait_s: float = STOP_S) -> Job:
    """Ask it to save and end, and wait until it has ended, also where the cluster does not answer for a moment.

    Raises NotAllowed where it has not ended after `wait_s` seconds, Unreachable where nothing answers then.
    """
    client.stop(job.id)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            if (found := client.job(job.id)).over:
                return found
        except (Unreachable, Failing):
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise NotAllowed(
                f"{job.id} was asked to end and has not, in {wait_s:.0f} s",
                f"Look at what it does: raysft jobs logs {job.id}{client.flags}",
            )
        time.sleep(POLL_S)


def refuse_other_ray(client: Client) -> None:
    """Raise UsageError where the cluster has another Ray than this environment."""
    mine, theirs = pins()["ray"], client.version()
    if mine != theirs:
        raise UsageError(
            f"the cluster at {client.address} runs Ray {theirs}, this machine has {mine}",
            "Use the image of that version (`image:` of the cluster file), or the same Ray here.",
        )


def _send(client: Client, body: dict[str, Any]) -> str:
    """The id. Where no answer comes, or that of a proxy, the job may have been taken all the same, and is not sent a
    second time."""
    id = str(body["submission_id"])
    tells = f"`raysft jobs status {id}{client.flags}` tells, once it answers"
    try:
        return client.submit(body)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; whether the cluster has taken job {id} is not known",
            f"{tells}; `raysft jobs stop {id}{client.flags}` ends it, the same command does not send it twice.",
        ) from None
    except (Unreachable, Failing) as error:
        taken = _has_taken(client, body)
        if taken:
            return id
        if taken is False and isinstance(error, Failing):
            raise
        raise Unreachable(
            f"{error.message}; whether it has taken job {id} is not known",
            f"{tells}; the same command does not send it twice.",
        ) from None


def _has_taken(client: Client, body: dict[str, Any]) -> bool | None:
    """Whether the cluster has the job; None where it does not tell."""
    try:
        there = client.job(str(body["submission_id"]))
    except (Unreachable, Failing):
        return None
    except NotFound:
        return False
    return (there.entrypoint, there.metadata) == (body["entrypoint"], body["metadata"])


def _attempts(client: Client, run: str) -> list[Job]:
    """All attempts at a run. Raises NotAllowed while one of them is not over."""
    found = [job for job in client.jobs() if number_of(job, run)]
    for job in found:
        if not job.over:
            raise _is_at_it(client, job)
    return found


def _is_at_it(client: Client, job: Job) -> NotAllowed:
    return NotAllowed(
        f"{job.id} is at it already ({job.status.lower()}): two jobs cannot write the same run",
        f"Follow it: raysft jobs logs {job.id} -f{client.flags}; or stop it: raysft jobs stop {job.id}{client.flags}",
    )
