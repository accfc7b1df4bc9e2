"""Brings clusters on AWS, GCP and Azure up and down, by Ray's own command and with its output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import join

from raysft.cluster.files.ray_up import PORT_DASHBOARD
from raysft.cluster.rules.rendered import RAY
from raysft.cluster.state import forget, keep, kept_folder
from raysft.config import Cluster
from raysft.errors import RaysftError
from raysft.events import Listener

RAYS = [sys.executable, "-m", "ray.scripts.scripts"]  # `ray` of this very Python environment


def up(cluster: Cluster, files: dict[str, str], listener: Listener) -> None:
    """Makes the head, or brings it up to date; workers come with jobs. files: as rendered.

    Raises RaysftError where Ray's command fails, NotAllowed where there is no token.
    """
    folder = keep(cluster, files)
    name = cluster.config.name
    _ray(["up", "--yes", str(folder / RAY)], f"`raysft cluster down {name}` ends what was made.")
    listener.note(f"{name} is up; its files and its token are in {folder}")
    listener.note(f"its dashboard, through a tunnel: ray dashboard --port {PORT_DASHBOARD} {folder / RAY}")
    listener.note(f"then: raysft submit train JOB --cluster {name}")


def down(cluster: Cluster, listener: Listener) -> None:
    """Ends the head and all workers. Raises RaysftError where Ray's command fails, NotFound."""
    folder = kept_folder(cluster)
    _ray(["down", "--yes", str(folder / RAY)], "Look in the cloud's console for what is left; it costs money.")
    forget(cluster)
    listener.note(f"{cluster.config.name} is down")


def status(cluster: Cluster) -> None:
    """What Ray says of nodes and of what waits for them. Raises RaysftError where the head is not reached, NotFound."""
    folder = kept_folder(cluster)
    _ray(["exec", str(folder / RAY), "ray status"], "`raysft cluster doctor` says what is wrong.")


def _ray(arguments: Sequence[str], next_step: str) -> None:
    ended = subprocess.run([*RAYS, *arguments], check=False).returncode  # noqa: S603
    if ended:
        shown = join(["ray", *arguments[:-1], Path(arguments[-1]).name])
        raise RaysftError(f"`{shown}` ended with code {ended}; what it says is above", next_step)
