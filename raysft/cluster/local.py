"""A cluster on this machine: brought up, looked at, and taken down again, each by a command of its own.

Its processes belong to one keeper (keeper.py), which is known by its process id and the moment when it began
(identity.py), so that nothing else is ever ended. It owns the cluster from that moment on, whether it has come up yet
or not: a terminal that closes meanwhile does not end it. The dashboard answers on 127.0.0.1; every door of the cluster
asks for its token.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysft.cluster.endpoint import ADDRESS, TOKEN, not_up
from raysft.cluster.identity import identity, is_running
from raysft.cluster.keeper import FAILED, SETUP, TEMP
from raysft.cluster.named import FILE, state_folder
from raysft.cluster.pools.catalogue import pools_of
from raysft.cluster.state import alone, refuse_other
from raysft.config import Cluster
from raysft.config.labels import MARKET, POOL
from raysft.errors import NoCapacity, NotAllowed, RaysftError, UsageError
from raysft.events import Listener
from raysft.session import ENVIRONMENT, LOGICAL_GPUS
from raysft.storage.commit import read_json, write_bytes, write_json, writing

START_S = 180.0
END_S = 30.0
STOP_WAIT_S = "120"  # that a job which is stopped has to save; Ray's 3 s are too few
LOG = "keeper.log"
PROCESS = "process.json"


@dataclass(frozen=True)
class Running:
    """What is known of a cluster that is up."""

    name: str
    address: str
    pid: int
    since: float  # seconds since 1970
    nodes: list[dict[str, Any]]  # {cpus, gpus, labels} each, the head first


def up(cluster: Cluster, listener: Listener) -> Running:
    """Bring it up, unless it is; returns when all nodes are there.

    Raises NoCapacity (a node did not start), NotAllowed (the port is taken, another process brings it up right now,
    another cluster has this name), UsageError (Ray's dashboard is not installed).
    """
    if importlib.util.find_spec("aiohttp_cors") is None:
        raise UsageError(
            "a cluster needs Ray's dashboard, through which jobs are sent, and it is not installed",
            "Install it with: pip install 'raysft[cluster]'",
        )
    folder = state_folder(cluster.config.name)
    with writing(folder), alone(cluster.config.name):
        _refuse_other(cluster, folder)
        running = find_running(cluster)
        if running is not None and (folder / FILE).is_file():
            listener.note(f"cluster {running.name} is up since {_ago(running.since)}: {running.address}")
            if (folder / FILE).read_bytes() != _kept_file(cluster):
                again = f"`raysft cluster down {running.name}` and `up` apply it"
                listener.warn(f"{cluster.path} says something else than when it came up; {again}")
            return running
        if _owner(folder) is None:
            _begin(cluster, folder)
        else:
            listener.note("an earlier `raysft cluster up` was broken off; its processes go on, and are waited for")
        listener.stage("start")
        _wait(folder)
        write_bytes(
            folder / FILE, _kept_file(cluster)
        )  # last, since a cluster whose file is here counts as one that is up
    running = find_running(cluster)
    if running is None:
        raise NoCapacity(f"cluster {cluster.config.name} ended at once", f"Its log: {folder / LOG}")
    return running


def _refuse_other(cluster: Cluster, folder: Path) -> None:
    """Raise NotAllowed where the folder is not that of a cluster on this machine: its token and its files would go."""
    refuse_other(cluster)
    if (folder / TOKEN).exists() and not (folder / SETUP).exists():
        name = cluster.config.name
        raise NotAllowed(
            f"{folder} holds the token of another cluster named {name}, which is not on this machine",
            "Give this one another name.",
        )


def _begin(cluster: Cluster, folder: Path) -> None:
    """Its keeper, in a folder with nothing else in it."""
    _clear(folder)
    folder.mkdir(parents=True, mode=0o700)
    setup = _setup(cluster)
    write_json(folder / SETUP, setup)
    _write_secret(folder / TOKEN, secrets.token_hex(32))
    _start_keeper(folder, setup["logical_gpus"])


def down(cluster: Cluster) -> bool:
    """Take it down, all of its processes and nothing else; False where nothing of it ran.

    Raises NotAllowed where another process brings it up right now, or takes it down, or another cluster has this name.
    """
    folder = state_folder(cluster.config.name)
    with writing(folder), alone(cluster.config.name, wait_s=END_S):  # another `down` is about to end
        _refuse_other(cluster, folder)
        pid = _owner(folder)
        if pid is not None:
            _end(pid)
        _clear(folder)
    return pid is not None


def _owner(folder: Path) -> int | None:
    """Process id of the keeper, whether its cluster has come up or not; None where it does not run."""
    try:
        known = read_json(folder / PROCESS)
    except (OSError, ValueError):
        return None
    return int(known["pid"]) if is_running(known) else None


def _end(pid: int) -> None:
    """A keeper with all that is below it: asked to end, and ended where it does not."""
    import psutil

    try:
        keeper = psutil.Process(pid)
        below = keeper.children(recursive=True)
        keeper.terminate()
    except psutil.NoSuchProcess:
        return
    _gone, left = psutil.wait_procs([keeper, *below], timeout=END_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=END_S)


def find_running(cluster: Cluster) -> Running | None:
    """What is up under this name; None where nothing is."""
    folder = state_folder(cluster.config.name)
    pid = _owner(folder)
    if pid is None:
        return None
    try:
        began = float(read_json(folder / PROCESS)["began"])
        address = (folder / ADDRESS).read_text(encoding="utf-8")
        setup = read_json(folder / SETUP)
        return Running(cluster.config.name, address, pid, began, [setup["head"], *setup["nodes"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def status(cluster: Cluster) -> Running:
    """Raises NotFound where it is not up."""
    running = find_running(cluster)
    if running is None:
        raise not_up(cluster)
    return running


def _setup(cluster: Cluster) -> dict[str, Any]:
    """What the keeper starts: without pools the head does the work, with all of this machine's processors."""
    assert cluster.config.local is not None
    pools = pools_of(cluster)
    cpus = 0 if pools else len(os.sched_getaffinity(0))
    nodes = [
        {"cpus": pool.cpus, "gpus": pool.gpus, "labels": {POOL: pool.name, MARKET: pool.market}}
        for pool in pools
        for _ in range(pool.most)
    ]
    head = {"cpus": cpus, "gpus": 0 if pools else _gpus_here(), "labels": {POOL: "head"}}
    temp = tempfile.mkdtemp(prefix=TEMP)  # short: the path of a socket below it may have 107 bytes
    return {
        "port": cluster.config.local.port,
        "temp": temp,
        "head": head,
        "nodes": nodes,
        "logical_gpus": sum(pool.gpus * pool.most for pool in pools) > _gpus_here(),
    }


def _gpus_here() -> int:
    """GPUs of NVIDIA that this machine has."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _kept_file(cluster: Cluster) -> bytes:
    """The cluster file as it is now, kept so that the name alone will do from now on."""
    values = cluster.config.model_dump(mode="json", exclude_defaults=True)
    values.setdefault("local", {})
    return json.dumps(values, indent=1).encode()  # JSON is YAML


def _start_keeper(folder: Path, logical_gpus: bool) -> subprocess.Popen[bytes]:
    """logical_gpus: those of the pools are only counted, and workers that get one compute on CPUs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        **ENVIRONMENT,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / TOKEN),
        "RAY_JOB_STOP_WAIT_TIME_S": STOP_WAIT_S,
        # Every door on 127.0.0.1 alone. Ray made this switch for Macs and heeds it on Linux, where it would otherwise
        # put the machine's own address in place of that one and listen on all of them.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Where workers train together: else gloo listens at the address that this machine's name leads to.
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}),
        # `ray job submit -- raysft train ...` finds the raysft that brought the cluster up.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    if logical_gpus:
        environment[LOGICAL_GPUS] = "1"
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "raysft.cluster.keeper", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,  # Ctrl-C of the terminal is not meant for it
        )
    write_json(folder / PROCESS, identity(process.pid))
    return process


def _wait(folder: Path) -> None:
    """Until it is up. Raises NoCapacity, and leaves nothing running then or at Ctrl-C."""
    deadline = time.monotonic() + START_S
    pid = int(read_json(folder / PROCESS)["pid"])
    try:
        while not (folder / ADDRESS).exists():
            if _owner(folder) is None or time.monotonic() > deadline:
                raise _why_not(folder, read_json(folder / SETUP))
            time.sleep(0.2)
    except BaseException:
        if _owner(folder) is not None:
            _end(pid)
        raise


def _why_not(folder: Path, setup: dict[str, Any]) -> RaysftError:
    said = (folder / FAILED).read_text(encoding="utf-8") if (folder / FAILED).exists() else ""
    if re.search(rf"\b{setup['port']}\b", said):
        return NotAllowed(
            f"port {setup['port']} is taken, where the dashboard should answer",
            "Choose another: local: {port: 8266} in a cluster file.",
        )
    ended = "its keeper ended at once" if _owner(folder) is None else f"it took longer than {START_S:.0f} s"
    reason = said.splitlines()[0] if said else ended
    return NoCapacity(f"the cluster did not start: {reason}", f"Its log: {folder / LOG}")


def _clear(folder: Path) -> None:
    """What an earlier cluster of this name left, here and in Ray's own folder."""
    try:
        temp = Path(read_json(folder / SETUP)["temp"])
    except (OSError, ValueError, KeyError, TypeError):
        temp = None
    if temp is not None and temp.name.startswith(TEMP):
        shutil.rmtree(temp, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _write_secret(path: Path, text: str) -> None:
    """Readable by its owner alone, from the first moment on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _ago(then: float) -> str:
    minutes = int((time.time() - then) / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
