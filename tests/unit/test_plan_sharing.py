"""How workers share a model: by the memory that each has, said with its reason; and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysft.config import JobConfig, load_job
from raysft.errors import JobFileError
from raysft.plan.plan import ModelSize
from raysft.plan.sharing import choose_sharing, refuse_sharing
from raysft.plan.weights import Weights
from tests.support.jobs import write_job

GIB = 2**30
SIZE = ModelSize(parameters=GIB, embedding=2**28, hidden=1024, layers=24, inner=4096)  # 16 GiB of states
BESIDE = 2 * GIB
ALL = Weights(SIZE.parameters)


def config(lora: dict[str, Any] | None = None, **train: Any) -> JobConfig:
    return JobConfig.model_validate({"name": "a", "data": {"train": "a"}, "model": {"lora": lora}, "train": train})


@pytest.mark.parametrize(
    ("settings", "workers", "memory", "strategy", "why"),
    [
        ({}, 4, 18 * GIB, "ddp", "takes 18.0 GiB of the 18.0 GiB"),
        ({}, 4, 18 * GIB - 1, "fsdp", "would take 18.0 GiB of the 18.0 GiB"),
        ({}, 1, GIB, "ddp", "one worker"),
        ({"optimizer": "adafactor"}, 4, 9 * GIB, "ddp", "adafactor needs whole tensors and cannot be shared out"),
        (
            {"lora": {"quantize": "4bit"}},
            4,
            9 * GIB,
            "ddp",
            "4-bit weights cannot be shared out; the whole",
        ),
        ({"lora": {}}, 4, 9 * GIB, "fsdp", "the whole model would take"),
        ({}, 4, 0, "ddp", "known when the run starts"),
        ({"strategy": "ddp"}, 4, GIB, "ddp", "train.strategy"),
        ({"strategy": "fsdp"}, 4, 99 * GIB, "fsdp", "train.strategy"),
    ],
)
def test_the_strategy_follows_from_memory(
    settings: dict[str, Any], workers: int, memory: int, strategy: str, why: str
) -> None:
    found = choose_sharing(config(**settings), SIZE, ALL, BESIDE, workers, memory)
    assert found.strategy == strategy and why in found.why


def test_memory_by_hand() -> None:
    """The embedding, a quarter of the model, is the largest layer: weights, gradient, and the weights to come."""

    def memory(weights: Weights = ALL, **settings: Any) -> int:
        return choose_sharing(config(workers=4, **settings), SIZE, weights, BESIDE, 4, 99 * GIB).memory_bytes

    assert memory(strategy="ddp") == (2 + 16) * GIB
    assert memory(strategy="fsdp") == (2 + 16 // 4 + 12 // 4) * GIB
    assert memory(strategy="fsdp", offload=True) == (2 + 12 // 4) * GIB
    assert memory(strategy="ddp", average=0.9) == (2 + 20) * GIB
    assert memory(strategy="ddp", optimizer="adafactor") == (2 + 8) * GIB
    assert memory(strategy="ddp", optimizer="adamw_8bit") == (2 + 10) * GIB
    assert memory(strategy="fsdp", average=0.9) == (2 + 20 // 4 + 12 // 4) * GIB
    # Of a model of 1 Gi parameters a quarter trains; of the rest, all or none is in 4 bits.
    some, few = Weights(GIB // 4, 3 * GIB // 4), Weights(GIB // 4, 3 * GIB // 4, 3 * GIB // 4)
    assert memory(some, strategy="ddp") == (2 + 4 + 3) * GIB
    assert memory(some, strategy="fsdp") == (2 + 12 // 4) * GIB + 7 * GIB // 4
    assert memory(few, strategy="ddp") == (2 + 4) * GIB + 3 * GIB // 8


REFUSED = [
    (
        {"train": {"strategy": "fsdp"}},
        True,
        "train.strategy: fsdp shares a model among workers, and train.workers is 1",
    ),
    ({"train": {"offload": True, "workers": 2}}, True, "train.offload: needs train.strategy: fsdp, found auto"),
    ({"train": {"offload": True, "workers": 2, "strategy": "fsdp"}}, False, "train.offload: moves weights from a GPU"),
    ({"train": {"compile": True, "activation_checkpointing": True}}, False, "train.compile: leaves most of a layer"),
    ({"model": {"attention": "flash_attention_2"}}, False, "model.attention: flash_attention_2 needs an NVIDIA GPU"),
    (
        {"model": {"attention": "flash_attention_2"}, "train": {"precision": "tf32"}},
        True,
        "model.attention: flash_attention_2 computes in bf16 or fp16, and train.precision is tf32",
    ),
    (
        {"model": {"lora": {"quantize": "4bit"}}, "train": {"strategy": "fsdp", "workers": 2}},
        True,
        "model.lora.quantize: 4-bit weights cannot be shared out (train.strategy is fsdp); use train.strategy: ddp",
    ),
    (
        {"train": {"optimizer": "adafactor", "strategy": "fsdp", "workers": 2}},
        True,
        "train.optimizer: train.optimizer adafactor needs whole tensors and cannot be shared out",
    ),
    (
        {"train": {"optimizer": "adamw_8bit", "strategy": "fsdp", "workers": {"min": 1, "max": 2}}},
        True,
        "use adamw, or train.strategy: ddp",
    ),
]


@pytest.mark.parametrize(("sections", "gpu", "message"), REFUSED)
def test_what_cannot_take_effect_is_refused(
    tmp_path: Path, base_folder: Path, sections: dict[str, Any], gpu: bool, message: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        refuse_sharing(load_job(write_job(tmp_path, base_folder, **sections)), gpu)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "gpu"),
    [
        ({}, False),
        ({"train": {"strategy": "fsdp", "workers": {"min": 1, "max": 2}}}, False),
        ({"train": {"strategy": "fsdp", "workers": 2, "offload": True}}, True),
        ({"train": {"compile": True, "activation_checkpointing": True}}, True),
        ({"model": {"attention": "flash_attention_2"}, "train": {"precision": "auto"}}, True),
        ({"model": {"attention": "eager"}, "train": {"activation_checkpointing": True}}, False),
    ],
)
def test_what_can_is_not(tmp_path: Path, base_folder: Path, sections: dict[str, Any], gpu: bool) -> None:
    refuse_sharing(load_job(write_job(tmp_path, base_folder, **sections)), gpu)
