"""The loss in pieces: value and gradients of the plain cross-entropy, whatever the size of a piece."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig

from raysft.model import chunks
from raysft.model.chunks import loss_and_slope, summed_loss
from raysft.model.language import LEARNT, SAID, learn_few_positions, sums_its_loss


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_value_and_gradients_are_those_of_cross_entropy(bias: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = nn.Linear(5, 11, bias=bias)
    hidden = torch.randn(7, 5, requires_grad=True)
    said = torch.randint(0, 11, (7,))
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * 11 * size)
    wanted = nn.functional.cross_entropy(head(hidden), said, reduction="sum") * 0.25
    inputs = [hidden, *head.parameters()]
    slopes = torch.autograd.grad(wanted, inputs)
    found = summed_loss(head, hidden, said, loss_and_slope) * 0.25
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, inputs), slopes)


def test_frozen_parts_get_no_gradient() -> None:
    head = nn.Linear(5, 11).requires_grad_(False)
    hidden = torch.randn(7, 5, requires_grad=True)
    summed_loss(head, hidden, torch.zeros(7, dtype=torch.int64), loss_and_slope).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None and head.weight.grad is None and head.bias.grad is None


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    head = nn.Linear(5, 11)
    loss = summed_loss(head, torch.zeros(0, 5, requires_grad=True), torch.zeros(0, dtype=torch.int64), loss_and_slope)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 and head.weight.grad is not None and not head.weight.grad.any()


SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_sums_its_loss(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=30, tie_word_embeddings=tied, **SMALL))
    learn_few_positions(model, "generation")
    assert sums_its_loss(model)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * 30 * 2)
    ids, learnt, said = torch.arange(1, 13).view(2, 6), torch.tensor([1, 2, 7, 9, 10]), torch.tensor([3, 4, 9, 11, 12])
    logits = model(input_ids=ids).logits.flatten(0, 1)[learnt]
    wanted = nn.functional.cross_entropy(logits, said, reduction="sum")
    slopes = torch.autograd.grad(wanted, list(model.parameters()))
    found = model(input_ids=ids, **{LEARNT: learnt, SAID: said}).logits
    assert found.shape == (1, 1, 1)
    torch.testing.assert_close(found.sum(), wanted)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), list(model.parameters())), slopes)


def test_a_model_that_does_more_to_its_logits_is_found_out() -> None:
    config = Gemma2Config(vocab_size=30, head_dim=8, num_key_value_heads=2, final_logit_softcapping=1.0, **SMALL)
    model = AutoModelForCausalLM.from_config(config)
    learn_few_positions(model, "generation")
    assert not sums_its_loss(model)


def test_a_saved_model_is_as_it_was(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2)).eval()
    learn_few_positions(model, "generation")
    model.save_pretrained(tmp_path)
    again, ids = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), torch.arange(6)[None]
    with torch.inference_mode():
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_plan_knows_how_many_logits_exist_at_once() -> None:
    from raysft.plan.language import CHUNK_BYTES

    assert CHUNK_BYTES == chunks.CHUNK_BYTES
