"""What a job needs of the nodes that it runs on, in numbers, taken from its plan."""

from __future__ import annotations

from dataclasses import dataclass

from raysft.plan.plan import RUNTIME_BYTES
from raysft.plan.preflight import Measured
from raysft.plan.weights import WEIGHT_BYTES

ONE_ROW = 1  # of a micro-batch: what running out of memory ends at, see training/memory.py
CUT = 2**62  # more bytes than anything has


@dataclass(frozen=True)
class Memory:
    """Bytes of one worker, by how the workers share the model."""

    whole: int  # each has the model (ddp)
    beside: int = 0  # they share it (fsdp): of each worker, however many there are
    split: int = 0  # fsdp: divided among them

    def of(self, workers: int, strategy: str) -> int:
        """strategy: ddp | fsdp."""
        return self.whole if strategy == "ddp" else self.beside - (-self.split // workers)


@dataclass(frozen=True)
class Need:
    """What a job needs. A worker has one GPU, or none, and one CPU or more."""

    fewest: int  # workers
    most: int
    gpu: bool
    strategies: tuple[str, ...]  # ddp, fsdp, or both where the run chooses
    planned: Memory  # on its device
    least: Memory  # the same with one row at a time: what is beyond that never runs
    host: int = 0  # bytes of the node's memory for each worker that has a GPU
    flops: float = 0.0  # operations of the whole training
    compiled: bool = False
    at_most: bool = False  # the memory is an upper bound, which refuses nothing
    cpu_flops: float = 0.0  # operations a second of one CPU, as this machine's are measured

    @property
    def cpus_each(self) -> int:
        """CPUs that a worker needs at least."""
        return 1

    @property
    def gpus_each(self) -> int:
        """GPUs of a worker."""
        return int(self.gpu)

    def least_bytes(self, workers: int) -> int:
        """Bytes of a worker's device that so many workers need each at least. Falls, or stays, as workers come."""
        return min(self.least.of(workers, each) for each in self.strategies)

    def strategy(self, workers: int, each: int) -> str:
        """ddp or fsdp, as the run chooses it where a worker has so many bytes; 0: not known."""
        if len(self.strategies) == 1:
            return self.strategies[0]
        return "ddp" if workers == 1 or each == 0 or self.planned.whole <= each else "fsdp"

    def planned_bytes(self, workers: int, each: int) -> int:
        """Bytes of a worker's device as planned, where it has `each`; 0: not known."""
        return self.planned.of(workers, self.strategy(workers, each))


def need_of(measured: Measured, gpu: bool) -> Need:
    """What the job needs on GPUs, or on CPUs."""
    config, machine, weights = measured.config, measured.machine, measured.weights
    train, plan = config.train, measured.plan(gpu)
    strategies = _strategies(measured, gpu)
    loaded = weights.trained + weights.kept - weights.four_bits
    offloaded = weights.bytes(train) // train.fewest_workers if train.offload else 0
    return Need(
        fewest=train.fewest_workers,
        most=train.most_workers,
        gpu=gpu,
        strategies=strategies,
        planned=_memory(measured, gpu, strategies),
        least=_memory(measured, gpu, strategies, micro_batch=ONE_ROW),
        # Weights are loaded as float32 on the CPU, by each worker, before they go to the GPU.
        host=RUNTIME_BYTES + max(WEIGHT_BYTES * loaded, offloaded) if gpu else 0,
        flops=plan.flops,
        compiled=train.compile,
        at_most=plan.memory_at_most,
        cpu_flops=machine.gflops * 1e9 / machine.cpus,
    )


def _strategies(measured: Measured, gpu: bool) -> tuple[str, ...]:
    train = measured.config.train
    if train.strategy != "auto":
        return (train.strategy,)
    # Where a worker has a byte, the plan shares the model if it can be shared.
    shared = train.most_workers > 1 and measured.plan(gpu, workers=2, worker_bytes=1).strategy == "fsdp"
    return ("ddp", "fsdp") if shared else ("ddp",)


def _memory(measured: Measured, gpu: bool, strategies: tuple[str, ...], **train: int) -> Memory:
    whole = measured.plan(gpu, strategy="ddp", **train).memory_bytes
    if "fsdp" not in strategies:
        return Memory(whole)
    # All of what is divided is with one worker, nothing of it with endless ones.
    one, endless = (measured.plan(gpu, workers, strategy="fsdp", **train).memory_bytes for workers in (1, CUT))
    return Memory(whole, endless, one - endless)
