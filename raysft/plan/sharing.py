"""How the workers share the model, the memory that takes, and what about it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysft.config import Job
from raysft.config.sections import JobConfig, TrainSection
from raysft.plan.weights import Weights

if TYPE_CHECKING:
    from raysft.plan.plan import ModelSize

# Bytes a parameter of the layer at hand (fsdp): its weights, its gradient, the next one's weights. At most: a layer
# that is kept has no gradient.
GATHERED = 3 * 4
GIB = 2**30


@dataclass(frozen=True)
class Sharing:
    """Who holds what, what that takes of one worker's memory, and why."""

    strategy: str  # ddp | fsdp
    memory_bytes: int
    why: str
    memory_why: str


def choose_sharing(
    config: JobConfig, size: ModelSize, weights: Weights, beside: int, workers: int, memory: int
) -> Sharing:
    """The strategy that is asked for; with auto ddp where it fits a worker's memory, else fsdp where it can be shared.

    beside: bytes that a worker needs beside weights, gradients and optimizer state. memory: bytes a worker has, 0: not
    known.
    """
    train, whole = config.train, beside + weights.bytes(config.train)
    fits = f"{whole / GIB:.1f} GiB of the {memory / GIB:.1f} GiB that a worker has"
    if train.strategy != "auto":
        strategy, why = train.strategy, "train.strategy"
    elif workers == 1:
        strategy, why = "ddp", "there is one worker"
    elif memory == 0:
        strategy, why = "ddp", "where it fits a GPU, which is known when the run starts; else fsdp, where it can be"
    elif whole <= memory:
        strategy, why = "ddp", f"the whole model takes {fits}"
    elif refused := _unshareable(config):
        strategy, why = "ddp", f"{refused[1]}; the whole model takes {fits}"
    else:
        strategy, why = "fsdp", f"the whole model would take {fits}"
    if strategy == "ddp":
        return Sharing(strategy, whole, why, f"runtime + {weights.words(train)} + activations")
    return _shared(train, size, weights, beside, workers, why)


def _shared(train: TrainSection, size: ModelSize, weights: Weights, beside: int, workers: int, why: str) -> Sharing:
    states = 0 if train.offload else weights.bytes(train) // workers
    layer = max(size.embedding, (size.parameters - size.embedding) // max(1, size.layers))
    held = "" if train.offload else f"({weights.words(train)}) / {workers} workers + "
    words = f"runtime + {held}{GATHERED} bytes a parameter of the largest layer + activations"
    return Sharing("fsdp", beside + states + GATHERED * layer, why, words)


def _unshareable(config: JobConfig) -> tuple[str, str, str] | None:
    """What of a job fsdp cannot share out: the key, why, and what to do. Such a job auto gives ddp, and where fsdp is
    asked for it is refused."""
    lora, optimizer = config.model.lora, config.train.optimizer
    if lora is not None and lora.quantize is not None:
        do = "use train.strategy: ddp (4 bits take an eighth of the memory), or remove model.lora.quantize"
        return "model.lora.quantize", "4-bit weights cannot be shared out", do
    if optimizer != "adamw":
        why = f"train.optimizer {optimizer} needs whole tensors and cannot be shared out"
        return "train.optimizer", why, "use adamw, or train.strategy: ddp"
    return None


def refuse_sharing(job: Job, gpu: bool) -> None:
    """Raise JobFileError where a setting of how to share or compute has no effect. gpu: whether one may be used."""
    train = job.config.train
    for refused in (_refused_strategy(job.config), _refused_offload(train, gpu), _refused(job, gpu)):
        if refused is not None:
            raise job.problem(*refused)


def _refused_strategy(config: JobConfig) -> tuple[str, str] | None:
    if config.train.strategy != "fsdp":
        return None
    if config.train.most_workers == 1:
        return "train.strategy", (
            "fsdp shares a model among workers, and train.workers is 1; use ddp or auto, or 2 workers or more"
        )
    if refused := _unshareable(config):
        key, why, do = refused
        return key, f"{why} (train.strategy is fsdp); {do}"
    return None


def _refused_offload(train: TrainSection, gpu: bool) -> tuple[str, str] | None:
    if not train.offload:
        return None
    if train.strategy != "fsdp":
        return "train.offload", f"needs train.strategy: fsdp, found {train.strategy}; set it, or offload: false"
    if not gpu:
        return "train.offload", (
            "moves weights from a GPU to the memory of the CPU, and training runs on CPU; set offload: false"
        )
    return None


def _refused(job: Job, gpu: bool) -> tuple[str, str] | None:
    train, model = job.config.train, job.config.model
    if train.compile and train.activation_checkpointing and not gpu:
        return "train.compile", (
            "leaves most of a layer uncompiled on CPU with train.activation_checkpointing; choose one of the two"
        )
    if model.attention != "flash_attention_2":
        return None
    if not gpu:
        return "model.attention", "flash_attention_2 needs an NVIDIA GPU, and training runs on CPU; use auto"
    if train.precision in {"fp32", "tf32"}:
        return "model.attention", (
            f"flash_attention_2 computes in bf16 or fp16, and train.precision is {train.precision}; use auto for either"
        )
    return None
