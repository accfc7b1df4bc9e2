"""How many folds of a sweep train at a time on the Ray that is running, so that all of them have room."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from raysft.capacity import find_capacity, wait_for_room
from raysft.config.sections import TrainSection
from raysft.errors import NoCapacity
from raysft.events import Listener, Silent
from raysft.session import Resources, find_resources, gpu_memory, hold, most_words, share_out

MOST_ON_A_GPU = 4  # folds; more take turns rather than fill gaps


@dataclass(frozen=True)
class Slots:
    """How many folds of a sweep train at a time, and what each of them gets."""

    count: int
    cpus: int  # of each, or of each of its workers
    gpu: bool
    share: float = 1.0  # of a GPU
    workers: int = 1  # that train one fold together
    resources: Resources = field(default_factory=lambda: Resources(1, 1, False))

    def bundle(self) -> dict[str, float]:
        """Ray's resources for the process of a fold. Where it has workers it only waits for them, on the head, which is
        not taken away as others are; of a CPU it would take what a worker needs."""
        if self.workers > 1:
            return {"node:__internal_head__": 0.001}
        return {"cpu": self.cpus, **({"gpu": self.share} if self.gpu else {})}


def find_slots(
    train: TrainSection, need_bytes: int, most: int, several: bool = False, listener: Listener | None = None
) -> Slots:
    """Room for the folds of a sweep on the Ray that is running, counting nodes that may come; waits until there is room
    for one of them. need_bytes: memory of one that trains; 0: not known. most: folds that could train at a time.
    several: whether the workers of train.workers train each fold together.

    Raises NoCapacity.
    """
    listener = listener or Silent()
    capacity = find_capacity()
    nodes = capacity.pairs
    if several:
        found = hold(_shared_out(find_resources(train), nodes), train, listener)
        fitting = _times(found, nodes)
        return Slots(max(1, min(most, fitting)), found.cpus, found.cuda, 1.0, found.workers, found)
    gpus = sum(int(gpu) for _, gpu in nodes) if Resources(1, 1, True).cuda else 0
    if train.device == "gpu" and not gpus:
        share_out(1, "gpu", nodes, most_words())  # says what there is
    if gpus and train.device != "cpu":
        wait_for_room(1, Resources(1, 1, True).bundle(), listener)
        return _slots_on_gpus(nodes, need_bytes and gpu_memory() // need_bytes, most)
    wait_for_room(1, Resources(1, 1, False).bundle(), listener)
    # GPUs are not bought for their CPUs, unless there are no others.
    plain = [*capacity.there, *(node for node in capacity.coming if not node.gpus)]
    able = plain if any(node.cpus >= 1 for node in plain) else capacity.nodes
    return slots_on_cpus([node.cpus for node in able], [node.memory for node in able], need_bytes, most)


def slots_on_cpus(cpus: list[float], memory: list[float], need_bytes: int, most: int) -> Slots:
    """A CPU each, as far as the memory of each node goes; more where there are fewer folds than CPUs.

    Two folds with a thread each are done sooner than one after the other with two: no thread waits for another.
    """
    room = [
        int(min(cpu, have // need_bytes if need_bytes and have else cpu))
        for cpu, have in zip(cpus, memory, strict=True)
    ]
    whole = [int(cpu) for cpu in cpus if cpu >= 1]
    if not whole:
        raise NoCapacity(
            "the cluster has no CPU for a fold to train on", "Start nodes with CPUs, or use another cluster."
        )
    count = max(1, min(sum(room), most))
    each = max((c for c in range(1, max(whole) + 1) if sum(cpu // c for cpu in whole) >= count), default=1)
    return Slots(count, each, gpu=False)


def _slots_on_gpus(nodes: list[tuple[float, float]], fitting: int, most: int) -> Slots:
    """Several folds on a GPU where its memory holds them; each node has a CPU for every one."""
    gpus = sum(int(gpu) for _, gpu in nodes)
    a_gpu = min((int(cpu // gpu) for cpu, gpu in nodes if gpu >= 1), default=1)
    wanted = -(-most // gpus)
    several = max(1, min(MOST_ON_A_GPU, fitting or 1, a_gpu, wanted))
    room = sum(min(int(cpu), int(gpu) * several) for cpu, gpu in nodes)
    return Slots(max(1, min(most, room)), max(1, a_gpu // several), gpu=True, share=1 / several)


def _shared_out(found: Resources, nodes: list[tuple[float, float]]) -> Resources:
    """With no more CPUs for a worker than its GPU's share of a node, so that each GPU of it can have one."""
    shares = [int(cpu // gpu) for cpu, gpu in nodes if gpu >= 1]
    return replace(found, cpus=max(1, min([found.cpus, *shares]))) if found.gpu else found


def _times(found: Resources, nodes: list[tuple[float, float]]) -> int:
    """How many groups of workers fit beside each other."""
    places = sum(min(int(cpu // found.cpus), int(gpu) if found.gpu else 10**9) for cpu, gpu in nodes)
    return places // found.workers
