"""What frozen layers give for each row, computed once for all epochs, folds and trials, in memory or in a mapped file.

    shelf = Shelf(rows of all folds, pad_id, budget in bytes, folder)
    replay = shelf.attach(model, recipe, precision)     None where nothing rests, or it would not fit or be the same
    ... training and evaluation as always ...
    replay.undo()

Rows are known by their tokens, so that batches and objectives stay what they are, and rows that are alike share one
place. The states are kept as they were computed, bit for bit: float32, or half of it where a layer gives halves.

N places (one a token; one a row where the last layer gives its first token alone), H hidden size.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.corpus.tokens import TokenizedRows
from raysft.model.frozen import SAME, Replay, Seam, find_seam, near, replaying, states_below, tensors_below
from raysft.model.recipe import Recipe
from raysft.storage.commit import ASIDE, digest_of, settle, writing
from raysft.storage.lease import lease
from raysft.training.forward import EVAL_BATCH, batches_of
from raysft.training.objective import padded
from raysft.training.parallel import is_sharded, layers_of
from raysft.training.precision import Precision

TRIED = 4  # rows with which it is tried whether replayed logits are the same
SAME_ROUNDED = 5e-2  # as SAME, where products are rounded: to 8 bits of mantissa in bf16, 10 in tf32 and fp16
WAIT_S = 3600.0  # for another process that computes the same
Array = np.ndarray[Any, Any]


class Index:
    """Different rows by their tokens. U of them."""

    def __init__(self, rows: TokenizedRows) -> None:
        self._numbers: dict[bytes, int] = {}
        digest = hashlib.sha256()
        first: list[int] = []
        for position in range(len(rows)):
            key = rows.tokens(position).astype(np.int32).tobytes()
            if key not in self._numbers:
                self._numbers[key] = len(first)
                first.append(position)
                digest.update(len(key).to_bytes(4, "little") + key)
        self.rows = rows.select(np.array(first, dtype=np.int64))  # each of them once
        self.lengths = self.rows.lengths.astype(np.int64)
        self.digest = digest.hexdigest()

    def find(self, ids: Array, lengths: Array) -> Array | None:
        """The numbers of rows with these tokens, int64 (B,); None where one is not known. ids: int (B, T)."""
        own = np.ascontiguousarray(ids, dtype=np.int32)
        found = [self._numbers.get(row[:length].tobytes()) for row, length in zip(own, lengths.tolist(), strict=True)]
        return None if None in found else np.array(found, dtype=np.int64)

    def places(self, seam: Seam) -> Array:
        """How many places each row has, int64 (U,)."""
        return np.ones_like(self.lengths) if seam.first_only else self.lengths


class RowStates:
    """The states of every row of an index; see model/frozen.py."""

    def __init__(self, index: Index, seam: Seam, flat: torch.Tensor) -> None:
        """flat: (N, H) on the CPU."""
        self._index, self._flat = index, flat
        self._places = index.places(seam)
        self._starts = np.cumsum(self._places) - self._places
        self._first_only = seam.first_only

    @property
    def bytes(self) -> int:
        return self._flat.nbytes

    def of(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """As model/frozen.py says. Padding gets the state of the row's last token: nothing reads it."""
        numpy_ids, numpy_mask = ids.cpu().numpy(), None if mask is None else mask.cpu().numpy()
        lengths = _lengths(numpy_ids, numpy_mask)
        rows = None if lengths is None else self._index.find(numpy_ids, lengths)
        if rows is None:
            return None
        width = 1 if self._first_only else ids.shape[1]
        within = np.minimum(np.arange(width)[None, :], self._places[rows][:, None] - 1)
        places = torch.from_numpy((self._starts[rows][:, None] + within).reshape(-1))
        found = self._flat.index_select(0, places).view(len(rows), width, -1)
        if ids.device.type == "cuda":
            return found.pin_memory().to(ids.device, non_blocking=True)
        return found.to(ids.device)


def _lengths(ids: Array, mask: Array | None) -> Array | None:
    """Tokens of each row; None where rows are no beginnings of their line that padding follows."""
    if ids.ndim != 2 or not ids.size:
        return None
    if mask is None:
        return np.full(len(ids), ids.shape[1])
    if mask.shape != ids.shape:
        return None
    lengths = mask.sum(axis=1)
    plain = np.array_equal(mask.astype(bool), np.arange(ids.shape[1])[None, :] < lengths[:, None])
    return lengths if plain else None


def compute_states(
    model: nn.Module, seam: Seam, index: Index, pad_id: int, precision: Precision, flat: torch.Tensor
) -> RowStates:
    """Run the frozen layers once over every row, in batches of like length, into `flat` (N, H); the model's modes are
    left as they were."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    places = index.places(seam)
    starts = np.cumsum(places) - places
    for rows in batches_of(index.lengths, EVAL_BATCH, precision.device):
        ids, mask = padded(index.rows, rows, pad_id)
        inputs = {"input_ids": ids.to(precision.device), "attention_mask": mask.to(precision.device)}
        with torch.inference_mode(), precision.forward():
            found = states_below(model, seam, inputs).cpu()
        for row, hidden in zip(rows, found, strict=True):
            flat[starts[row] : starts[row] + places[row]] = hidden[: places[row]]
    for module, training in modes.items():
        module.training = training
    return RowStates(index, seam, flat)


@dataclass
class Shelf:
    """States by what they were computed from, of one set of rows: each is computed once, whoever asks."""

    rows: TokenizedRows  # all that training and evaluation will see; others are computed as usual
    pad_id: int
    budget: int  # bytes of all states together, in memory or in the folder
    folder: Path | None = None  # for files that other processes on this machine map too; None: in memory

    def __post_init__(self) -> None:
        self.index = Index(self.rows)
        self._held: dict[str, RowStates] = {}  # the one used last stands last

    def attach(self, model: nn.Module, recipe: Recipe, precision: Precision, base: str = "") -> Replay | None:
        """Let the model take from here what its frozen layers give. None, and the model as it was: where no layer
        rests, the states go beyond the budget, ranks share the weights, or replayed logits would not be the same.

        What of the model is frozen must not change until `undo`. base: tells models apart whose weights are the same,
        such as two with other numbers of heads.
        """
        layers = stacked(model)
        if not layers or not len(self.rows) or is_sharded(model):
            return None
        tried = Index(self.rows.select(_spread(self.rows.lengths)))
        with precision.forward():
            seam = find_seam(model, layers, recipe, _inputs(tried, self.pad_id, precision.device))
        if seam is None or bytes_needed(self.index, seam) > self.budget:
            return None
        if not gives_the_same(model, seam, tried, self.pad_id, precision):
            return None
        weights = _digest(tensors_below(model, seam, recipe, layers))
        how = [base, precision.name, precision.device.type, seam.depth, seam.first_only, str(seam.dtype)]
        states = self._states(digest_of([self.index.digest, weights, how]), model, seam, precision)
        return None if states is None else Replay(model, seam, states)

    def _states(self, name: str, model: nn.Module, seam: Seam, precision: Precision) -> RowStates | None:
        found = self._held.pop(name, None)
        if found is None and self.folder is not None:
            found = self._shared(self.folder, name, model, seam, precision)
        elif found is None:
            self._make_room(bytes_needed(self.index, seam))
            flat = torch.empty(shape_of(self.index, seam), dtype=seam.dtype)
            found = compute_states(model, seam, self.index, self.pad_id, precision, flat)
        if found is not None:
            self._held[name] = found
        return found

    def _make_room(self, size: int) -> None:
        """Let go of what was used longest ago."""
        while self._held and sum(each.bytes for each in self._held.values()) + size > self.budget:
            del self._held[next(iter(self._held))]

    def _shared(self, folder: Path, name: str, model: nn.Module, seam: Seam, precision: Precision) -> RowStates | None:
        """From the file of this name, which whoever comes first writes; None where there is no room for one more."""
        path = folder / f"{name}.npy"
        with writing(folder), lease(folder / f"{name}.lock", f"{path}", wait_s=WAIT_S):
            if not path.exists():
                if (
                    sum(each.stat().st_size for each in folder.glob("*.npy")) + bytes_needed(self.index, seam)
                    > self.budget
                ):
                    return None
                self._write(path, model, seam, precision)
        return RowStates(self.index, seam, _mapped(path, seam))

    def _write(self, path: Path, model: nn.Module, seam: Seam, precision: Precision) -> None:
        aside = path.with_name(f"{path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
        try:
            flat = np.lib.format.open_memmap(
                aside, mode="w+", dtype=STORED[seam.dtype], shape=shape_of(self.index, seam)
            )
            compute_states(model, seam, self.index, self.pad_id, precision, torch.from_numpy(flat).view(seam.dtype))
            flat.flush()
            settle(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def shape_of(index: Index, seam: Seam) -> tuple[int, int]:
    """(N, H) of the states of every row."""
    return int(index.places(seam).sum()), seam.hidden


def bytes_needed(index: Index, seam: Seam) -> int:
    """Of the states of every row."""
    return math.prod(shape_of(index, seam)) * seam.dtype.itemsize


def gives_the_same(model: nn.Module, seam: Seam, tried: Index, pad_id: int, precision: Precision) -> bool:
    """Whether logits with and without a replay are the same, of these rows together (so that some are padded) and each
    alone: not where layers see padding, hand on more than hidden states, or are read by more than the next layer."""
    states = compute_states(model, seam, tried, pad_id, precision, torch.empty(shape_of(tried, seam), dtype=seam.dtype))
    together = _inputs(tried, pad_id, precision.device)
    alone = [
        {name: value[row : row + 1, :length] for name, value in together.items()}
        for row, length in enumerate(tried.lengths.tolist())
    ]
    same = SAME if precision.name == "fp32" else SAME_ROUNDED
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for inputs in (together, *alone):
            usual = _logits(model, inputs, precision)
            with replaying(model, seam, states) as replay:
                found = _logits(model, inputs, precision)
            if not replay.served or found.shape != usual.shape or not near(found, usual, same):
                return False
    finally:
        for module, training in modes.items():
            module.training = training
    return True


def _logits(model: nn.Module, inputs: dict[str, torch.Tensor], precision: Precision) -> torch.Tensor:
    """Of whole rows, or of their tokens without padding."""
    with torch.inference_mode(), precision.forward():
        logits = model(**inputs).logits.float()
    mask = inputs["attention_mask"]
    return logits[mask.bool()] if logits.shape[:2] == mask.shape else logits  # type: ignore[no-any-return]


def stacked(model: nn.Module) -> list[nn.Module]:
    """The layers that stand in one list with the first: those of a decoder are not on top of those of an encoder."""
    layers = layers_of(model)
    within = [module for module in model.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    lists = [list(module) for module in within if layers and layers[0] in list(module)]
    return lists[0] if lists else []


def _inputs(index: Index, pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    ids, mask = padded(index.rows, np.arange(len(index.rows)), pad_id)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _spread(lengths: Array) -> Array:
    """Positions of rows from the shortest to the longest."""
    order = np.argsort(lengths, kind="stable")
    return np.unique(order[np.linspace(0, len(order) - 1, TRIED).astype(np.int64)])


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# numpy has no bfloat16: its bits are kept as whole numbers.
STORED: dict[torch.dtype, str] = {torch.float32: "<f4", torch.float16: "<f2", torch.bfloat16: "<u2"}


def _mapped(path: Path, seam: Seam) -> torch.Tensor:
    """The pages of the file itself; whoever wrote to them would write to a copy."""
    return torch.from_numpy(np.load(path, mmap_mode="c")).view(seam.dtype)
