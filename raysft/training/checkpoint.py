"""Checkpoints: all that a run needs to go on exactly, written aside, hashed, committed by rename; newest valid wins.

`step-000120/` holds model.safetensors, optimizer.safetensors, state.json and, written last, manifest.json with sizes
and sha256. Dropout masks and batches are pure functions of seed, epoch and row, so no generator state is needed.
"""

from __future__ import annotations

import re
import shutil
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

NAME = re.compile(r"step-(\d{6,})$")
KEEP_NEWEST = 2


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0  # optimizer steps done
    best_step: int = 0
    best: list[float] = field(default_factory=list)  # (score, -loss) of the best evaluation so far
    examples: int = 0
    tokens: int = 0  # real tokens computed
    padded: int = 0  # positions computed
    seconds: float = 0.0  # training time, evaluation and saving excluded


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Path:
    """Commit a checkpoint below `folder`, then drop those that are neither among the newest two nor the best."""
    path = folder / f"step-{progress.step:06d}"
    with writing(path), committed_folder(path) as aside:
        save_file(_tensors(model), aside / "model.safetensors")
        save_file(_optimizer_tensors(model, optimizer), aside / "optimizer.safetensors")
        write_json(aside / "state.json", asdict(progress))
    found = sorted(_steps(folder))
    for step in found[:-KEEP_NEWEST]:
        if step != progress.best_step:
            shutil.rmtree(folder / f"step-{step:06d}")
    return path


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


def at_step(folder: Path, step: int) -> Path:
    """The checkpoint of one step. Raises TornFolder when it is not whole."""
    path = folder / f"step-{step:06d}"
    verified_folder(path)
    return path


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a checkpoint into the model."""
    model.load_state_dict(load_file(path / "model.safetensors"))


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a verified checkpoint into model and optimizer; returns where it was."""
    load_weights(path, model)
    tensors = load_file(path / "optimizer.safetensors")
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = names[parameter] + "|"
            found = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            if found:
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in found.items()}
    return Progress(**read_json(path / "state.json"))


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors: dict[str, Any] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{names[parameter]}|{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors


def _steps(folder: Path) -> list[int]:
    return [int(match.group(1)) for path in folder.glob("step-*") if (match := NAME.search(path.name))]
