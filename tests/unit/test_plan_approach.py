"""What cannot train is said by `raysft check` with its place in the job file; what trains is shown as a table."""

from __future__ import annotations

import importlib.util
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from raysft.cli.tables import rows_table
from raysft.config import Job, load_job
from raysft.config.sections import TrainSection
from raysft.errors import JobFileError, NoCapacity
from raysft.plan.approach import planned_weights, refuse_quantized
from raysft.plan.machine import Machine
from raysft.plan.plan import Plan, make_plan
from raysft.plan.preflight import check_job
from raysft.plan.refusals import refuse_too_large
from raysft.plan.size import model_size
from raysft.plan.weights import Weights
from raysft.storage.pretrained import Base, resolve_base
from tests.support.jobs import write_job


def job_of(folder: Path, base: Path, model: dict[str, Any], **train: Any) -> Job:
    return load_job(write_job(folder, base, model=model, train=train))


@pytest.mark.parametrize(
    ("model", "train", "text"),
    [
        ({"freeze": {"layers": 3}}, {}, r"job\.yaml:\d+: model\.freeze\.layers: the base has 2 layers, found 3"),
        ({"freeze": {"pattern": "x{9}"}}, {}, r"model\.freeze\.pattern: 'x\{9\}' matches none"),
        ({"freeze": {"pattern": "."}}, {}, r"model\.freeze: keeps all 41 tensors"),
        ({"lora": {"targets": ["querry"]}}, {}, r"model\.lora\.targets: 'querry' ends no linear layer .*query"),
        ({"lora": {"targets": ["classifier"]}}, {}, r"model\.lora\.targets: 'classifier' ends no linear layer of the"),
        ({"lora": {"targets": ["query"]}, "freeze": {"layers": 2}}, {}, r"every 'query' is kept by model\.freeze"),
        ({"lora": {}, "freeze": {"layers": 2}}, {}, r"no linear layer within the layers is left"),
        ({}, {"rates": [{"pattern": "nope", "learning_rate": 0.1}]}, r"train\.rates\.0\.pattern: 'nope' matches none"),
        ({"lora": {}}, {"unfreeze_every": 1}, r"train\.unfreeze_every: the base under model\.lora never trains"),
        ({"lora": {"quantize": "4bit"}}, {"device": "cpu"}, r"model\.lora\.quantize: needs a GPU"),
    ],
)
def test_check_refuses_with_the_line(
    tmp_path: Path, base_folder: Path, model: dict[str, Any], train: dict[str, Any], text: str
) -> None:
    job = job_of(tmp_path, base_folder, model, **train)
    with pytest.raises(JobFileError, match=text):
        check_job(job, resolve_base(str(base_folder)))


def test_check_shows_what_trains(tmp_path: Path, base_folder: Path) -> None:
    job = job_of(tmp_path, base_folder, {"freeze": {"layers": 1}}, layer_decay=0.5, unfreeze_every=2, epochs=6)
    rows = {row["group"]: row for row in check_job(job, resolve_base(str(base_folder))).groups}
    assert list(rows) == [
        "layer 1", "layer 1 (vectors)", "above the layers", "above the layers (vectors)", "head", "head (vectors)",
        "frozen",
    ]  # fmt: skip
    assert rows["head"] == {
        "group": "head", "parameters": 4 * 32, "learning_rate": 0.01, "weight_decay": 0.01, "from_epoch": 1,
    }  # fmt: skip
    assert rows["layer 1"]["from_epoch"] == 3


def shown(rows: list[dict[str, Any]]) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(rows_table("what trains", rows))
    return console.export_text()


def test_the_table_tells_epochs_only_where_they_differ() -> None:
    head = {"group": "head", "parameters": 1280, "learning_rate": 0.01, "weight_decay": 0.0, "from_epoch": 1}
    frozen = {"group": "frozen", "parameters": 7, "learning_rate": 0.0, "weight_decay": 0.0, "from_epoch": 0}
    text = shown([head, frozen])
    assert "from epoch" not in text and "1,280" in text and "0.01" in text
    assert text.splitlines()[-1].split() == ["frozen", "7", "-", "-"]
    assert "from epoch" in shown([{**head, "from_epoch": 3}, frozen])


def test_a_base_in_4_bits_needs_a_gpu_and_the_extra(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, base_folder, {"lora": {"quantize": "4bit"}})
    with pytest.raises(JobFileError, match=r"needs a GPU.*train\.device: gpu"):
        refuse_quantized(job, gpu=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobFileError, match=r"pip install 'raysft\[qlora\]'"):
        refuse_quantized(job, gpu=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    refuse_quantized(job, gpu=True)


# --- what the weights take

HIDDEN, INNER, LAYERS, WORDS = 2048, 8192, 24, 30_000


def large_bert(folder: Path) -> Base:
    """A BERT of 1.27 billion parameters, as far as a plan looks: config.json and the header of the weights."""
    named: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (WORDS, HIDDEN)}
    named["pooler.dense.weight"] = (HIDDEN, HIDDEN)
    for layer in range(LAYERS):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            named[f"encoder.layer.{layer}.{name}.weight"] = (HIDDEN, HIDDEN)
        named[f"encoder.layer.{layer}.intermediate.dense.weight"] = (INNER, HIDDEN)
        named[f"encoder.layer.{layer}.output.dense.weight"] = (HIDDEN, INNER)
        named[f"encoder.layer.{layer}.output.dense.bias"] = (HIDDEN,)
    header = json.dumps({name: {"dtype": "F32", "shape": shape} for name, shape in named.items()}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    config = {"model_type": "bert", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": WORDS}))
    return Base("large", folder, "local folder", "0")


LINEAR = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
POOLER = HIDDEN * HIDDEN + HIDDEN
OTHER = WORDS * HIDDEN + LAYERS * HIDDEN + POOLER  # embeddings, biases, pooler
ADAPTERS = LAYERS * 8 * (4 * 2 * HIDDEN + 2 * (HIDDEN + INNER))  # r = 8
HEAD = 2 * HIDDEN + 2


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ({}, Weights(LINEAR + OTHER + HEAD)),
        ({"freeze": {"layers": LAYERS}}, Weights(POOLER + HEAD, LINEAR + OTHER - POOLER)),
        ({"lora": {"r": 8}}, Weights(ADAPTERS + HEAD, LINEAR + OTHER)),
        ({"lora": {"r": 8, "quantize": "4bit"}}, Weights(ADAPTERS + HEAD, LINEAR + OTHER, LINEAR)),
    ],
)
def test_kept_weights_are_counted_apart(tmp_path: Path, model: dict[str, Any], weights: Weights) -> None:
    job = job_of(tmp_path, tmp_path, model)
    assert planned_weights(job, large_bert(tmp_path), 2) == weights


def test_adapters_over_a_large_base_fit_where_its_training_would_not(tmp_path: Path) -> None:
    base, rows = large_bert(tmp_path), {"train": 100}
    machine = Machine(cpus=2, memory_bytes=16 * 2**30, gflops=10.0, bf16=False)

    def planned(model: dict[str, Any]) -> Plan:
        job = job_of(tmp_path, tmp_path, model)
        weights = planned_weights(job, base, 2)
        return make_plan(job.config, model_size(base), np.full(100, 16), rows, machine, weights=weights)

    with pytest.raises(NoCapacity, match="16 bytes a parameter"):
        refuse_too_large(planned({}), machine, gpu=False)
    found = planned({"lora": {"r": 8}})
    refuse_too_large(found, machine, gpu=False)
    assert 5 * 2**30 < found.memory_bytes < 8 * 2**30
    assert f"4 for each of {LINEAR + OTHER:,} that do not" in found.why["memory_bytes"]
    assert planned({"lora": {"r": 8, "quantize": "4bit"}}).memory_bytes < found.memory_bytes - 3.9 * 2**30


def test_what_the_weights_of_an_unknown_architecture_take_is_said_to_be_a_limit(tmp_path: Path) -> None:
    base = large_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "unheard"}))
    every = LINEAR + OTHER - HIDDEN
    assert planned_weights(job_of(tmp_path, tmp_path, {}), base, 2) == Weights(every)
    for model in ({"lora": {"r": 8}}, {"freeze": {"embeddings": True}}):
        found = planned_weights(job_of(tmp_path, tmp_path, model), base, 2)
        assert (found.trained, found.kept) == (every, 0)
        assert "as if all of them trained" in found.words(TrainSection())
