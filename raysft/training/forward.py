"""Logits of many rows in evaluation mode, batched by length and shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.corpus.sampler import Micro, by_length
from raysft.corpus.tokens import TokenizedRows
from raysft.plan.plan import CPU_MICRO_TOKENS, GPU_MICRO_TOKENS
from raysft.training import ranks
from raysft.training.objective import Batch, Forward, padded
from raysft.training.precision import Precision

EVAL_BATCH = 64  # rows at most


def predict(
    forward: Forward, batch_of: Callable[[Micro], Batch], lengths: np.ndarray[Any, Any], device: torch.device
) -> np.ndarray[Any, Any]:
    """Logits of every row in their order, float32 (rows, C); the ranks share the work. lengths: tokens, int (rows,)."""
    mine = shared_out(batches_of(lengths, EVAL_BATCH, device))
    found = [(positions, forward(batch_of(positions)).float().cpu().numpy()) for positions in mine]
    pieces = [piece for rank in ranks.gather(found) for piece in rank]
    result = np.zeros((len(lengths), pieces[0][1].shape[1]), dtype=np.float32)
    for positions, logits in pieces:
        result[positions] = logits
    return result


def batches_of(lengths: np.ndarray[Any, Any], rows: int, device: torch.device) -> list[Micro]:
    """All rows in batches of at most `rows`, and of as many positions as training computes at once on such a device:
    what could be trained can be evaluated, since that keeps no activations."""
    return by_length(lengths, rows, GPU_MICRO_TOKENS if device.type == "cuda" else CPU_MICRO_TOKENS)


def shared_out(batches: list[Micro]) -> list[Micro]:
    """The batches that this rank computes, as many as every other."""
    world = ranks.world_size()
    mine = batches[ranks.rank() :: world]
    # Where the ranks share the weights a forward pass takes all of them, so each has as many, if need be once more.
    return mine + batches[: -(-len(batches) // world) - len(mine)]


def evaluating(model: nn.Module, precision: Precision) -> Forward:
    """The forward pass of a model in evaluation mode, under this precision; leaves no graph."""

    def forward(batch: Batch) -> torch.Tensor:
        with torch.inference_mode(), precision.forward():
            return model(**batch.inputs).logits  # type: ignore[no-any-return]

    return forward


def predict_logits(model: nn.Module, rows: TokenizedRows, pad_id: int, precision: Precision) -> np.ndarray[Any, Any]:
    """Logits of every row in the order of `rows`, float32 (rows, C); the model's mode is left as it was."""
    was_training = model.training
    model.eval()

    def batch_of(positions: Micro) -> Batch:
        ids, mask = padded(rows, positions, pad_id)
        device = precision.device
        return Batch({"input_ids": ids.to(device), "attention_mask": mask.to(device)}, ids)

    logits = predict(evaluating(model, precision), batch_of, rows.lengths, precision.device)
    model.train(was_training)
    return logits
