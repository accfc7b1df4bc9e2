"""Layers at the bottom of a model that never train: where they end, and what they give put in their place.

What frozen layers give for a row is the same in every epoch, fold and trial, so that it can be computed once
(training/frozen.py) and handed to the layers above. Which layers these are is found by trying: all that goes into their
output is frozen, if a backward pass would reach nothing that trains; nothing in it is drawn, if it is the same in
training as in evaluation. No name of an architecture stands here.

B rows, T tokens of the longest of them, H hidden size, W = T, or 1 where a layer gives its first token alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from raysft.model.approach import resting_modules
from raysft.model.language import LEARNT, SAID
from raysft.model.recipe import Recipe

KNOWN = {"input_ids", "attention_mask", LEARNT, SAID}  # arguments beside which nothing tells rows apart
SAME = 1e-4  # of the largest value: float32 sums in another order differ by some 1e-6


@dataclass(frozen=True)
class Seam:
    """Between the frozen layers and those above."""

    below: tuple[nn.Module, ...]  # the frozen layers, in order; at least one
    beside: int | None  # how many None the layers give beside the hidden states in a tuple; None: no tuple
    first_only: bool  # the uppermost of them gives the first token alone
    hidden: int
    dtype: torch.dtype  # in which they give them

    @property
    def depth(self) -> int:
        return len(self.below)

    def wrapped(self, hidden: torch.Tensor) -> Any:
        """As a layer gives it."""
        return hidden if self.beside is None else (hidden, *[None] * self.beside)


class States(Protocol):
    """What the frozen layers give for rows that are known."""

    def of(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """(B, W, H) on the device of `ids`; None where a row is not known. ids, mask: int64 (B, T)."""


def find_seam(
    model: nn.Module, layers: Sequence[nn.Module], recipe: Recipe, inputs: dict[str, torch.Tensor]
) -> Seam | None:
    """Above the last layer whose output depends on the row alone in every epoch; None where the first one's does not.

    layers: all of the model, in order. inputs: a batch of rows of more than one token. The model is left as it was.
    """
    modes = {module: module.training for module in model.modules()}
    grads = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        given = _given_in_training(model, layers, recipe, inputs)
        model.eval()
        with torch.inference_mode():
            still = _record(model, layers, inputs)
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, required in grads.items():
            parameter.requires_grad_(required)
    found: Seam | None = None
    mask = inputs["attention_mask"].bool()
    for depth, (own, other) in enumerate(zip(given, still, strict=True), start=1):
        # A layer that is called for no row or twice, or hands on more than hidden states, cannot be replaced.
        if own is None or other is None or not _rests(own, other, mask):
            break
        if found is not None and found.beside != own.beside:
            break
        first_only = own.hidden.shape[1] != mask.shape[1]
        found = Seam(tuple(layers[:depth]), own.beside, first_only, own.hidden.shape[2], own.hidden.dtype)
    return found


@dataclass(frozen=True)
class _Given:
    """What a layer gave: hidden states (B, W, H), whether parameters learn from them, and how many None stand beside
    them; see Seam."""

    hidden: torch.Tensor
    learns: bool
    beside: int | None


def _rests(own: _Given, other: _Given, mask: torch.Tensor) -> bool:
    """Whether a layer gives the same in training and evaluation, and nothing that trains goes into it."""
    if own.learns or own.hidden.shape != other.hidden.shape:
        return False
    if own.hidden.shape[:2] == (len(mask), 1):
        return near(own.hidden, other.hidden)
    return own.hidden.shape[:2] == mask.shape and near(own.hidden[mask], other.hidden[mask])


def _given_in_training(
    model: nn.Module, layers: Sequence[nn.Module], recipe: Recipe, inputs: dict[str, torch.Tensor]
) -> list[_Given | None]:
    """With all that trains in some epoch requiring gradients, and the modes of an epoch in which all of it does."""
    training = {name for part in recipe.groups for name in part.tensors}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in training)
    model.train()
    for module in resting_modules(model, recipe.frozen):
        module.eval()
    on = {each.device for each in inputs.values() if each.device.type == "cuda"}
    with torch.random.fork_rng(devices=on), torch.enable_grad():
        return _record(model, layers, inputs)


def _record(model: nn.Module, layers: Sequence[nn.Module], inputs: dict[str, torch.Tensor]) -> list[_Given | None]:
    """What each layer gives in one forward pass; None of one that is not called once, or gives something else."""
    calls: dict[nn.Module, list[_Given | None]] = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: calls[layer].append(_as_given(output))) for layer in layers
    ]
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [found[0] if len(found) == 1 else None for found in calls.values()]


def _as_given(output: Any) -> _Given | None:
    if isinstance(output, tuple) and output and all(each is None for each in output[1:]):
        output, beside = output[0], len(output) - 1
    else:
        beside = None
    fits = isinstance(output, torch.Tensor) and output.dim() == 3 and output.is_floating_point()
    return _Given(output.detach(), _reaches_parameters(output), beside) if fits else None


def _reaches_parameters(output: torch.Tensor) -> bool:
    """Whether a backward pass from here comes to a parameter that requires gradients. The output may require them
    without: for activation checkpointing transformers lets embeddings require gradients for nobody's sake."""
    waiting: list[Any] = [output.grad_fn]
    seen = {None}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(getattr(node, "variable", None), nn.Parameter):
            return True
        waiting += [each for each, _ in node.next_functions]
    return False


def near(found: torch.Tensor, expected: torch.Tensor, same: float = SAME) -> bool:
    """Whether two tensors differ by no more than `same` of the largest value."""
    return bool((found - expected).abs().max() <= same * expected.abs().max())


class _Enough(Exception):
    """All that was asked for is there; the rest of a forward pass would be for nothing."""


def states_below(model: nn.Module, seam: Seam, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the frozen layers give, (B, W, H): a forward pass that ends there. The model is in evaluation mode."""
    caught: list[torch.Tensor] = []

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        caught.append(output if seam.beside is None else output[0])
        raise _Enough

    hook = seam.below[-1].register_forward_hook(stop)
    try:
        model(**inputs)
    except _Enough:
        pass
    finally:
        hook.remove()
    return caught[0]


class Replay:
    """Stored states in the place of the frozen layers, wherever the model is called with rows that are all known.

    Any other call is computed as usual: rows that are not known, several rows in a sequence, masks of another shape,
    tokens after a cache. Embeddings are still looked up, and parameters, modes and names are what they were. A copy of
    the model would hand its calls to the layers of this one, so `undo` comes before copying it.
    """

    def __init__(self, model: nn.Module, seam: Seam, states: States) -> None:
        self.seam, self._states = seam, states
        self.served, self.computed = 0, 0  # calls of the model
        self._held: torch.Tensor | None = None
        self._before = [(layer, _own(layer)) for layer in seam.below]
        for layer in seam.below:
            setattr(layer, "forward", self._in_place_of(layer.forward))  # noqa: B010  # mypy: a method
            layer._compiled_call_impl = None  # what may be computed or not is for no graph
        # Before all others: those see the call as the layers do.
        self._hooks = [
            model.register_forward_pre_hook(self._look_up, with_kwargs=True, prepend=True),
            model.register_forward_hook(self._forget, always_call=True),
        ]

    def undo(self) -> None:
        """The model is as it was; a second time this does nothing."""
        for hook in self._hooks:
            hook.remove()
        for layer, own in self._before:
            for name in OWN:
                layer.__dict__.pop(name, None)
            layer.__dict__.update(own)
        self._hooks, self._before = [], []

    def _in_place_of(self, usual: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            return usual(*args, **kwargs) if self._held is None else self.seam.wrapped(self._held)

        return forward

    def _look_up(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._held = None
        if not args and "input_ids" in kwargs and kwargs.keys() <= KNOWN:
            self._held = self._states.of(kwargs["input_ids"], kwargs.get("attention_mask"))
        self.served += self._held is not None
        self.computed += self._held is None

    def _forget(self, *_: Any) -> None:
        self._held = None


OWN = ("forward", "_compiled_call_impl")  # attributes of a layer that a replay sets


def _own(layer: nn.Module) -> dict[str, Any]:
    """Those of the layer itself; its class has them too."""
    return {name: layer.__dict__[name] for name in OWN if name in layer.__dict__}


@contextmanager
def replaying(model: nn.Module, seam: Seam, states: States) -> Iterator[Replay]:
    """A replay that is undone at the end."""
    replay = Replay(model, seam, states)
    try:
        yield replay
    finally:
        replay.undo()


def tensors_below(model: nn.Module, seam: Seam, recipe: Recipe, layers: Collection[nn.Module]) -> dict[str, Any]:
    """The frozen tensors that stand in no layer above the seam, by name: what states are made of, and maybe more."""
    above = [name + "." for name, module in model.named_modules() if module in set(layers) - set(seam.below)]
    training = {name for part in recipe.groups for name in part.tensors}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in training and not name.startswith(tuple(above))
    }
