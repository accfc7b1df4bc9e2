"""Steps, tokens, memory and time of a run, from the job file and the lengths of its rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raysft.config.sections import JobConfig
from raysft.corpus.sampler import epoch_steps, padded_tokens, steps_per_epoch
from raysft.plan.machine import Machine

# Tokens of a forward pass: enough to keep the cores busy, few enough for caches and memory.
CPU_MICRO_TOKENS = 4096
GPU_MICRO_TOKENS = 16384
# Share of a plain matrix product's speed that training reaches on CPU (all of forward, backward and update), measured
# with all-MiniLM-L6-v2 on 2 cores of an AMD EPYC (Zen 3), float32: see docs/benchmarks.md.
CPU_EFFICIENCY = 0.5
BF16_GAIN = 2.0
SMALL_MODEL = 1_000_000  # parameters
RUNTIME_BYTES = 900 * 2**20  # Python, torch, transformers and Ray in one worker, measured as resident memory
START_S = 35.0  # Ray, one worker group, reload check and report on 2 cores, measured


@dataclass(frozen=True)
class ModelSize:
    """What the arithmetic needs to know of a model."""

    parameters: int
    embedding: int  # parameters that are only looked up
    hidden: int
    layers: int
    inner: int


@dataclass(frozen=True)
class Plan:
    """What will be run. `why` gives the reason for each derived number."""

    rows: dict[str, int]
    workers: int
    micro_batch: int
    micro_batches_per_step: int
    steps_per_epoch: int
    total_steps: int
    tokens: int
    padding_share: float
    memory_bytes: int
    train_s: float
    total_s: float
    why: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def choose_micro_batch(config: JobConfig, gpu: bool) -> int:
    """Rows per forward pass: what the person set, else a worker's share of the batch, as far as it fits."""
    train = config.train
    fits = max(1, (GPU_MICRO_TOKENS if gpu else CPU_MICRO_TOKENS) // config.model.max_length)
    share = -(-train.batch_size // train.most_workers)
    if share * (train.most_workers - 1) >= train.batch_size:  # rounded up, it leaves the last worker nothing
        share = max(1, train.batch_size // train.most_workers)
    return train.micro_batch or min(share, fits)


def threads(size: ModelSize, cpus: int) -> int:
    """Threads of a worker on CPU: one where the model is so small that threads mostly wait for each other."""
    return 1 if size.parameters < SMALL_MODEL else cpus


def too_many_workers(config: JobConfig, gpu: bool) -> str:
    """Why these workers cannot share one batch; "" when they can."""
    train, micro = config.train, choose_micro_batch(config, gpu)
    pieces = -(-train.batch_size // micro)
    if train.most_workers <= pieces:
        return ""
    return (
        f"{train.most_workers} workers cannot share a batch of {train.batch_size} rows in micro-batches of {micro} "
        f"({pieces} pieces); use fewer workers, a larger train.batch_size, or a smaller train.micro_batch"
    )


def make_plan(
    config: JobConfig,
    size: ModelSize,
    lengths: np.ndarray[Any, Any],
    rows: dict[str, int],
    machine: Machine,
    gpu: bool = False,
) -> Plan:
    """Predict one run. lengths: tokens of each training row, or of a sample of them, shape (n,)."""
    train, micro = config.train, choose_micro_batch(config, gpu)
    per_epoch = steps_per_epoch(rows["train"], train.batch_size)
    sample = epoch_steps(lengths, train.batch_size, micro, train.seed, 0)
    padded, real = padded_tokens(lengths, sample), int(lengths.sum())
    scale = rows["train"] / max(1, len(lengths))
    epoch_tokens = padded * scale
    evaluated = real * scale / max(1, rows["train"]) * rows.get("validation", 0)
    # 2 operations a parameter and token forward, 4 backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
    work = 2 * (size.parameters - size.embedding)
    flops = train.epochs * (3 * work * epoch_tokens + work * evaluated)
    speed = machine.gflops * 1e9 * CPU_EFFICIENCY * (BF16_GAIN if _bf16(config, machine) else 1.0)
    longest = int(lengths.max()) if len(lengths) else config.model.max_length
    memory = RUNTIME_BYTES + 16 * size.parameters + _activations(size, micro, longest)
    train_s = flops / speed
    return Plan(
        rows=rows,
        workers=train.most_workers,
        micro_batch=micro,
        micro_batches_per_step=-(-train.batch_size // micro),
        steps_per_epoch=per_epoch,
        total_steps=per_epoch * train.epochs,
        tokens=int(real * scale * train.epochs),
        padding_share=round(1 - real / padded, 4) if padded else 0.0,
        memory_bytes=int(memory),
        train_s=round(train_s, 1),
        total_s=round(train_s + START_S, 1),
        why={
            "steps_per_epoch": f"{rows['train']} rows / batch {train.batch_size}",
            "micro_batch": "train.micro_batch" if train.micro_batch else "a worker's share of the batch, if it fits",
            "memory_bytes": "runtime + 16 bytes a parameter (weights, gradients, two AdamW moments) + activations",
            "train_s": f"{flops / 1e12:.2f} Tflop at {speed / 1e9:.0f} Gflop/s ({CPU_EFFICIENCY:.0%} of the matrix "
            f"product measured here{', twice that in bf16' if _bf16(config, machine) else ''}); other machines differ",
            "total_s": f"training + {START_S:.0f} s for start-up, evaluation and report",
        },
    )


def _bf16(config: JobConfig, machine: Machine) -> bool:
    return config.train.precision != "fp32" and machine.bf16


def _activations(size: ModelSize, rows: int, length: int) -> int:
    """Bytes kept for the backward pass: about 34 a hidden unit and layer, plus attention and the inner layer."""
    per_layer = rows * length * (14 * size.hidden + 2 * size.inner) * 4 + 2 * rows * 12 * length * length * 4
    return size.layers * per_layer
