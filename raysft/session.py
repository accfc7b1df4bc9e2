"""One Ray for one job: joined where RAY_ADDRESS names a cluster, else started here and ended with the job."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from raysft.config.sections import TrainSection
from raysft.errors import NoCapacity, NotFound

# Ray reads these when it is imported or when a worker starts, so they are set before either.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the controller's poll; 2 s by default
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "true",
    # Large tensors in pages of 2 MiB: what a step frees comes back without the kernel clearing thousands of small ones.
    # all-MiniLM-L6-v2, batches of 16 rows, 2 cores, medians of three runs in turn: 248 ms a step, else 262.
    # Where RAY_ADDRESS names a cluster, its nodes have the environment that they were started with.
    "THP_MEM_ALLOC_ENABLE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


FREE_S = 30.0


@dataclass(frozen=True)
class Resources:
    """How many workers there are, and what each of them gets."""

    workers: int
    cpus: int
    gpu: bool
    memory_bytes: int = 0  # of each worker: of its GPU, else of its share of a node; 0: not known
    fewest: int = 0  # as many workers as training goes on with, and at most; 0: as many as there are
    most: int = 0

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change while they train."""
        return self.fewest < self.most

    def bundle(self) -> dict[str, float]:
        """Ray's resources per worker."""
        return {"CPU": self.cpus, **({"GPU": 1} if self.gpu else {})}


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray is running inside. Joins an initialised Ray or RAY_ADDRESS; else starts one on loopback and ends it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    import ray

    if ray.is_initialized():
        with _quiet_data():
            yield
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": True,
    }
    where = {"address": address} if address else {"address": "local", "include_dashboard": False, **own_python()}
    with _own_sigterm():
        try:
            ray.init(**where, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            if not address:
                raise
            raise NotFound(
                f"no Ray cluster answers at RAY_ADDRESS={address}: {str(error).splitlines()[0]}",
                "Check the address and the token (RAY_AUTH_MODE=token), or unset RAY_ADDRESS to run on this machine.",
            ) from None
    try:
        with _quiet_data():
            yield
    finally:
        ray.shutdown()


def own_python() -> dict[str, Any]:
    """Arguments of ray.init: its workers are run by this Python, wherever that lies.

    Ray 2.60 hands its path to a shell as it is (ray/_private/runtime_env/context.py), so that workers with environment
    variables of their own, as those of Ray Train, never start where the path has a space in it.
    """
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"runtime_env": {"py_executable": quoted}}


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray's start replaces the handler of SIGTERM; ours stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet_data() -> Iterator[None]:
    """Ray Data without bars and with rows in the order of their files; as it was afterwards."""
    from ray.data import DataContext

    before = DataContext.get_current()
    context = before.copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Rows keep the order of their files and lines, whatever task ends first.
    context.execution_options.preserve_order = True
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with DataContext.current(context):
        yield


def find_resources(train: TrainSection) -> Resources:
    """What the workers get on the Ray that is running. Raises NoCapacity, with the arithmetic, when it cannot be."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive]
    fewest, most = train.fewest_workers, train.most_workers
    found = replace(share_out_range(fewest, most, train.device, nodes), fewest=fewest, most=most)
    require_free(found)
    if train.strategy != "auto" or found.workers == 1:
        return found  # nothing hangs on the memory
    memory = gpu_memory() if found.gpu else _memory_each(found, [node.get("memory", 0.0) for node in alive], nodes)
    return replace(found, memory_bytes=memory)


def gpu_memory() -> int:
    """Bytes of one of the cluster's GPUs; they are taken to be alike."""
    import ray

    def measure() -> int:
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)

    return int(ray.get(ray.remote(num_gpus=1)(measure).remote()))


def _memory_each(found: Resources, memory: list[float], nodes: list[tuple[float, float]]) -> int:
    """Bytes of a worker's share of its node, where most of them may stand on one; 0 when Ray does not tell."""
    slots = [min(found.workers, int(cpu // found.cpus)) for cpu, _ in nodes]
    return int(min((each / some for each, some in zip(memory, slots, strict=True) if some), default=0))


def require_free(wanted: Resources) -> None:
    """Wait a little for other jobs to end; Ray itself would wait for ever, and say nothing."""
    import ray

    workers = wanted.fewest or wanted.workers
    needed = {name: amount * workers for name, amount in wanted.bundle().items()}
    deadline = time.monotonic() + FREE_S
    while True:
        free = ray.available_resources()
        short = {name: amount for name, amount in needed.items() if free.get(name, 0.0) < amount}
        if not short:
            return
        if time.monotonic() > deadline:
            said = ", ".join(f"{amount:g} {name} ({free.get(name, 0.0):g} free)" for name, amount in short.items())
            raise NoCapacity(
                f"the cluster is busy: {workers} worker(s) need {said}, and none came free in {FREE_S:.0f} s",
                "Wait for the other jobs (`ray status`), or use fewer workers.",
            )
        time.sleep(1)


def _most_cpus(workers: int, gpu: bool, nodes: list[tuple[float, float]]) -> int:
    """The most CPUs that each worker can have so that all of them fit on these nodes; 0 when they do not fit."""
    most = int(max((cpu for cpu, _ in nodes), default=0))
    for cpus in range(most, 0, -1):
        if sum(min(int(cpu // cpus), int(gpus) if gpu else 10**9) for cpu, gpus in nodes) >= workers:
            return cpus
    return 0


def share_out_range(fewest: int, most: int, device: str, nodes: list[tuple[float, float]]) -> Resources:
    """As many workers as fit between `fewest` and `most`; on GPUs where that gives any, with `auto`."""
    slots = sum(int(cpu) for cpu, _ in nodes)
    for kind in {"auto": ("gpu", "cpu")}.get(device, (device,)):
        for workers in range(min(most, slots), fewest - 1, -1):
            with suppress(NoCapacity):
                return share_out(workers, kind, nodes)
    return share_out(fewest, device, nodes)


def share_out(workers: int, device: str, nodes: list[tuple[float, float]]) -> Resources:
    """Divide nodes of (CPUs, GPUs) among workers: a GPU each if asked or enough, and as many CPUs as fit."""
    gpus = sum(int(gpu) for _, gpu in nodes)
    found = f"{len(nodes)} node(s) with " + ", ".join(
        f"{cpu:g} CPU" + (f" + {gpu:g} GPU" if gpu else "") for cpu, gpu in nodes
    )
    if device == "gpu" and gpus < workers:
        raise NoCapacity(
            f"train.workers {workers} x 1 GPU = {workers} GPUs; the cluster has {gpus} ({found})",
            "Use fewer workers, --set train.device=cpu, or a cluster with more GPUs (RAY_ADDRESS).",
        )
    # With `auto`, GPUs first; where their nodes lack the CPUs, or there are too few, CPUs alone.
    for gpu in {"gpu": [True], "cpu": [False], "auto": [True, False]}[device]:
        cpus = _most_cpus(workers, gpu, nodes)
        if cpus:
            return Resources(workers, cpus, gpu)
    total = sum(int(cpu) for cpu, _ in nodes)
    raise NoCapacity(
        f"train.workers {workers} x 1 CPU = {workers} CPUs; the cluster has {total} ({found})",
        f"Use --set train.workers={max(1, total)} or fewer; the result is the same.",
    )
