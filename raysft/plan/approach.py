"""Which parameters will train, and how, before anything is loaded; and what about it cannot be."""

from __future__ import annotations

import importlib.util
from typing import Any

from raysft.config import Job
from raysft.config.sections import LANGUAGE_TASKS
from raysft.model.adapters import with_adapters
from raysft.model.architectures import classifier_tensors
from raysft.model.recipe import Refused, make_recipe
from raysft.plan.size import layers_of, tensor_shapes
from raysft.storage.pretrained import Base

QUANTIZE = "model.lora.quantize"


def planned_groups(job: Job, base: Base, classes: int) -> list[dict[str, Any]]:
    """The rows that the run will print before its first step; none for an architecture that is not known by name.

    Raises JobFileError where a setting of `model` or `train` cannot take effect on this base.
    """
    model = job.config.model
    unknown = job.config.task in LANGUAGE_TASKS  # their heads differ from architecture to architecture
    found = None if unknown else classifier_tensors(base.config, tensor_shapes(base), classes)
    if found is None:
        if model.freeze.layers > (layers := layers_of(base.config)):
            raise job.problem("model.freeze.layers", f"{base.name} has {layers} layers, found {model.freeze.layers}")
        return []
    tensors, prefix = found
    try:
        return make_recipe(with_adapters(tensors, prefix, model), prefix, model, job.config.train).rows()
    except Refused as refused:
        raise job.problem(refused.key, refused.text) from None


def refuse_quantized(job: Job, gpu: bool) -> None:
    """A base in 4 bits needs a GPU and bitsandbytes. gpu: whether one may be used."""
    lora = job.config.model.lora
    if lora is None or lora.quantize is None:
        return
    if job.config.train.strategy == "fsdp":
        raise job.problem(QUANTIZE, "4-bit weights cannot be shared out; use train.strategy: ddp, or remove the key")
    if not gpu:
        raise job.problem(
            QUANTIZE,
            "needs a GPU, and this run would train on CPU; set train.device: gpu where there is one, or remove the key",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise job.problem(QUANTIZE, "needs bitsandbytes: pip install 'raysft[qlora]', or remove the key")
