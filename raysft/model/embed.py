"""Rows as points: the frozen base's last layer, averaged over the tokens of a row.

Shapes: R rows, B rows of one batch, T tokens of the longest of them, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.errors import UsageError
from raysft.model.classifier import quiet_transformers
from raysft.model.padding import pad_id
from raysft.storage.pretrained import Base

BATCH_TOKENS = 2048  # padding included; more gains nothing on a CPU
TokenIds = Sequence[Any]  # per row: list or int array of token ids, special tokens included
Progress = Callable[[int, int], None]  # rows done, rows in all


class Embedder:
    """A base that is loaded once and called often; fit for a Ray actor.

    threads: how many batches are computed at once, each on one CPU thread; None: as many as torch would use.
    Raises UsageError when transformers cannot load the base as an encoder.
    """

    def __init__(self, base: Base, threads: int | None = None) -> None:
        self.model = _load(base)
        self.threads = threads or torch.get_num_threads()
        config: Any = self.model.config
        self.hidden = int(config.hidden_size)
        self.pad = pad_id(self.model)

    def __call__(self, ids: TokenIds, progress: Progress | None = None) -> np.ndarray[Any, Any]:
        """Points of unit length, float32 (R, H), in the order of `ids`; a row without tokens gives zeros.

        The same rows give the same bits in any order, on any number of threads; beside other rows they differ by
        rounding (1e-6) only.
        """
        points = np.zeros((len(ids), self.hidden), np.float32)
        done = sum(len(row) == 0 for row in ids)
        # A batch a thread: threads that share a batch wait for each other busily. Measured on two cores with
        # all-MiniLM-L6-v2: 309 rows/s; with two threads a batch 260, and 61 beside other work.
        with _one_torch_thread(), ThreadPoolExecutor(self.threads) as pool:
            work = {pool.submit(self._embed, [ids[p] for p in positions]): positions for positions in batches(ids)}
            try:
                for finished in as_completed(work):
                    points[work[finished]] = finished.result()
                    done += len(work[finished])
                    if progress is not None:
                        progress(done, len(ids))
            finally:
                pool.shutdown(cancel_futures=True)  # an error or Ctrl-C does not wait for the batches to come
        return points

    @torch.inference_mode()
    def _embed(self, rows: list[Any]) -> np.ndarray[Any, Any]:
        tokens_bt, mask_bt = _pad(rows, self.pad)
        states_bth = self.model(input_ids=tokens_bt, attention_mask=mask_bt).last_hidden_state
        weights_bt1 = mask_bt.unsqueeze(-1).to(states_bth.dtype)
        means_bh = (states_bth * weights_bt1).sum(dim=1) / weights_bt1.sum(dim=1)
        return np.asarray(nn.functional.normalize(means_bh, dim=1).numpy())


def embed(
    ids: TokenIds, base: Base, threads: int | None = None, progress: Progress | None = None
) -> np.ndarray[Any, Any]:
    """Points of unit length, float32 (R, H), of rows given as token ids; see Embedder.

    Rows must not be longer than the base can read: truncate them when tokenizing.
    """
    return Embedder(base, threads)(ids, progress)


def batches(ids: TokenIds, tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Positions of rows of about the same length, at most `tokens` a batch with padding; empty rows are left out.

    Rows of equal length are ordered by their tokens, so that batches do not depend on the order of the rows.
    """
    order = sorted((p for p in range(len(ids)) if len(ids[p])), key=lambda p: (-len(ids[p]), tuple(ids[p])))
    start = 0
    while start < len(order):
        size = max(1, tokens // len(ids[order[start]]))
        yield order[start : start + size]
        start += size


def _load(base: Base) -> nn.Module:
    from transformers import AutoModel

    quiet_transformers()
    try:
        model = AutoModel.from_pretrained(base.folder, use_safetensors=True, dtype=torch.float32)
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(
            f"model.base: {base.name} cannot be loaded as an encoder: {str(error).splitlines()[0]}",
            "Use an encoder that transformers knows (BERT, RoBERTa, ...), or set data.audit.wrong_labels: off.",
        ) from None
    return model.eval()  # type: ignore[no-any-return]


def _pad(rows: list[Any], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T), filled up with `pad`, and a mask (B, T) that is 1 on real tokens."""
    longest = max(len(row) for row in rows)
    tokens_bt = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask_bt = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        tokens_bt[number, : len(row)] = torch.as_tensor(row, dtype=torch.long)
        mask_bt[number, : len(row)] = 1
    return tokens_bt, mask_bt


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Torch computes on the thread that calls it, and on no other, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
