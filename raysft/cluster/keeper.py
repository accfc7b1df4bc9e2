"""A process that keeps a cluster on this machine, head and nodes, and ends all of it when it is asked to end.

    python -m raysft.cluster.keeper FOLDER

FOLDER/keeper.json says what to start. When every node is there, FOLDER/address holds that of the dashboard; what cannot
be is in FOLDER/failed. Where FOLDER is gone nobody knows of this process any more, so that it ends by itself; it never
makes the folder again. Ray's own commands are not used, since `ray stop` ends every Ray of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from raysft.cluster.endpoint import ADDRESS

STORE_BYTES = 256 * 2**20  # object store of each node; what trains is read from disk
FAILED = "failed"
SETUP = "keeper.json"
TEMP = "raysft-"  # how the name of Ray's own folder begins
LOOK_S = 2.0  # how often is looked whether the folder is there


def main(folder: Path) -> None:
    """Start, say so, wait for SIGTERM or until the folder is gone, end. Returns when nothing of it runs any more."""
    asked = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, ask)
    here = Here(folder)
    setup = json.loads((folder / SETUP).read_text(encoding="utf-8"))
    try:
        with contextlib.ExitStack() as held:
            try:
                _start(setup, held)
            except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
                here.say(FAILED, str(error) or type(error).__name__)
                return
            for each in (signal.SIGTERM, signal.SIGINT):  # Ray has put handlers of its own there
                signal.signal(each, ask)
            here.say(ADDRESS, f"http://127.0.0.1:{setup['port']}")
            while here.is_there() and not asked.wait(LOOK_S):
                pass
    finally:
        if not here.is_there() and Path(setup["temp"]).name.startswith(TEMP):
            shutil.rmtree(setup["temp"], ignore_errors=True)


class Here:
    """The folder that the keeper was given, and not another one that has its name by now."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def is_there(self) -> bool:
        """Whether it was not removed."""
        return os.access(SETUP, os.F_OK, dir_fd=self._folder)

    def say(self, name: str, text: str) -> None:
        """A file of this name, whole from the first moment on; nothing where the folder was removed."""
        aside = f"{name}.aside"
        with contextlib.suppress(FileNotFoundError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(os.open(aside, flags, 0o600, dir_fd=self._folder), "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(aside, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)


def _start(setup: dict[str, Any], held: contextlib.ExitStack) -> None:
    """The head, then the nodes. setup: port, temp, head and nodes, each {cpus, gpus, labels}."""
    from ray._common.utils import get_default_ray_temp_dir
    from ray._private.utils import write_ray_address
    from ray.cluster_utils import Cluster

    # Where Ray's Cluster notes "the" cluster of this machine, and removes that note in the end: here, and not in
    # /tmp/ray, which may not be there, or be the note of another cluster.
    os.environ["RAY_TMPDIR"] = setup["temp"]
    Path(get_default_ray_temp_dir()).mkdir(exist_ok=True)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **_node(setup["head"]),
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": setup["port"],
            "temp_dir": setup["temp"],
        },
    )
    held.callback(cluster.shutdown)
    # As `ray start` does. A job of this cluster asks for the address of "the" cluster of this machine, and would be
    # given that of any other one.
    write_ray_address(cluster.address, setup["temp"])
    for node in setup["nodes"]:
        cluster.add_node(**_node(node))


def _node(node: dict[str, Any]) -> dict[str, Any]:
    """Arguments of Ray for a node; ports that several clusters would fight for are free ones."""
    return {
        "num_cpus": node["cpus"],
        "num_gpus": node["gpus"],
        "labels": node["labels"],
        "object_store_memory": STORE_BYTES,
        "dashboard_agent_listen_port": _free_port(),
        "metrics_export_port": _free_port(),
    }


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
