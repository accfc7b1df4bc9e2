"""How the ranks share one model: a short list of steps, each of which takes what the step before it left.

1. checkpointing  inside all else, so that what is computed again is a layer's arithmetic and no exchange of weights
2. compile        a layer at a time: layers of one shape share a graph, and exchanges between them stay outside
3. fsdp or ddp    last, since it replaces parameters, and puts its hooks around layers that are final
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from raysft.config.sections import TrainSection
from raysft.errors import UsageError
from raysft.model.attention import in_full_on_cpus, leave_out_cudnn
from raysft.model.groups import LAYER
from raysft.training import ranks
from raysft.training.dropout import RowRandom
from raysft.training.precision import Precision

GRAPHS_A_LAYER = 4  # training and evaluation, each with and without a second kind of input


class Parallel:
    """The module that forward passes go through, and what depends on how it is shared."""

    def __init__(
        self, model: nn.Module, settings: TrainSection, strategy: str, precision: Precision, random: RowRandom
    ) -> None:
        """Moves the model to its device. strategy: ddp | fsdp. Every rank calls this at the same point."""
        if precision.device.type == "cuda":
            leave_out_cudnn()
        elif precision.dtype != torch.float32:
            in_full_on_cpus()
        if settings.activation_checkpointing:
            apply_checkpointing(model, random if precision.device.type == "cpu" else None)
        if settings.compile:
            apply_compile(model, random, precision.device)
        if strategy == "fsdp":
            self.module = apply_fsdp(model, settings, precision)
        else:
            self.module = apply_ddp(model, precision.device)

    def accumulating(self, last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of one micro-batch. ddp exchanges gradients at the last of a step only; fsdp at
        each, because between exchanges every rank would hold the gradient of the whole model."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()

    def rewrap(self, model: nn.Module) -> None:
        """After other parameters require gradients than before: ddp exchanges those that did when it was made."""
        if isinstance(self.module, DistributedDataParallel):
            self.module = DistributedDataParallel(model)

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
        """Scale gradients so that their global norm is at most `limit`; the norm before, float32 scalar."""
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def apply_checkpointing(model: nn.Module, random: RowRandom | None) -> None:
    """Compute each layer's activations again in the backward pass, with the dropout masks of the forward pass.

    torch puts its own generators back by itself; those of rows (CPU) go back here.
    """
    enable: Any = getattr(model, "activation_checkpointing_enable", None)
    try:
        if enable is None:
            raise ValueError(f"{type(model).__name__} has no such thing")
        again = {} if random is None else {"context_fn": lambda: (nullcontext(), random.replaying())}
        enable({"use_reentrant": False, **again})
    except ValueError as error:
        raise UsageError(
            f"train.activation_checkpointing: not for this model: {error}",
            "Use --set train.activation_checkpointing=false; a smaller train.micro_batch saves memory too.",
        ) from None


def apply_compile(model: nn.Module, random: RowRandom, device: torch.device) -> None:
    """Compile each layer for any number of rows and tokens; names and state stay as they are."""
    ranks.all_or_none(lambda: _require_compiler(device))
    layers = layers_of(model)
    # Drawing masks is numpy's work: it stays outside the graphs.
    random.keep = torch.compiler.disable(random.keep)  # type: ignore[method-assign, no-untyped-call]
    limit = GRAPHS_A_LAYER * max(1, len(layers))  # beyond it torch would silently run uncompiled
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, limit)
    for layer in layers or [model]:
        layer.compile(dynamic=True)


def apply_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    """Each rank holds the whole model; gradients are averaged."""
    model.to(device)
    return DistributedDataParallel(model) if ranks.world_size() > 1 else model


def apply_fsdp(model: nn.Module, settings: TrainSection, precision: Precision) -> nn.Module:
    """Each rank holds a share of every tensor, and the whole of one layer while it computes it (FSDP2).

    Layers move to the device one by one, so the device never holds the whole model. Gradients are averaged in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    # Each rank gives a share of its own copy, so the copies must be one.
    ranks.require_same_weights(model, "before they are shared out")
    # Half the bytes to gather. Autocast rounds the weights of matrix products anyway, and goes on to choose the type
    # of each operation. On CPU gathering is cheap, and its layer norm takes no half weights beside float32 inputs.
    gathered = precision.dtype if precision.device.type == "cuda" else None
    how: dict[str, Any] = {
        "mesh": init_device_mesh(precision.device.type, (ranks.world_size(),)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False),
        "offload_policy": CPUOffloadPolicy() if settings.offload else OffloadPolicy(),
        # The root too: what it gathered for an evaluation must not outlive a change of the weights.
        "reshard_after_forward": True,
    }
    for layer in layers_of(model):
        fully_shard(layer, **how)
    fully_shard(model, **how)
    return model


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The transformer layers, outermost only, in order; empty where the architecture names none."""
    found = []
    for name, module in model.named_modules():
        match = LAYER.search(name + ".")
        if match and match.end() == len(name) + 1:
            found.append(module)
    return found


def is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds a share of the tensors only (fsdp)."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _require_compiler(device: torch.device) -> None:
    """Compile something tiny: without a compiler the first step of training would fail, in words for experts."""
    try:
        torch.compile(torch.neg, dynamic=True)(torch.ones(2, device=device))
    except Exception as error:  # noqa: BLE001  # compilers fail in many ways
        raise UsageError(
            f"train.compile: torch.compile does not work on this machine: {str(error).strip().splitlines()[0]}",
            "Install a C++ compiler (CPU) or Triton (GPU), or use --set train.compile=false.",
        ) from None
