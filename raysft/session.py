"""One Ray for one job: joined where RAY_ADDRESS names a cluster, else started here and ended with the job."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from raysft.capacity import Capacity, Node, find_capacity, grows, wait_for_room
from raysft.config.sections import TrainSection
from raysft.errors import NoCapacity, NotFound
from raysft.events import Listener

# Ray reads these when it is imported or when a worker starts, so they are set before either.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the controller's poll; 2 s by default
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # 5 s by default, of which a node may have 30 left
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


# Set where the cluster's GPUs are only counted, as in a rehearsal on a laptop: workers get them and compute on CPUs.
LOGICAL_GPUS = "RAYSFT_LOGICAL_GPUS"
HAS = "the cluster has"
LIST_NODES = 4  # named one by one in an error; more are counted by kind


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

    @property
    def cuda(self) -> bool:
        """Whether workers compute on the GPUs that they get."""
        return self.gpu and not os.environ.get(LOGICAL_GPUS)

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
    """What the workers get on the Ray that is running, counting nodes that may come: what `hold` waits for.

    Raises NoCapacity, with the arithmetic, when it can never be.
    """
    fewest, most = train.fewest_workers, train.most_workers
    capacity = find_capacity()
    found = share_out_range(fewest, most, train.device, capacity.pairs, most_words())
    return replace(found, cpus=cpus_of(found, capacity), fewest=fewest, most=most)


def cpus_of(found: Resources, capacity: Capacity) -> int:
    """CPUs of each worker: as many as fit on the nodes that are there. Where nodes have to come, as many as a small one
    has: a worker that wants the CPUs of the largest machine would have it bought, and fit on no other."""
    there = _most_cpus(found.workers, found.gpu, [(node.cpus, node.gpus) for node in capacity.there])
    if there or not capacity.coming:
        return there or found.cpus
    if found.gpu:  # one that every node with GPUs has for each of them, so that any of them will do
        each = min((int(node.cpus // node.gpus) for node in capacity.coming if node.gpus >= 1), default=found.cpus)
        return min(found.cpus, max(1, each))
    plain = [node for node in capacity.coming if not node.gpus]
    enough = sum(int(node.cpus) for node in plain) >= found.workers
    return min(found.cpus, max(1, int((plain if enough else capacity.coming)[0].cpus)))


def most_words() -> str:
    """How an error begins to say what there is at most."""
    return "the cluster can grow to" if grows() else HAS


def hold(found: Resources, train: TrainSection, listener: Listener) -> Resources:
    """Wait until the workers have room; then what was found, with what only the nodes themselves tell.

    Raises NoCapacity where other jobs keep it on a cluster that does not grow.
    """
    wait_for_room(found.fewest or found.workers, found.bundle(), listener)
    if train.strategy != "auto" or found.workers == 1:
        return found  # nothing hangs on the memory
    return replace(found, memory_bytes=gpu_memory() if found.cuda else _memory_each(found, find_capacity().nodes))


def gpu_memory() -> int:
    """Bytes of one of the cluster's GPUs; they are taken to be alike."""
    import ray

    def measure() -> int:
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)

    return int(ray.get(ray.remote(num_gpus=1)(measure).remote()))


def _memory_each(found: Resources, nodes: Sequence[Node]) -> int:
    """Bytes of a worker's share of its node, where most of them may stand on one; 0 when Ray does not tell."""
    slots = [min(found.workers, int(node.cpus // found.cpus)) for node in nodes]
    return int(min((node.memory / some for node, some in zip(nodes, slots, strict=True) if some), default=0))


def _most_cpus(workers: int, gpu: bool, nodes: list[tuple[float, float]]) -> int:
    """The most CPUs that each worker can have so that all of them fit on these nodes; 0 when they do not fit."""
    most = int(max((cpu for cpu, _ in nodes), default=0))
    for cpus in range(most, 0, -1):
        if sum(min(int(cpu // cpus), int(gpus) if gpu else 10**9) for cpu, gpus in nodes) >= workers:
            return cpus
    return 0


def share_out_range(fewest: int, most: int, device: str, nodes: list[tuple[float, float]], has: str = HAS) -> Resources:
    """As many workers as fit between `fewest` and `most`; on GPUs where that gives any, with `auto`. has: see
    `most_words`."""
    slots = sum(int(cpu) for cpu, _ in nodes)
    for kind in {"auto": ("gpu", "cpu")}.get(device, (device,)):
        for workers in range(min(most, slots), fewest - 1, -1):
            with suppress(NoCapacity):
                return share_out(workers, kind, nodes)
    return share_out(fewest, device, nodes, has)


def share_out(workers: int, device: str, nodes: list[tuple[float, float]], has: str = HAS) -> Resources:
    """Divide nodes of (CPUs, GPUs) among workers: a GPU each if asked or enough, and as many CPUs as fit."""
    gpus = sum(int(gpu) for _, gpu in nodes)
    if device == "gpu" and gpus < workers:
        fewer = f"Use --set train.workers={gpus} or fewer" if gpus else "Use fewer workers"
        raise NoCapacity(
            f"train.workers {workers} x 1 GPU = {workers} GPUs; {has} {gpus} ({_words(nodes)})",
            f"{fewer}, --set train.device=cpu, or a cluster with more GPUs (RAY_ADDRESS).",
        )
    # With `auto`, GPUs first; where their nodes lack the CPUs, or there are too few, CPUs alone.
    for gpu in {"gpu": [True], "cpu": [False], "auto": [True, False]}[device]:
        cpus = _most_cpus(workers, gpu, nodes)
        if cpus:
            return Resources(workers, cpus, gpu)
    total = sum(int(cpu) for cpu, _ in nodes)
    raise NoCapacity(
        f"train.workers {workers} x 1 CPU = {workers} CPUs; {has} {total} ({_words(nodes)})",
        f"Use --set train.workers={max(1, total)} or fewer; the result is the same.",
    )


def _words(nodes: list[tuple[float, float]]) -> str:
    """Each node, or how many there are of each kind where they are many."""
    shapes = [str(Node(cpu, gpu)) for cpu, gpu in nodes]
    kinds = Counter(shapes)
    shown = shapes if len(shapes) <= LIST_NODES else [f"{count} x ({shape})" for shape, count in kinds.items()]
    return f"{len(nodes)} node(s) with " + ", ".join(shown)
