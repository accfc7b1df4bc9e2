"""Rows -> padded tensors -> logits. B rows, T tokens of the longest row, C classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.corpus.sampler import by_length
from raysft.corpus.tokens import TokenizedRows
from raysft.training import ranks
from raysft.training.precision import autocast

EVAL_BATCH = 64


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the device."""

    input_ids: torch.Tensor  # (B, T) int64
    attention_mask: torch.Tensor  # (B, T) int64, 1 on real tokens
    labels: torch.Tensor  # (B,) int64

    def inputs(self) -> dict[str, torch.Tensor]:
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


def collate(rows: TokenizedRows, positions: np.ndarray[Any, Any], pad_id: int, device: torch.device) -> Batch:
    """Pad the rows at `positions` to their longest."""
    lengths = rows.lengths[positions]
    width = int(lengths.max())
    mask = np.arange(width)[None, :] < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate([rows.tokens(position) for position in positions])
    tensors = (ids, mask.astype(np.int64), rows.label[positions].astype(np.int64))
    return Batch(*(torch.from_numpy(each).to(device, non_blocking=True) for each in tensors))


def predict_logits(
    model: nn.Module, rows: TokenizedRows, pad_id: int, device: torch.device, precision: str
) -> np.ndarray[Any, Any]:
    """Logits of every row in the order of `rows`, shape (rows, classes), float32; the ranks share the work."""
    was_training = model.training
    model.eval()
    found: list[tuple[Any, Any]] = []
    batches = by_length(rows.lengths, EVAL_BATCH)
    with torch.inference_mode():
        for positions in batches[ranks.rank() :: ranks.world_size()]:
            with autocast(device, precision):
                logits = model(**collate(rows, positions, pad_id, device).inputs()).logits
            found.append((positions, logits.float().cpu().numpy()))
    model.train(was_training)
    pieces = [piece for rank in ranks.gather(found) for piece in rank]
    result = np.zeros((len(rows), pieces[0][1].shape[1]), dtype=np.float32)
    for positions, logits in pieces:
        result[positions] = logits
    return result
