"""Checkpoints of a model that the ranks share (fsdp): each rank writes its own shards, and any world can read them.

The shards are those of torch.distributed.checkpoint (`*.distcp` and `.metadata`). A tensor is asked for as `like` lays
it out, so one folder fills two ranks, three, or one that holds the whole model.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, Replicate, zeros

from raysft.storage.commit import ASIDE, commit_folder, write_json, writing
from raysft.training import ranks

Tensors = dict[str, torch.Tensor]
Like = Callable[[str, torch.Size, torch.dtype], torch.Tensor]  # (name, whole size, type) -> a tensor to fill
METADATA = ".metadata"


def any_sharded(tensors: Iterable[object]) -> bool:
    """Whether a rank holds a share only of one of these."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def write(path: Path, parts: dict[str, Tensors], state: dict[str, Any]) -> None:
    """Commit the parts, each under its name, and state.json. All ranks together; the first one writes the manifest.

    What an interrupted writer left aside is swept when the run starts again.
    """
    with writing(path):
        aside = ranks.on_first_rank(lambda: _new_aside(path))
        _write_shards(aside, parts)
        ranks.on_first_rank(lambda: _commit(aside, path, state))


def holds_shards(path: Path) -> bool:
    """Whether a checkpoint was written by `write`."""
    return (path / METADATA).is_file()


def read(path: Path, part: str, like: Like) -> Tensors:
    """The tensors of one part. With sharded targets all ranks together, otherwise each by itself."""
    found = FileSystemReader(path).read_metadata().state_dict_metadata
    sizes = {
        key.removeprefix(f"{part}."): (entry.size, entry.properties.dtype)
        for key, entry in found.items()
        if key.startswith(f"{part}.") and isinstance(entry, TensorStorageMetadata)
    }
    targets = {name: like(name, size, dtype) for name, (size, dtype) in sizes.items()}
    if not targets:
        return {}
    alone = not any_sharded(targets.values())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # reading alone is meant
        load({part: targets}, checkpoint_id=path, no_dist=alone)
    return targets


@torch.no_grad()
def put(whole: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Fill `target` with a whole tensor, or with this rank's share of it; exchanges nothing."""
    if isinstance(target, DTensor):
        target.to_local().copy_(_share(whole, target))
    else:
        target.copy_(whole)
    return target


def state_like(parameter: torch.Tensor, size: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """An empty optimizer state beside its parameter: sharded alike where it has its size, else whole on every rank."""
    if not isinstance(parameter, DTensor) or not size:
        return torch.empty(size, dtype=dtype, device=parameter.device)
    if size == parameter.shape:
        return torch.zeros_like(parameter.detach(), dtype=dtype)
    mesh = parameter.device_mesh
    return zeros(*size, dtype=dtype, device_mesh=mesh, placements=[Replicate()] * mesh.ndim)


def _share(whole: torch.Tensor, target: DTensor) -> torch.Tensor:
    if isinstance(target.placements[0], Replicate):
        return whole
    # fsdp cuts the first dimension as torch.chunk does; short tensors leave the last ranks nothing.
    pieces = whole.chunk(target.device_mesh.size())
    rank = target.device_mesh.get_local_rank()
    return pieces[rank] if rank < len(pieces) else whole[:0]


def _new_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
    aside.mkdir(parents=True)
    return aside


def _write_shards(aside: Path, parts: dict[str, Tensors]) -> None:
    try:
        save(cast("dict[str, Any]", parts), checkpoint_id=aside)
    except CheckpointException as error:  # the same on all ranks
        raise next(iter(error.failures.values()))[0] from None


def _commit(aside: Path, path: Path, state: dict[str, Any]) -> None:
    write_json(aside / "state.json", state)
    commit_folder(aside, path)
