"""A model without the embeddings of tokens that no row has: for models that are judged and thrown away.

Half of a small encoder's parameters are embeddings, of which a corpus of short texts uses a few percent; the others get
no gradient, but the optimizer goes over them in each step, and so do the gradient's norm and its zeros. Without them
the rows get the same logits and the same updates: a token that is not there adds nothing to any sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from raysft.corpus.tokens import TokenizedRows

MOST_KEPT = 0.5  # of the vocabulary; where more occurs it is not worth while
LOW_IDS = 4096  # of the padding: tokens up to it keep their numbers, since some models count positions from it
Array = np.ndarray[Any, Any]


def leave_out_unused(model: nn.Module, rows: TokenizedRows, pad_id: int) -> Array | None:
    """Shrink the model's input embeddings to the tokens of `rows`; gives the new number of each token, int (V,).

    None, and the model as it was, where that is not possible: the matrix is also the head's, or is no plain one; or
    not worth while.
    """
    find: Any = getattr(model, "get_input_embeddings", None)
    embedding = None if find is None else find()
    if type(embedding) is not nn.Embedding or pad_id >= LOW_IDS or _shared(model, embedding):
        return None
    used = np.union1d(np.arange(pad_id + 1), tokens_of(rows))
    if len(used) > MOST_KEPT * embedding.num_embeddings:
        return None
    numbers = np.full(embedding.num_embeddings, -1, np.int32)
    numbers[used] = np.arange(len(used))
    kept = embedding.weight.detach()[torch.from_numpy(used.astype(np.int64))].clone()
    embedding.weight = nn.Parameter(kept, requires_grad=embedding.weight.requires_grad)
    embedding.num_embeddings = len(used)
    return numbers


def tokens_of(rows: TokenizedRows) -> Array:
    """The different tokens of all rows, sorted."""
    pieces = [rows.tokens(position) for position in range(len(rows))]
    return np.unique(np.concatenate(pieces)) if pieces else np.zeros(0, np.int64)


def _shared(model: nn.Module, embedding: nn.Embedding) -> bool:
    """Whether another module has the same matrix, as a head that is tied to it."""
    owners = [module for module in model.modules() for own in module._parameters.values() if own is embedding.weight]
    return len(owners) > 1
