"""What the ranks of one run do together. Everything here works without a process group, as a world of one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from raysft.errors import TrainingFailed

T = TypeVar("T")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather(value: T) -> list[T]:
    """The value of every rank, on every rank, in rank order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def on_first_rank(action: Callable[[], T]) -> T:
    """Run `action` on rank 0 only; all ranks get its value, or raise its error together instead of hanging."""
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = action()
        except Exception as error:
            if world_size() == 1:
                raise
            outcome[1] = error
    if world_size() > 1:
        dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]  # type: ignore[no-any-return]


def gather_or_none(action: Callable[[], T]) -> list[T]:
    """What `action` gives on every rank, on all of them, in rank order; when it fails on one, all raise that error
    together instead of waiting for it."""
    found: tuple[Any, Exception | None]
    try:
        found = action(), None
    except Exception as error:
        if world_size() == 1:
            raise
        found = None, error
    every: list[tuple[Any, Exception | None]] = gather(found)
    failed = [error for _, error in every if error is not None]
    if failed:
        raise failed[0]
    return [value for value, _ in every]


def all_or_none(action: Callable[[], T]) -> T:
    """The same for values that stay where they are, and need not travel: this rank's own is returned."""
    mine: list[T] = []
    gather_or_none(lambda: mine.append(action()))
    return mine[0]


def weights_digest(model: nn.Module) -> str:
    """sha256 over every tensor of the model, in order, as hex. Where the ranks share them, all call this together."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        digest.update(name.encode())
        digest.update(whole.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_same_weights(model: nn.Module, when: str) -> None:
    """Compare weight hashes over the ranks. Raises TrainingFailed on every rank when they differ."""
    if world_size() == 1:
        return
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return  # every weight exists once, on one rank: there is no second one that could differ
    digests = gather(weights_digest(model))
    if len(set(digests)) > 1:
        shown = ", ".join(f"rank {index}: {digest[:12]}" for index, digest in enumerate(digests))
        raise TrainingFailed(
            f"the workers hold different weights {when} ({shown}); no model is written",
            "Gradients are not synchronised; check that all nodes run the same software, and report this.",
        )
