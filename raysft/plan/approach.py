"""Which parameters will train, and how, before anything is loaded; and what about it cannot be."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from raysft.config import Job
from raysft.corpus.encode import tag_names
from raysft.model.adapters import with_adapters
from raysft.model.architectures import classifier_tensors, tagger_tensors
from raysft.model.recipe import EMBEDDING, Recipe, Refused, Tensor, layer_of, make_recipe
from raysft.plan.size import layers_of, model_size, tensor_shapes
from raysft.plan.weights import Weights
from raysft.storage.pretrained import Base

QUANTIZE = "model.lora.quantize"


def planned_groups(job: Job, base: Base, classes: int) -> list[dict[str, Any]]:
    """The rows that the run will print before its first step; none for an architecture that is not known by name.

    Raises JobFileError where a setting of `model` or `train` cannot take effect on this base.
    """
    found = _planned(job, base, classes)
    return [] if found is None else found[1].rows()


def planned_weights(job: Job, base: Base, classes: int) -> Weights:
    """How many parameters will train and how many are kept. For an architecture that is not known by name: all of the
    base's as if they trained, which is said where some will not. Raises what planned_groups raises."""
    found = _planned(job, base, classes)
    if found is None:
        why = "counted as if all of them trained: what the model will be is known once it is built"
        return Weights(model_size(base).parameters, at_most=why if _keeps_some(job) else "")
    tensors, recipe = found
    lora = job.config.model.lora
    return Weights(
        trained=sum(part.parameters for part in recipe.groups),
        kept=recipe.kept,
        four_bits=_in_layers(tensors) if lora is not None and lora.quantize is not None else 0,
    )


def _planned(job: Job, base: Base, classes: int) -> tuple[list[Tensor], Recipe] | None:
    """The parameters as they will be, and how each trains; None for an architecture that is not known by name."""
    model = job.config.model
    unknown = job.config.language_task is not None  # their heads differ from architecture to architecture
    tags = job.config.task == "token-classification"
    if tags:
        found = tagger_tensors(base.config, tensor_shapes(base), len(tag_names([""] * classes)))
    else:
        found = None if unknown else classifier_tensors(base.config, tensor_shapes(base), classes)
    if found is None:
        if model.freeze.layers > (layers := layers_of(base.config)):
            raise job.problem("model.freeze.layers", f"{base.name} has {layers} layers, found {model.freeze.layers}")
        return None
    tensors, prefix = found
    if model.pooler == "identity" and f"{prefix}.pooler.dense.weight" not in {tensor.name for tensor in tensors}:
        kind = base.config["model_type"]
        what = "tagger of tokens" if tags else "classifier"
        raise job.problem("model.pooler", f"a {what} over {base.name} ({kind}) has no pooler; use auto or keep")
    try:
        tensors = with_adapters(tensors, prefix, model)
        return tensors, make_recipe(tensors, prefix, model, job.config.train)
    except Refused as refused:
        raise job.problem(refused.key, refused.text) from None


def _keeps_some(job: Job) -> bool:
    model, freeze = job.config.model, job.config.model.freeze
    frozen = freeze.embeddings or freeze.layers > 0 or freeze.pattern is not None
    return frozen or model.lora is not None or job.config.train.unfreeze_every is not None


def _in_layers(tensors: Sequence[Tensor]) -> int:
    """Parameters of the linear layers within the layers: those that model/quantize.py puts into 4 bits."""
    found = (t for t in tensors if t.name.endswith(".weight") and len(t.shape) == 2 and ".lora_" not in t.name)
    return sum(t.size for t in found if layer_of(t.plain_name) >= 0 and not EMBEDDING.search(t.name))


def refuse_quantized(job: Job, gpu: bool) -> None:
    """A base in 4 bits needs a GPU and bitsandbytes. gpu: whether one may be used."""
    lora = job.config.model.lora
    if lora is None or lora.quantize is None:
        return
    if not gpu:
        raise job.problem(
            QUANTIZE,
            "needs a GPU, and this run would train on CPU; set train.device: gpu where there is one, or remove the key",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise job.problem(QUANTIZE, "needs bitsandbytes: pip install 'raysft[qlora]', or remove the key")
