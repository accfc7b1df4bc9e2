"""What cannot train is said by `raysft check` with its place in the job file; what trains is shown as a table."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysft.cli.tables import rows_table
from raysft.config import Job, load_job
from raysft.errors import JobFileError
from raysft.plan.approach import refuse_quantized
from raysft.plan.preflight import check_job
from raysft.storage.pretrained import resolve_base
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


def test_a_base_in_4_bits_needs_a_gpu_the_extra_and_whole_weights(
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
    sharded = job_of(tmp_path, base_folder, {"lora": {"quantize": "4bit"}}, strategy="fsdp")
    with pytest.raises(JobFileError, match="cannot be shared out"):
        refuse_quantized(sharded, gpu=True)
