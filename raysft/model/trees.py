"""A sequence that branches: several answers behind one prompt, each of whose tokens sees its own beginning alone.

So the prompt, and what answers have in common, is computed once (as in SpecInfer's tree attention, Miao et al. 2024,
arXiv 2305.09781, section 4.2). T tokens of a sequence.
"""

from __future__ import annotations

from typing import Any

import torch

BOOLEAN, ADDED = "boolean", "added"  # what a model's attention takes as a mask
TAKEN = {"sdpa": BOOLEAN, "eager": ADDED}  # by how it is computed


def tree_mask(allowed: torch.Tensor, form: str) -> torch.Tensor:
    """What a model takes as attention_mask, (B, 1, T, T). allowed: bool (B, T, T), what each token may look at."""
    if form == BOOLEAN:
        return allowed[:, None]
    least = torch.finfo(torch.float32).min
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, least)[:, None]


def takes_trees(model: Any, longest: int) -> str | None:
    """The form of mask by which a model reads sequences that branch: BOOLEAN or ADDED. None: it gives other logits than
    for each branch alone, or would for texts of `longest` tokens."""
    config = model.config.get_text_config()
    form = TAKEN.get(str(config._attn_implementation))
    near = [getattr(config, name, None) or longest for name in ("sliding_window", "attention_chunk_size")]
    if form is None or min(near) < longest:
        return None
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            found, wanted = _branched(model, form), _alone(model)
    except (TypeError, ValueError, RuntimeError, IndexError):  # it takes no positions, or no such mask
        return None
    finally:
        model.train(was_training)
    return form if found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-4) else None


# Behind 1 2 3 come 4 5 and 6 7.
_BRANCHES = ([1, 2, 3, 4, 5], [1, 2, 3, 6, 7])
_TREE, _PLACES = [1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 3, 4]


def _branched(model: Any, form: str) -> torch.Tensor:
    """Logits of the two branches, read as one sequence, (4, V)."""
    device = next(model.parameters()).device
    allowed = torch.ones(7, 7, dtype=torch.bool, device=device).tril()
    allowed[5:, 3:5] = False
    ids = torch.tensor([_TREE], device=device).remainder(model.config.get_text_config().vocab_size)
    places = torch.tensor([_PLACES], device=device)
    logits = model(input_ids=ids, attention_mask=tree_mask(allowed[None], form), position_ids=places).logits
    return logits[0, 3:].float()  # type: ignore[no-any-return]


def _alone(model: Any) -> torch.Tensor:
    """The same, each branch behind a prompt of its own."""
    device = next(model.parameters()).device
    ids = torch.tensor(_BRANCHES, device=device).remainder(model.config.get_text_config().vocab_size)
    return model(input_ids=ids).logits[:, 3:].flatten(0, 1).float()  # type: ignore[no-any-return]
