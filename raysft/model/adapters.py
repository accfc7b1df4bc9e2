"""Which linear layers get low-rank adapters, from names alone; shared by the run and by `raysft check`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from raysft.config.sections import LoraSection, ModelSection
from raysft.model.recipe import EMBEDDING, UNDER_ADAPTER, Places, Refused, Tensor, frozen_names, layer_of

NAME = "default"  # peft's name of the only adapter


def adapted_layers(
    linear: Sequence[str], places: Places, lora: LoraSection, frozen: Collection[str]
) -> tuple[str, ...]:
    """Full names of the layers to adapt, of all linear layers of a model.

    The head trains fully, and merging an adapter would change what `model.freeze` keeps: neither gets one.
    Raises Refused when a target names no linear layer of the base, or frozen ones only.
    """
    base = [name for name in linear if name.startswith(places.prefix)]
    free = [name for name in base if f"{name}.weight" not in frozen]
    if lora.targets == "auto":
        found = tuple(name for name in free if layer_of(f"{name}.") >= 0)
        if not found:
            raise Refused("model.lora.targets", "no linear layer within the layers is left to adapt; name some")
        return found
    for target in lora.targets:
        if not any(_ends(name, target) for name in base):
            kinds = sorted({name.rpartition(".")[2] for name in base})
            raise Refused("model.lora.targets", f"{target!r} ends no linear layer of the base ({', '.join(kinds)})")
        if not any(_ends(name, target) for name in free):
            raise Refused("model.lora.targets", f"every {target!r} is kept by model.freeze; merging would change it")
    return tuple(name for name in free if any(_ends(name, target) for target in lora.targets))


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def with_adapters(tensors: Sequence[Tensor], prefix: str, model: ModelSection) -> list[Tensor]:
    """The parameters as they are once adapters stand in the model: what `raysft check` plans with.

    Matrices within the base that are no embedding count as linear layers, shape (out, in).
    """
    lora = model.lora
    if lora is None:
        return list(tensors)
    places = Places((tensor.name for tensor in tensors), prefix)
    shapes = {
        tensor.name.removesuffix(".weight"): tensor.shape
        for tensor in tensors
        if tensor.name.endswith(".weight") and len(tensor.shape) == 2 and not EMBEDDING.search(tensor.name)
    }
    chosen = set(adapted_layers(list(shapes), places, lora, frozen_names(tensors, places, model.freeze)))
    found: list[Tensor] = []
    for tensor in tensors:
        layer, _, leaf = tensor.name.rpartition(".")
        name = f"{layer}{UNDER_ADAPTER}{leaf}" if layer in chosen else tensor.name
        found.append(replace(tensor, name=name, trains=not tensor.name.startswith(places.prefix)))
    return found + [adapter for layer in sorted(chosen) for adapter in _adapters(layer, shapes[layer], lora)]


def _adapters(layer: str, shape: tuple[int, ...], lora: LoraSection) -> list[Tensor]:
    out, into = shape
    found = [
        Tensor(f"{layer}.lora_A.{NAME}.weight", (lora.r, into)),
        Tensor(f"{layer}.lora_B.{NAME}.weight", (out, lora.r)),
    ]
    return [*found, Tensor(f"{layer}.lora_magnitude_vector.{NAME}.weight", (out,))] if lora.variant == "dora" else found
