"""Two hosts in a space of their own: starts what the units say, asks them, and ends a worker as Kubernetes does.

    python -m tests.support.hosts_inside FOLDER_WITH_UNITS

The head and the worker have files of their own at the places that the units name; systemd itself is played.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from raysft.cluster.files.kubernetes_pods import DRAIN

NESTED = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]  # its own processes alone are in sight
TASK_S = 12.0


def unit(text: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a unit, with the programs of these tests."""
    lines = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
    environment = dict(shlex.split(line)[0].split("=", 1) for line in lines)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return shlex.split(command.replace("/opt/raysft/bin/", "")), environment


def answer(token: str | None) -> int:
    """Status of the job API."""
    request = urllib.request.Request("http://127.0.0.1:8265/api/jobs/")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answered:  # noqa: S310
            return int(answered.status)
    except urllib.error.HTTPError as error:
        return error.code


def wait_until(found: Any, seconds: float = 120.0) -> Any:
    """What `found` gives, as soon as that is anything."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = found()
        except (OSError, ConnectionError, RuntimeError):
            value = None
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.5)


def drain(worker: subprocess.Popen[bytes], environment: dict[str, str]) -> dict[str, Any]:
    """Runs the hook of a pod where the worker sees itself, while a task runs there, and afterwards again."""
    import ray
    from ray._private.state import state

    (inner,) = psutil.Process(worker.pid).children()
    inside = ["nsenter", "--target", str(inner.pid), "--pid", "--mount", "bash", "-c", DRAIN]
    environment = {**environment, "RAY_ADDRESS": "127.0.0.1:6379"}

    def work() -> str:
        time.sleep(TASK_S)
        return str(ray.get_runtime_context().get_node_id())

    task = ray.remote(num_cpus=1, label_selector={"raysft.io/pool": "lab"})(work).remote()
    wait_until(lambda: any("ray::work" in " ".join(each.cmdline()) for each in psutil.process_iter()))
    hook = subprocess.Popen(inside, env=environment)
    draining = wait_until(lambda: list(state.get_draining_nodes()), 60)
    waited = hook.poll() is None
    node = ray.get(task, timeout=120)
    return {"drained": draining == [node], "waited": waited, "ended": hook.wait(timeout=60)}


def main(folder: Path) -> None:
    command, environment = unit((folder / "ray-head.service").read_text(encoding="utf-8"))
    if "RAY_AUTH_MODE" not in os.environ:  # Ray reads it when it is imported
        os.execve(sys.executable, [sys.executable, "-m", "tests.support.hosts_inside", str(folder)], environment)  # noqa: S606
    import ray

    head = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="utf-8")
    found: dict[str, Any] = {"with_token": wait_until(lambda: answer(token) == 200), "without": answer(None)}
    command, _ = unit((folder / "ray-worker.service").read_text(encoding="utf-8"))
    worker = subprocess.Popen([*NESTED, *command], env=environment, stdout=sys.stderr)
    ray.init(address="127.0.0.1:6379", logging_level="ERROR", log_to_driver=False)
    wait_until(lambda: len([node for node in ray.nodes() if node["Alive"]]) == 2)
    for node in ray.nodes():
        kind = "worker" if "raysft.io/pool" in node["Labels"] else "head"
        found[kind] = {"cpus": node["Resources"].get("CPU", 0), "labels": node["Labels"]}
    found["hook"] = drain(worker, environment)
    ray.shutdown()
    for process in (worker, head):
        process.terminate()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
