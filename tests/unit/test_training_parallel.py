"""Each step of sharing a model by itself: layers, recomputed activations, compiled layers, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.packing import one_a_sequence
from raysft.errors import UsageError
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import resolve_base
from raysft.training import ranks
from raysft.training.dropout import RowRandom, use_row_dropout
from raysft.training.parallel import Parallel, apply_checkpointing, layers_of
from raysft.training.precision import Precision

CPU = torch.device("cpu")
IDS = torch.arange(5, 29).view(3, 8)
ROWS, LENGTHS = np.arange(3), np.full(3, 8)


@pytest.fixture
def model(base_folder: Path) -> nn.Module:
    """A tiny BERT in training mode, with torch's dropout."""
    return build_classifier(resolve_base(str(base_folder)), ModelSection(), ("a", "b"), seed=0).train()


def gradients(model: nn.Module, random: RowRandom) -> dict[str, torch.Tensor]:
    random.start(1, 0, ROWS, one_a_sequence(LENGTHS))
    torch.autograd.backward(model(input_ids=IDS).logits.square().sum())
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(each, other[name]) for name, each in one.items())


def test_layers_are_found_outermost_only_and_in_order(model: nn.Module) -> None:
    assert layers_of(model) == list(model.bert.encoder.layer)  # type: ignore[union-attr, arg-type]
    nested = nn.ModuleDict({"block": nn.ModuleList([nn.ModuleDict({"layer": nn.ModuleList([nn.Linear(2, 2)])})])})
    assert layers_of(nested) == [nested["block"][0]]  # type: ignore[index]
    assert layers_of(nn.Linear(2, 2)) == []


def test_recomputed_layers_draw_the_masks_of_the_forward_pass(model: nn.Module) -> None:
    random = use_row_dropout(model)
    plain = gradients(model, random)
    apply_checkpointing(model, random)
    assert same(gradients(model, random), plain)
    apply_checkpointing(model, None)  # without the rows' generators other masks are drawn: the comparison can fail
    assert not same(gradients(model, random), plain)


def test_replaying_goes_on_where_drawing_was() -> None:
    random, shape = RowRandom(), torch.Size((3, 8, 4))
    random.start(1, 0, ROWS, one_a_sequence(LENGTHS))
    again = random.replaying()
    first, second = random.keep(shape, 0.5), random.keep(shape, 0.5)
    with again:
        assert torch.equal(random.keep(shape, 0.5), first)  # type: ignore[arg-type]
    third = random.keep(shape, 0.5)
    random.start(1, 0, ROWS, one_a_sequence(LENGTHS))
    for mask in (first, second, third):
        assert torch.equal(random.keep(shape, 0.5), mask)  # type: ignore[arg-type]


def kept_bytes(model: nn.Module) -> int:
    """Of all that a forward pass keeps for the backward pass, parameters aside."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=IDS)
    return sum(kept.values())


def test_checkpointing_keeps_less(model: nn.Module) -> None:
    """Of a layer what goes into it, instead of some ten tensors of that size and larger."""
    whole = kept_bytes(model)
    apply_checkpointing(model, use_row_dropout(model))
    assert kept_bytes(model) < whole / 2


def test_checkpointing_is_refused_where_the_model_has_no_layers_for_it() -> None:
    with pytest.raises(UsageError, match=r"train\.activation_checkpointing: not for this model: Linear"):
        apply_checkpointing(nn.Linear(2, 2), None)


def test_layers_are_compiled_and_compute_the_same(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dynamo, and a compiler that runs the graphs as they are: building C++ would take a minute."""
    graphs = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=graphs))
    torch._dynamo.reset()
    random = use_row_dropout(model)
    plain, names = gradients(model, random), list(model.state_dict())
    Parallel(model, TrainSection(compile=True), "ddp", Precision.plain(CPU), random)
    graphs.clear()  # of the trial
    assert same(gradients(model, random), plain)
    assert graphs.frame_count >= 3  # around the two dropouts of a layer; the second layer shares the graphs
    assert list(model.state_dict()) == names
    torch._dynamo.reset()


def test_a_machine_without_a_compiler_is_told_before_training(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UsageError, match=r"train\.compile: .* No working C\+\+ compiler found"):
        Parallel(model, TrainSection(compile=True), "ddp", Precision.plain(CPU), RowRandom())


def test_one_rank_has_nobody_to_compare_its_weights_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not read all of them for it."""
    monkeypatch.setattr(ranks, "weights_digest", None)
    ranks.require_same_weights(nn.Linear(2, 2), "at the end")
