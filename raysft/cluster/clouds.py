"""Brings clusters on AWS, GCP and Azure up and down, by Ray's own command and with its output."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join

from raysft.cluster.files.ray_up import PORT_DASHBOARD
from raysft.cluster.rules.rendered import RAY
from raysft.cluster.state import alone, forget, keep, kept_folder, known_token, refuse_other
from raysft.config import Cluster
from raysft.errors import NotAllowed, NotFound, RaysftError
from raysft.events import Listener

RAYS = [sys.executable, "-P", "-m", "ray.scripts.scripts"]  # `ray` of this very Python environment


# Asked on the head itself, so that no tunnel is needed, and no other cluster answers at its end.
DASHBOARD = f"http://127.0.0.1:{PORT_DASHBOARD}"
JOBS = f"ray job list --address {DASHBOARD}"
NO_HEAD = re.compile(r"Head node of cluster .* not found")
ENDED = re.compile(r"Requested .*\d.* nodes to shut down")  # `ray down` of Ray 2.60, where there was one; in colours
STDERR = 2
RUNS = re.compile(r"<JobStatus\.(RUNNING|PENDING)\b")
ID = re.compile(r"\b(?:submission_id|job_id)='([^']+)'")


@dataclass(frozen=True)
class Head:
    """That of a cluster which is up, or may be."""

    jobs: tuple[str, ...] | None  # ids of those that run; None: neither cloud nor head told
    said: str  # the last line of what they said


def up(cluster: Cluster, files: dict[str, str], listener: Listener, restart: bool = False) -> None:
    """Makes the head, or brings it up to date; workers come with jobs. files: as rendered.

    The latter starts Ray on the head anew, which ends all jobs. restart: also where some run.

    Raises RaysftError where Ray's command fails, NotAllowed where jobs run, the token of a head is not known, or a
    cluster of this name was brought up in another place.
    """
    name = cluster.config.name
    with alone(name):
        refuse_other(cluster)
        token = known_token(cluster)
        head = _find_head(files[RAY])
        if head is not None:
            _refuse_to_make_a_token(cluster, token, head)
        if head is not None and not restart:
            _refuse_to_end_jobs(cluster, head)
        folder = keep(cluster, files, token)
        next_step = f"`{_anew(cluster)}` tries again, `raysft cluster down {name}` ends it."
        _ray(["up", "--yes", str(folder / RAY)], next_step)
    listener.note(f"{name} is up; its files and its token are in {folder}")
    tunnel = join(["ray", "dashboard", "--port", str(PORT_DASHBOARD), str(folder / RAY)])
    listener.note(f"its dashboard, through a tunnel: {tunnel}")
    listener.note(f"then: raysft submit train JOB --cluster {name}")


def _find_head(text: str) -> Head | None:
    """None where the cloud has none of this cluster. text: the file that `ray up` reads."""
    with tempfile.TemporaryDirectory(prefix="raysft-") as folder:
        file = Path(folder, RAY)
        file.write_text(text, encoding="utf-8")
        command = [*RAYS, "exec", str(file), JOBS]
        answer = subprocess.run(  # noqa: S603
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    said = answer.stdout.decode("utf-8", errors="replace")
    if answer.returncode and NO_HEAD.search(said):
        return None
    last = (said.strip().splitlines() or ["nothing"])[-1].strip()[:200]
    return Head(None if answer.returncode else _running_in(said), last)


def _running_in(said: str) -> tuple[str, ...]:
    """Ids of jobs that run, in what `ray job list` of Ray 2.60 prints."""
    running = [part for part in said.split("JobDetails(") if RUNS.search(part)]
    return tuple((ID.findall(part) or ["one without an id"])[-1] for part in running)


def _refuse_to_make_a_token(cluster: Cluster, token: str | None, head: Head) -> None:
    if token is not None:
        return
    name, kind = cluster.config.name, cluster.config.kind
    if head.jobs is None:
        raise NotAllowed(
            f"whether {name} is up already is not known: {head.said}",
            f"Mend that, such as credentials of the cloud or its package (pip install 'raysft[{kind}]'). "
            "Where another machine brought it up, name the token that it has by token_file.",
        )
    raise NotAllowed(
        f"{name} is up already, and its token is not on this machine; another one would lock out whoever has it",
        "Copy the file `token` of ~/.raysft/clusters of whoever brought it up, and name it by token_file.",
    )


def _refuse_to_end_jobs(cluster: Cluster, head: Head) -> None:
    name, anew = cluster.config.name, _anew(cluster)
    if head.jobs is None:
        raise NotAllowed(
            f"whether jobs run on {name} is not known: {head.said}",
            f"Mend that; or, where it is the head that does not answer, `{anew}` starts Ray on it anew, which ends all "
            "jobs.",
        )
    if head.jobs:
        raise NotAllowed(
            f"on {name} run {len(head.jobs)} jobs, which would end, since Ray is started anew: {', '.join(head.jobs)}",
            f"Wait for them; or `{anew}`: the same commands go on from their checkpoints.",
        )


def _anew(cluster: Cluster) -> str:
    """By its file: its name would mean the file as it was brought up, without what was edited since."""
    return join(["raysft", "cluster", "up", str(cluster.path), "--restart"])


def down(cluster: Cluster, listener: Listener) -> None:
    """Ends the head and all workers.

    Raises RaysftError where Ray's command fails, NotAllowed, NotFound: also where there was nothing to end, as with the
    credentials of another account, whose cluster would go on. Files and token stay then.
    """
    folder, name = kept_folder(cluster), cluster.config.name
    with alone(name):
        if not _end_nodes(["down", "--yes", str(folder / RAY)]):
            raise NotFound(
                f"no node of {name} was found with these credentials, and nothing is forgotten: its files and its "
                f"token stay in {folder}",
                "Use the account that it was brought up with; where it is gone for certain, remove that folder.",
            )
        forget(cluster)
    listener.note(f"{cluster.config.name} is down")


def status(cluster: Cluster) -> str:
    """What Ray says of nodes and of what waits for them. Raises RaysftError where the head is not reached, NotFound."""
    return ask(cluster, "ray status")


def ask(cluster: Cluster, command: str) -> str:
    """What a command says on the head. Raises RaysftError where the head is not reached, NotFound."""
    arguments = ["exec", str(kept_folder(cluster) / RAY), command]
    answer = subprocess.run([*RAYS, *arguments], check=False, stdout=subprocess.PIPE)  # noqa: S603
    said = answer.stdout.decode("utf-8", errors="replace")
    if answer.returncode:
        sys.stderr.write(said)
        raise _failed(
            arguments, answer.returncode, f"`raysft cluster doctor {cluster.config.name}` says what is wrong."
        )
    return said


def _ray(arguments: Sequence[str], next_step: str) -> None:
    """With what it says on stderr, since it is no answer."""
    if ended := subprocess.run([*RAYS, *arguments], check=False, stdout=STDERR).returncode:  # noqa: S603
        raise _failed(arguments, ended, next_step)


def _end_nodes(arguments: Sequence[str]) -> bool:
    """Calls Ray's command as `_ray` does; whether there was a node to end, of which its code says nothing."""
    ended = False
    with subprocess.Popen(  # noqa: S603
        [*RAYS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            ended = ended or ENDED.search(line) is not None
    if process.returncode:
        raise _failed(arguments, process.returncode, "Look in the cloud's console for what is left; it costs money.")
    return ended


def _failed(arguments: Sequence[str], code: int, next_step: str) -> RaysftError:
    shown = join(["ray", *(Path(word).name if word.endswith(RAY) else word for word in arguments)])
    return RaysftError(f"`{shown}` ended with code {code}; what it says is above", next_step)
