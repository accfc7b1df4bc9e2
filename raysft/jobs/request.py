"""What is asked of the cluster: one command, what it needs, and who asks. Sending it is another step (submit.py).

    raysft submit train jobs/x.yaml --cluster gpu   ->   raysft train jobs/x.yaml --set output=/mnt/raysft/results

The id of a job is made of what it writes, so that the same run has the same id: its first attempt ends in -1, the next
one in -2. A run goes on where the attempt before left off, since its output is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raysft.config import Cluster, load_job
from raysft.config import Job as JobFile
from raysft.errors import UsageError
from raysft.jobs.client import OURS
from raysft.jobs.needed import package_of, refuse_elsewhere, refuse_missing, sent_arguments
from raysft.jobs.output import is_local, output_on
from raysft.jobs.package import Package, is_on, package_name, refuse_secrets
from raysft.jobs.told import EVENTS
from raysft.session import own_python
from raysft.version import VERSION

PINNED = ("ray", "torch", "transformers", "tokenizers", "peft")  # whose versions decide what a run computes
PINS = "RAYSFT_PINS"
MOST = 63  # characters of an id: what Kubernetes takes as a label


@dataclass(frozen=True)
class Request:
    """All that is sent, except for the number of the attempt and the archive's bytes."""

    run: str  # the id without its attempt
    entrypoint: str
    environment: dict[str, str]
    metadata: dict[str, str]
    package: Package | None = None  # None: the cluster sees the files of this machine
    archive: bytes = field(default=b"", repr=False)
    runs_here: bool = False  # by this Python, on a cluster of this machine

    def to_json(self, attempt: int) -> dict[str, Any]:
        """The body of the request."""
        env: dict[str, Any] = {"env_vars": {**self.environment, "RAYSFT_JOB": f"{self.run}-{attempt}"}}
        if self.runs_here:
            env |= own_python().get("runtime_env", {})
        if self.package is not None:
            env["working_dir"] = f"gcs://{package_name(self.archive)}"
        return {
            "submission_id": f"{self.run}-{attempt}",
            "entrypoint": self.entrypoint,
            "runtime_env": env,
            "metadata": self.metadata,
        }


def make_request(
    verb: str,
    job: Path,
    cluster: Cluster | None,
    overrides: Sequence[str] = (),
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    now: datetime | None = None,
) -> Request:
    """Check the job, and what would be sent of it. cluster: None where only an address is known.

    Raises JobFileError, NotFound, DataError, UsageError (a path that means nothing there), NotAllowed (a secret).
    """
    loaded = load_job(job, overrides)
    refuse_secrets(
        {
            str(job): job.read_text(encoding="utf-8-sig"),
            "--set": "\n".join(overrides),
            "arguments": "\n".join(arguments),
        },
        environment,
    )
    refuse_missing(arguments)
    storage = None if cluster is None else cluster.config.storage
    package = None if _sees_our_files(loaded, cluster) else package_of(loaded, arguments, storage)
    words = list(arguments)
    if not is_local(cluster):
        _refuse_lost_output(verb, arguments)
        words = sent_arguments(arguments, package, storage)
        if package is None:
            refuse_elsewhere(loaded, storage or "")
    output = output_on(cluster, loaded)
    path = str(loaded.path) if package is None else package.within(loaded.path)
    kept = [override for override in overrides if not override.startswith("output=")]
    sets = [word for override in [*kept, f"output={output}"] for word in ("--set", override)]
    command = shlex.join([*_raysft(cluster), verb, path, *sets, *words])
    return Request(
        run=run_id(verb, loaded, output, arguments),
        entrypoint=(f"cd {shlex.quote(str(Path.cwd()))} && " if is_local(cluster) else "") + f"exec {command}",
        environment={EVENTS: "1", PINS: json.dumps(pins(), sort_keys=True), "PYTHONUNBUFFERED": "1"},
        metadata=_metadata(verb, loaded, cluster, output, now or datetime.now(UTC)),
        package=package,
        archive=b"" if package is None else package.archive(),
        runs_here=is_local(cluster),
    )


def with_settings_first(overrides: Sequence[str], arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(overrides, arguments), where those of `--set` among the arguments are overrides too: behind ours on the command
    of the cluster they would change the run after all that is checked here, and send its results elsewhere."""
    settings, rest = [*overrides], list[str]()
    words = iter(arguments)
    for word in words:
        if word == "--set":
            settings.append(next(words, ""))
        elif word.startswith("--set="):
            settings.append(word.removeprefix("--set="))
        else:
            rest.append(word)
    return tuple(settings), tuple(rest)


def own_request(id: str, words: Sequence[str], cluster: Cluster) -> dict[str, Any]:
    """The body of a request that runs a command of ours, with no job file and no file."""
    env: dict[str, Any] = {
        "env_vars": {EVENTS: "1"},
        **(own_python().get("runtime_env", {}) if is_local(cluster) else {}),
    }
    command = shlex.join([*_raysft(cluster), *words])
    return {"submission_id": id, "entrypoint": f"exec {command}", "runtime_env": env, "metadata": {}}


def run_id(verb: str, job: JobFile, output: str, arguments: Sequence[str]) -> str:
    """Of all attempts at one run: its name, what is done, and a digest of where it is written."""
    name = re.sub(r"[^a-z0-9]+", "-", job.config.name.lower()).strip("-") or "job"
    said = json.dumps([verb, job.config.name, output, list(arguments) if verb in {"evaluate", "predict"} else []])
    tail = f"-{verb}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    return name[: MOST - len(tail) - len("-9999")].rstrip("-") + tail


def pins() -> dict[str, str]:
    """Versions that the cluster must have, too, whatever processor they were built for."""
    return {"raysft": VERSION, **{name: version(name).partition("+")[0] for name in PINNED}}


def _sees_our_files(job: JobFile, cluster: Cluster | None) -> bool:
    """Whether the nodes find the job file under its path here."""
    return cluster is not None and (is_local(cluster) or is_on(job.path, cluster.config.storage))


def _refuse_lost_output(verb: str, arguments: Sequence[str]) -> None:
    """What `predict` writes beside the job would be gone with it."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        target = following if word == "--output" else word.partition("--output=")[2]
        if target and not Path(target).is_absolute():
            raise UsageError(
                f"{verb} --output {target}: a relative path is lost on a cluster when the job ends",
                "Name an absolute path on the cluster's storage.",
            )


def _raysft(cluster: Cluster | None) -> list[str]:
    """The command: that of this environment on this machine, that of the image elsewhere."""
    if is_local(cluster):
        return [sys.executable, "-P", "-m", "raysft"]  # a queue.py where the command was typed is not Python's own
    return ["raysft"]


def _metadata(verb: str, job: JobFile, cluster: Cluster | None, output: str, now: datetime) -> dict[str, str]:
    settings = json.dumps(job.config.model_dump(mode="json"), sort_keys=True)
    said = {
        "verb": verb,
        "name": job.config.name,
        "job": job.path.name,
        "output": output,
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "cluster": "" if cluster is None else cluster.config.name,
        "submitted": now.isoformat(timespec="seconds"),
        "version": VERSION,
    }
    return {OURS: json.dumps(said, sort_keys=True)}
