"""A last layer that computes its first token alone gives the same logits and gradients as one that computes all."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from raysft.model.first_token import KINDS, FirstTokenLayer, read_first_token

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


def model_of(kind: str, attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "max_position_embeddings": 40, "num_labels": 5, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **SMALL, **sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():  # weights of 0.02 would hide what is wrong
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def inputs(padded: bool) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 60, (6, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        for row in range(6):
            mask[row, 12 - 2 * row :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_logits_and_gradients_are_those_of_the_whole_layer(kind: str, padded: bool, attention: str) -> None:
    """In float64, where sums in another order differ by some 1e-15 of values near 1 to 100."""
    whole = model_of(kind, attention).double()
    first = deepcopy(whole)
    read_first_token(first)
    assert isinstance(first.base_model.encoder.layer[-1], FirstTokenLayer)
    weights = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    given = inputs(padded)
    for model in (whole, first):
        (model(**given).logits * weights).sum().backward()
    torch.testing.assert_close(first(**given).logits, whole(**given).logits, rtol=1e-9, atol=1e-11)
    for (name, mine), (_, theirs) in zip(first.named_parameters(), whole.named_parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(attention: str, half: torch.dtype) -> None:
    """Logits are near 1 here: with weights of 0.02 as models start, bf16 rounds them by 1e-3 to 1e-2."""
    config = model_of("bert", attention).config
    whole = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention).eval()
    first = deepcopy(whole)
    read_first_token(first)
    with torch.autocast("cpu", dtype=half):
        expected, found = whole(**inputs(True)).logits, first(**inputs(True)).logits
        torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=0.03)
        found.float().sum().backward()
    assert all(each.grad.isfinite().all() for each in first.parameters() if each.grad is not None)


def test_the_last_layer_computes_one_position_and_a_copy_is_independent() -> None:
    model = model_of("bert")
    read_first_token(model)
    seen = []
    layers = model.base_model.encoder.layer
    for layer in layers:
        layer.intermediate.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    copied = deepcopy(model)
    logits = model(**inputs(True)).logits
    assert seen == [12, 12, 1]
    with torch.no_grad():
        copied.base_model.encoder.layer[-1].output.dense.weight.add_(1.0)
    torch.testing.assert_close(model(**inputs(True)).logits, logits)
    assert not torch.allclose(copied(**inputs(True)).logits, logits)


@pytest.mark.parametrize("kind", ["distilbert", "llama"])
def test_other_architectures_stay_as_they_are(kind: str) -> None:
    sizes = {"vocab_size": 60, "num_labels": 5, "pad_token_id": 0}
    shape = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64} if kind == "distilbert" else SMALL
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **shape, **sizes))
    classes = [type(module) for module in model.modules()]
    read_first_token(model)
    assert [type(module) for module in model.modules()] == classes
