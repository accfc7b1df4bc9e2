"""Checkpoints: all that a run needs to go on exactly, written aside, hashed, committed by rename; newest valid wins.

`step-000120/` holds model.safetensors, optimizer.safetensors, state.json and, written last, manifest.json with sizes
and sha256. Where the ranks share the model (fsdp) shards stand in the place of the safetensors: training/sharded.py.
Either kind goes on under any strategy and number of workers.
Dropout masks and batches are pure functions of seed, epoch and row, so no generator state is needed.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from raysft.storage.commit import (
    TornFolder,
    committed_folder,
    read_json,
    sweep_aside,
    verified_folder,
    write_json,
    writing,
)
from raysft.training import ranks, sharded
from raysft.training.sharded import Like, Tensors

NAME = re.compile(r"step-(\d{6,})$")
KEEP_NEWEST = 2


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0  # optimizer steps done
    best_step: int = 0
    best: list[float] = field(default_factory=list)  # (score, -loss) of the best evaluation so far
    best_scores: dict[str, float] = field(default_factory=dict)  # all that it measured
    examples: int = 0
    tokens: int = 0  # real tokens computed
    padded: int = 0  # positions computed
    seconds: float = 0.0  # training time, evaluation and saving excluded
    skipped: int = 0  # updates left out, because they were not finite
    skipped_in_a_row: int = 0
    scaler: dict[str, float] = field(default_factory=dict)  # of the loss, with fp16
    micro_batch_parts: int = 1  # in which each is computed since memory ran out; 1: it never did
    precision: str = ""  # of the run, which goes on in it
    waited: float = 0.0  # seconds of `seconds` in which the first rank waited for batches
    no_better: int = 0  # epochs in a row that were no better than the best
    ended: str = ""  # why training ended; "": it has not


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: Tensors | None = None,
) -> Path:
    """Commit a checkpoint below `folder`, then drop those that are neither among the newest two nor the best.

    Called by all ranks together. average: of the weights that train, by name.
    """
    path = folder / f"step-{progress.step:06d}"
    parts = {"model": _model_tensors(model), "optimizer": _optimizer_tensors(model, optimizer)}
    if average:
        parts["average"] = average
    if sharded.any_sharded(parts["model"].values()):
        sharded.write(path, parts, asdict(progress))
    else:
        ranks.on_first_rank(lambda: _write(path, parts, asdict(progress)))
    ranks.on_first_rank(lambda: _drop_old(folder, progress.best_step))
    return path


def _write(path: Path, parts: dict[str, Tensors], state: dict[str, Any]) -> None:
    with writing(path), committed_folder(path) as aside:
        for part, tensors in parts.items():
            save_file({name: each.detach().cpu().contiguous() for name, each in tensors.items()}, _file(aside, part))
        write_json(aside / "state.json", state)


def _drop_old(folder: Path, best_step: int) -> None:
    for step in sorted(_steps(folder))[:-KEEP_NEWEST]:
        if step != best_step:
            shutil.rmtree(folder / f"step-{step:06d}")


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files match its manifest; torn ones are set aside as `*.torn`."""
    sweep_aside(folder)
    for step in sorted(_steps(folder), reverse=True):
        path = folder / f"step-{step:06d}"
        try:
            verified_folder(path)
        except TornFolder:
            torn = path.with_name(path.name + ".torn")
            shutil.rmtree(torn, ignore_errors=True)
            path.rename(torn)
        else:
            return path
    return None


def precision_of(folder: Path) -> str:
    """In which precision a run was computed so far; "" where it has no checkpoint, or one of a version that did not
    say. Reads the newest that can be read: all of a run say the same."""
    for step in sorted(_steps(folder), reverse=True):
        with suppress(OSError, ValueError):
            return str(read_json(folder / f"step-{step:06d}" / "state.json").get("precision", ""))
    return ""


def at_step(folder: Path, step: int) -> Path:
    """The checkpoint of one step. Raises TornFolder when it is not whole."""
    path = folder / f"step-{step:06d}"
    verified_folder(path)
    return path


def load_best(path: Path, model: nn.Module) -> None:
    """Put what was evaluated into the model: the weights of a checkpoint, or their average where it holds one."""
    load_weights(path, model)
    state = model.state_dict()
    for name, value in load_average(path, state).items():
        state[name].copy_(value)


def load_average(path: Path, weights: Tensors) -> Tensors:
    """The average that a checkpoint holds of these weights, laid out as they are; empty where it holds none."""
    if not sharded.holds_shards(path) and not _file(path, "average").exists():
        return {}
    return _read(path, "average", lambda name, size, dtype: torch.empty_like(weights[name], dtype=dtype))


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a checkpoint into the model; by all ranks together where they share it."""
    own = _model_tensors(model)  # the model's own memory: it is loaded once these are filled

    def place(name: str, size: torch.Size, _: torch.dtype) -> torch.Tensor:
        if name not in own or own[name].shape != size:
            raise RuntimeError(f"{path.name} is of another model: {name} {tuple(size)} has no place in this one")
        return own[name]

    missing = own.keys() - _read(path, "model", place).keys()
    if missing:
        raise RuntimeError(f"{path.name} is of another model: it has no {min(missing)}")


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a verified checkpoint into model and optimizer, by all ranks together; returns where it was."""
    load_weights(path, model)
    named = dict(model.named_parameters())

    def like(key: str, size: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        return sharded.state_like(named[key.rpartition("|")[0]], size, dtype)

    # Parameters in the order in which steps would have made their state.
    order = {parameter: place for place, parameter in enumerate(_parameters(optimizer))}
    found = [(*key.rpartition("|")[::2], value) for key, value in _read(path, "optimizer", like).items()]
    for name, quantity, value in sorted(found, key=lambda each: order[named[each[0]]]):
        optimizer.state[named[name]][quantity] = value
    return Progress(**read_json(path / "state.json"))


def _model_tensors(model: nn.Module) -> Tensors:
    """The model's state; a tensor of two names under its first."""
    tied = _tied(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}


def _tied(model: nn.Module) -> dict[str, str]:
    """Other names of parameters that modules share, such as embeddings and language head -> their first name."""
    first: dict[nn.Parameter, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first[each] for name, each in named if first.setdefault(each, name) != name}


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _read(path: Path, part: str, like: Like) -> Tensors:
    """The tensors of one part, each filled in as `like` lays it out."""
    if sharded.holds_shards(path):
        return sharded.read(path, part, like)
    whole = load_file(_file(path, part))
    return {name: sharded.put(each, like(name, each.shape, each.dtype)) for name, each in whole.items()}


def _file(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """All of the optimizer's state by `name of the parameter|name of the quantity`."""
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}|{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _steps(folder: Path) -> list[int]:
    return [int(match.group(1)) for path in folder.glob("step-*") if (match := NAME.search(path.name))]
