"""How the workers share the model, the memory that takes, and what about it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysft.config import Job
from raysft.config.sections import TrainSection

if TYPE_CHECKING:
    from raysft.plan.plan import ModelSize

STATE_BYTES = 8  # a parameter: weight and gradient, float32
# Of each optimizer, a parameter, and in words. A row and a column of a matrix are next to nothing.
OPTIMIZER_BYTES = {"adamw": (8, "two AdamW moments"), "adamw_8bit": (2, "two moments in 8 bits"), "adafactor": (0, "")}
AVERAGE_BYTES = 4
GATHERED = 3 * 4  # bytes a parameter of the layer at hand (fsdp): its weights, its gradient, the next one's weights
GIB = 2**30


@dataclass(frozen=True)
class Sharing:
    """Who holds what, what that takes of one worker's memory, and why."""

    strategy: str  # ddp | fsdp
    memory_bytes: int
    why: str
    memory_why: str


def choose_sharing(train: TrainSection, size: ModelSize, beside: int, workers: int, memory: int) -> Sharing:
    """The strategy that is asked for; with auto ddp where it fits a worker's memory, else fsdp where it can be shared.

    beside: bytes that a worker needs beside weights, gradients and optimizer state. memory: bytes a worker has.
    """
    state_bytes, states = _states(train)
    whole = beside + state_bytes * size.parameters
    fits = f"{whole / GIB:.1f} GiB of the {memory / GIB:.1f} GiB that a worker has"
    if train.strategy != "auto":
        strategy, why = train.strategy, "train.strategy"
    elif workers == 1:
        strategy, why = "ddp", "there is one worker"
    elif whole <= memory:
        strategy, why = "ddp", f"the whole model takes {fits}"
    elif train.optimizer != "adamw":
        strategy, why = "ddp", f"train.optimizer {train.optimizer} cannot be shared out; the whole model takes {fits}"
    else:
        strategy, why = "fsdp", f"the whole model would take {fits}"
    if strategy == "ddp":
        return Sharing(
            strategy,
            whole,
            why,
            f"runtime + {state_bytes} bytes a parameter ({states}) + activations",
        )
    return _shared(train, size, beside, workers, why)


def _shared(train: TrainSection, size: ModelSize, beside: int, workers: int, why: str) -> Sharing:
    state_bytes, _ = _states(train)
    states = 0 if train.offload else state_bytes * size.parameters // workers
    layer = max(size.embedding, (size.parameters - size.embedding) // max(1, size.layers))
    held = "" if train.offload else f"{state_bytes} bytes a parameter / {workers} workers + "
    words = f"runtime + {held}12 bytes a parameter of the largest layer + activations"
    return Sharing("fsdp", beside + states + GATHERED * layer, why, words)


def _states(train: TrainSection) -> tuple[int, str]:
    """Bytes of a parameter that trains, and what they hold."""
    optimizer, words = OPTIMIZER_BYTES[train.optimizer]
    average = AVERAGE_BYTES if train.average else 0
    held = ["weights", "gradients", words, "average" if average else ""]
    return STATE_BYTES + optimizer + average, ", ".join(filter(None, held))


def refuse_sharing(job: Job, gpu: bool) -> None:
    """Raise JobFileError where a setting of how to share or compute has no effect. gpu: whether one may be used."""
    for refused in (_refused_strategy(job.config.train), _refused_offload(job.config.train, gpu), _refused(job, gpu)):
        if refused is not None:
            raise job.problem(*refused)


def _refused_strategy(train: TrainSection) -> tuple[str, str] | None:
    if train.strategy == "fsdp" and train.most_workers == 1:
        return "train.strategy", (
            "fsdp shares a model among workers, and train.workers is 1; use ddp or auto, or 2 workers or more"
        )
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
    if train.strategy == "fsdp" and model.lora is not None and model.lora.quantize is not None:
        return "model.lora.quantize", (
            "4-bit weights cannot be shared out by fsdp; set train.strategy: ddp (4 bits take an eighth of the memory)"
        )
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
