"""Steps, tokens, memory and time of a run, from the job file and the lengths of its rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raysft.config.sections import JobConfig, TrainSection
from raysft.corpus.packing import LENGTH
from raysft.corpus.sampler import Batching, Sampler, rows_that_fit
from raysft.plan.language import kind_of_logits, logits_at_once, logits_share
from raysft.plan.machine import Machine
from raysft.plan.sharing import choose_sharing
from raysft.plan.weights import Weights

# Tokens of a forward pass: enough to keep the cores busy, few enough for caches and memory.
CPU_MICRO_TOKENS = 4096
GPU_MICRO_TOKENS = 16384
# Share of a plain matrix product's speed that training reaches on CPU (all of forward, backward and update), measured
# with all-MiniLM-L6-v2 on 2 cores of an AMD EPYC (Zen 3), float32: see docs/benchmarks.md.
CPU_EFFICIENCY = 0.5
BF16_GAIN = 2.0
LOGIT_BYTES = 12  # of each token of the vocabulary at a position that is learnt: logits, their softmax, its gradient
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
    train_s: float | None  # None: not predicted
    total_s: float | None
    why: dict[str, str]
    strategy: str = "ddp"  # ddp | fsdp
    memory_at_most: bool = False  # fewer weights train than could be counted
    flops: float = 0.0  # operations of all training and validation, padding included

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def choose_micro_rows(train: TrainSection) -> int | None:
    """Most rows of a forward pass: what the person set, else a worker's share of the batch; None: any number."""
    if train.micro_batch is not None or train.batch_tokens is not None:
        return train.micro_batch
    share = -(-train.batch_size // train.most_workers)
    if share * (train.most_workers - 1) >= train.batch_size:  # rounded up, it leaves the last worker nothing
        share = max(1, train.batch_size // train.most_workers)
    return share


def choose_micro_tokens(train: TrainSection, gpu: bool) -> int | None:
    """Most positions of a forward pass: as many as are computed well at once, and of train.batch_tokens a worker's
    share; None: where the person set how many rows."""
    if train.micro_batch is not None:
        return None
    # The eighth saves the last few rows of a batch from being a micro-batch of their own.
    fits = (GPU_MICRO_TOKENS if gpu else CPU_MICRO_TOKENS) * 9 // 8
    return fits if train.batch_tokens is None else min(-(-train.batch_tokens // train.most_workers), fits)


def choose_batching(
    train: TrainSection, micro_rows: int | None, micro_tokens: int | None, packed: int | None = None
) -> Batching:
    """How rows become steps and micro-batches; see choose_micro_rows, choose_micro_tokens and choose_packing."""
    return Batching(
        train.batch_size, micro_rows, train.batch_tokens, micro_tokens, train.batching == "bucketed", packed
    )


def choose_packing(config: JobConfig, lengths: np.ndarray[Any, Any]) -> int | None:
    """Tokens of a sequence that holds several rows; None: each row has its own. lengths: tokens of each row, int."""
    if not config.train.packing or not len(lengths):
        return None
    return max(LENGTH, int(lengths.max()))


def rows_at_once(config: JobConfig, gpu: bool, length: int) -> int:
    """Rows of a forward pass in which each has so many tokens. Of shorter rows there may be more."""
    rows, fits = choose_micro_rows(config.train), rows_that_fit(choose_micro_tokens(config.train, gpu), length)
    return min(most for most in (rows, fits) if most is not None)


def threads(size: ModelSize, cpus: int) -> int:
    """Threads of a worker on CPU: one where the model is so small that threads mostly wait for each other."""
    return 1 if size.parameters < SMALL_MODEL else cpus


def too_many_workers(config: JobConfig, gpu: bool) -> str:
    """Why these workers cannot share one batch; "" when they can."""
    train, rows, key = config.train, config.train.batch_size, "train.batch_size"
    micro = choose_micro_rows(train) or rows_at_once(config, gpu, config.model.max_length)
    if train.batch_tokens is not None:
        rows, key = max(1, train.batch_tokens // config.model.max_length), "train.batch_tokens"
    pieces = -(-rows // micro)
    if train.most_workers <= pieces:
        return ""
    return (
        f"{train.most_workers} workers cannot share a batch of {rows} rows{_of_full_length(config)} in micro-batches "
        f"of {micro} ({pieces} pieces); use fewer workers, a larger {key}, or a smaller train.micro_batch"
    )


def _of_full_length(config: JobConfig) -> str:
    return "" if config.train.batch_tokens is None else f" of {config.model.max_length} tokens"


def make_plan(
    config: JobConfig,
    size: ModelSize,
    lengths: np.ndarray[Any, Any],
    rows: dict[str, int],
    machine: Machine,
    gpu: bool = False,
    workers: int = 0,
    worker_bytes: int = 0,
    weights: Weights | None = None,
    scored: int = 0,
) -> Plan:
    """Predict one run. lengths: tokens of each training row, or of a sample of them, shape (n,).

    workers: as many as there are, 0: as many as are asked for. worker_bytes: memory of each, 0: its share of `machine`,
    or not known of a GPU. weights: which train, None: all. scored: tokens that are read of each validation row beside
    its own, where labels are words.
    """
    weights = weights or Weights(size.parameters)
    train = config.train
    workers = workers or train.most_workers
    scale = rows["train"] / max(1, len(lengths))
    longest = int(lengths.max()) if len(lengths) else config.model.max_length
    packed = choose_packing(config, lengths)
    batching = choose_batching(train, choose_micro_rows(train), choose_micro_tokens(train, gpu), packed)
    sampler = Sampler(lengths, batching, train.seed, train.epochs)
    padded, real = sampler.positions(sampler.steps(0)), int(lengths.sum())
    total_steps = _total_steps(sampler, rows["train"])
    epoch_tokens = padded * scale
    evaluated = (real * scale / max(1, rows["train"]) + scored) * rows.get("validation", 0)
    # 2 operations a parameter and token forward, 4 backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
    share = logits_share(kind_of_logits(config))
    work = 2 * (size.parameters - size.embedding + share * size.embedding)
    flops = train.epochs * (3 * work * epoch_tokens + work * evaluated)
    shapes = [sampler.layout(rows).shape for rows in sampler.heaviest()] or [(1, longest)]
    beside = RUNTIME_BYTES + max(_activations(config, size, *shape, gpu) for shape in shapes)
    memory = worker_bytes or (0 if gpu else machine.memory_bytes // workers)
    sharing = choose_sharing(config, size, weights, beside, workers, memory)
    train_s, time_why = _time(config, flops, machine, gpu)
    return Plan(
        rows=rows,
        workers=workers,
        micro_batch=sampler.most_rows(longest),
        micro_batches_per_step=_micro_batches(sampler),
        steps_per_epoch=round(total_steps / train.epochs),
        total_steps=total_steps,
        tokens=int(real * scale * train.epochs),
        padding_share=round(1 - real / padded, 4) if padded else 0.0,
        memory_bytes=sharing.memory_bytes,
        train_s=train_s,
        total_s=None if train_s is None else round(train_s + START_S, 1),
        why={
            "steps_per_epoch": f"{rows['train']} rows / {batch_words(train)}",
            "micro_batch": f"of {longest} tokens; "
            + ("train.micro_batch" if train.micro_batch else "a worker's share of the batch, if it fits"),
            "strategy": sharing.why,
            "memory_bytes": sharing.memory_why,
            "train_s": time_why,
            "total_s": f"training + {START_S:.0f} s for start-up, evaluation and report",
        },
        strategy=sharing.strategy,
        memory_at_most=bool(weights.at_most),
        flops=flops,
    )


def _time(config: JobConfig, flops: float, machine: Machine, gpu: bool) -> tuple[float | None, str]:
    """Seconds that so many operations take on this machine's CPU, and why."""
    if gpu:
        return None, f"{flops / 1e12:.2f} Tflop; their time is not predicted on a GPU"
    bf16 = _bf16(config, machine)
    speed = machine.gflops * 1e9 * CPU_EFFICIENCY * (BF16_GAIN if bf16 else 1.0)
    why = f"{flops / 1e12:.2f} Tflop at {speed / 1e9:.0f} Gflop/s ({CPU_EFFICIENCY:.0%} of the matrix product measured "
    return round(flops / speed, 1), f"{why}here{', twice that in bf16' if bf16 else ''}); other machines differ"


def batch_words(train: TrainSection) -> str:
    """What a step holds, for people."""
    if train.batch_tokens is None:
        return f"batch {train.batch_size}"
    return f"batches of at most {train.batch_tokens} positions"


def _total_steps(sampler: Sampler, rows: int) -> int:
    """Of a run on `rows` rows, of which the sampler may know a sample only."""
    known = len(sampler.lengths)
    if sampler.batching.tokens is None:
        return -(-rows // sampler.batching.rows) * sampler.epochs
    return sampler.total if known == rows else round(sampler.total * rows / max(1, known))


def _micro_batches(sampler: Sampler) -> int:
    """Of a step, on average."""
    return round(float(np.mean([len(step) for step in sampler.steps(0)] or [0])))


def _bf16(config: JobConfig, machine: Machine) -> bool:
    return config.train.precision != "fp32" and machine.bf16


def _activations(config: JobConfig, size: ModelSize, rows: int, length: int, gpu: bool) -> int:
    """Bytes kept for the backward pass: about 34 a hidden unit and layer, plus attention and the inner layer; and the
    logits where the head is one over the vocabulary.

    With activation checkpointing: those of one layer, and of every layer what goes into it. On a GPU fused attention
    keeps no matrix of a row's positions by themselves. Without it, the whole comes to 1% to 17% less than was measured
    with Llamas of 1B and 8B on an H100 and an H200 (docs/benchmarks.md); with train.compile to 44% more.
    """
    per_layer = rows * length * (14 * size.hidden + 2 * size.inner) * 4
    if not gpu or config.model.attention == "eager":
        per_layer += 2 * rows * 12 * length * length * 4
    kind, vocabulary = kind_of_logits(config), max(1, size.embedding // size.hidden)
    logits = int(LOGIT_BYTES * logits_at_once(kind, rows * length, vocabulary))
    if config.train.activation_checkpointing:
        return logits + per_layer + size.layers * rows * length * size.hidden * 4
    return logits + size.layers * per_layer
