"""Each way to fine-tune changes what it says and nothing else, and goes on bit for bit after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysft.config import JobConfig
from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.encode import encode_texts
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.approach import Approach
from raysft.model.attention import FLASH
from raysft.model.classifier import build_classifier, load_classifier
from raysft.model.lora import add_adapters, merge_adapters
from raysft.model.recipe import Refused
from raysft.storage.layout import RunFolder
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.artifact import best_model
from raysft.training.classification import Classification
from raysft.training.dropout import RowDropout
from raysft.training.loop import Loop
from raysft.training.precision import Precision
from raysft.training.worker import Task
from tests.support.jobs import TOPICS, corpus_rows, write_base
from tests.support.ranks import run_on_ranks
from tests.support.runs import run_until

LABELS = tuple(sorted(TOPICS))
CPU = torch.device("cpu")
TRAIN = {"epochs": 3, "batch_size": 16, "learning_rate": 5e-3, "head_learning_rate": 1e-2, "seed": 3, "save_every": 2}
# A name, `model` and `train`: 6 steps an epoch.
APPROACHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full": ({}, {}),
    "freeze": ({"freeze": {"layers": 1, "pattern": "pooler"}}, {"layer_decay": 0.5}),
    "rates": ({}, {"rates": [{"pattern": "attention", "learning_rate": 1e-3, "weight_decay": 0.1}]}),
    "lora": ({"lora": {"r": 4, "dropout": 0.2}}, {}),
    "lora above a frozen layer": ({"lora": {"r": 4, "targets": ["query", "value"]}, "freeze": {"layers": 1}}, {}),
    "dora": ({"lora": {"r": 4, "dropout": 0.1, "variant": "dora"}}, {}),
    "rslora": ({"lora": {"r": 4, "variant": "rslora", "targets": ["dense"]}}, {}),
    "unfreeze": ({}, {"unfreeze_every": 1}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def settings_of(name: str) -> tuple[ModelSection, TrainSection]:
    model, train = APPROACHES[name]
    return ModelSection.model_validate(model), TrainSection.model_validate({**TRAIN, **train})


def rows_of(base: Base, count: int, seed: int) -> TokenizedRows:
    rows = corpus_rows(count, seed)
    ids, _ = encode_texts([row["text"] for row in rows], base.folder / "tokenizer.json", 32)
    return from_lists(ids, [LABELS.index(row["label"]) for row in rows])


def make_loop(base: Base, folder: Path, name: str, micro: int = 16, strategy: str = "ddp") -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    model, train = settings_of(name)
    rows = rows_of(base, 90, 0)
    return Loop(
        model=build_classifier(base, model, LABELS, train.seed),
        objective=Classification(rows, rows_of(base, 24, 1), train, 0, CPU),
        settings=train,
        micro_batch=micro,
        train=rows,
        precision=Precision.plain(CPU),
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        model_settings=model,
        strategy=strategy,
    )


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Names of the tensors that are not the same to the bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def dropouts(model: nn.Module, within: str) -> set[bool]:
    """Whether the dropouts below `within` are in training mode."""
    return {each.training for name, each in model.named_modules() if isinstance(each, RowDropout) and within in name}


@pytest.mark.parametrize("name", [name for name in APPROACHES if name != "unfreeze"])
def test_exactly_what_the_table_lists_changes(base: Base, tmp_path: Path, name: str) -> None:
    """All else keeps its bits: the frozen parts, and under adapters the whole base."""
    loop = make_loop(base, tmp_path, name)
    before = state(loop.model)
    loop.run()
    listed = {each for part in loop.approach.recipe.groups for each in part.tensors}
    assert changed(before, state(loop.model)) == listed
    assert len(listed) >= 4


def test_frozen_parts_have_no_dropout_and_the_others_do(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path, "freeze")
    loop.approach.train_mode()
    assert dropouts(loop.model, "embeddings") == dropouts(loop.model, "layer.0.") == {False}
    assert dropouts(loop.model, "layer.1.") == {True}
    loop._evaluate()
    assert dropouts(loop.model, "layer.0.") == {False} and dropouts(loop.model, "layer.1.") == {True}


def test_dropout_under_and_before_adapters_belongs_to_rows(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path, "lora")
    loop.approach.train_mode()
    assert dropouts(loop.model, "embeddings") == dropouts(loop.model, "output.") == {True}
    assert dropouts(loop.model, "lora_dropout") == {True}
    assert not any(type(module) is nn.Dropout for module in loop.model.modules())


def test_running_statistics_of_a_frozen_norm_stay(base: Base) -> None:
    """A BatchNorm changes its buffers in every forward pass of training mode, without any gradient."""

    class Net(nn.Module):
        base_model_prefix = "body"

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
            self.head = nn.Linear(4, 2)

    net = Net()
    approach = Approach(net, ModelSection.model_validate({"freeze": {"pattern": "^body"}}), TrainSection())
    before = state(net)
    approach.train_mode()
    net.head(net.body(torch.randn(8, 3))).sum().backward()
    assert not changed(before, state(net))
    assert all(parameter.grad is None for parameter in net.body.parameters())


def test_layers_thaw_from_the_top_one_by_one(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes in each epoch, and that what has not had its turn keeps its bits until then."""
    loop = make_loop(base, tmp_path, "unfreeze")
    seen: list[set[str]] = []
    begin, last = loop._begin_epoch, state(loop.model)

    def note_and_begin(epoch: int) -> None:
        nonlocal last
        if epoch:
            seen.append(changed(last, state(loop.model)))
        last = state(loop.model)
        begin(epoch)

    monkeypatch.setattr(loop, "_begin_epoch", note_and_begin)
    loop.run()
    seen.append(changed(last, state(loop.model)))
    names = set(last)
    head = {"classifier.weight", "classifier.bias"}
    upper = {name for name in names if "layer.1." in name or "pooler" in name}
    lower = {name for name in names if "layer.0." in name}
    assert seen == [head, head | upper, head | upper | lower]  # three epochs: the embeddings' turn never comes


@pytest.mark.parametrize("name", [name for name in APPROACHES if name not in {"full", "rates"}])
@pytest.mark.parametrize("stop", [3, 6, 9])
def test_resumed_is_bit_identical(base: Base, tmp_path: Path, name: str, stop: int) -> None:
    """Stopped within an epoch, at its end, and one epoch later; a checkpoint every 2 steps."""
    whole = make_loop(base, tmp_path / "whole", name)
    whole.run()
    run_until(make_loop(base, tmp_path / "cut", name), stop)
    second = make_loop(base, tmp_path / "cut", name)
    second.run()
    assert second.resumed_from == stop - stop % 2
    assert ranks.weights_digest(second.model) == ranks.weights_digest(whole.model)
    assert second.progress.best == whole.progress.best


@pytest.mark.parametrize("name", ["lora", "dora", "unfreeze"])
def test_micro_batches_change_nothing(base: Base, tmp_path: Path, name: str) -> None:
    """The adapters' dropout belongs to rows too. float32 sums in another order differ by some 1e-7 a step, and AdamW
    magnifies that where a gradient is near zero: by its rate (5e-3) times a small share."""
    whole, split = (make_loop(base, tmp_path / str(micro), name, micro) for micro in (16, 5))
    whole.run()
    split.run()
    for tensor, other in zip(whole.model.state_dict().values(), split.model.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["lora", "dora", "rslora", "lora above a frozen layer"])
def test_merged_adapters_give_the_same_logits_in_a_stock_model(base: Base, tmp_path: Path, name: str) -> None:
    """(W + sBA)x against Wx + sB(Ax): float32 rounds the sums in another order, by 6e-8 of terms up to some 10; over
    two layers and 32 to 64 terms a sum that is below 1e-5, a thousandth of what the adapters change."""
    model = build_classifier(base, settings_of(name)[0], LABELS, 3).eval()
    stock = build_classifier(base, ModelSection(), LABELS, 3)
    ids = torch.arange(5, 69).reshape(4, 16)
    with torch.inference_mode():
        model.classifier.weight.normal_(0, 1, generator=torch.Generator().manual_seed(0))  # type: ignore[operator,union-attr]
        without = model(input_ids=ids).logits
        for each, parameter in model.named_parameters():
            if "lora_B" in each:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        beside = model(input_ids=ids).logits
        merge_adapters(model)
        merged = model(input_ids=ids).logits
    torch.testing.assert_close(merged, beside, rtol=0, atol=1e-5)
    assert (beside - without).abs().max() > 1e-2
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    again = load_classifier(tmp_path)
    assert [*again.state_dict()] == [*model.state_dict()] == [*stock.state_dict()]
    with torch.inference_mode():  # the last layer in whole; ours computes its first token alone
        torch.testing.assert_close(again(input_ids=ids).logits, merged, rtol=0, atol=1e-5)


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


SHARED = [(name, strategy) for name in ("freeze", "dora", "unfreeze") for strategy in ("ddp", "fsdp")]


def train_shared(base: Base, folder: Path) -> None:
    """On one of two ranks: every shared way to train, each in a folder of its own."""
    for name, strategy in SHARED:
        make_loop(base, folder / f"{name} {strategy}", name, 8, strategy).run()


def test_two_workers_train_the_same_parameters_as_one(base: Base, tmp_path: Path) -> None:
    """Also where the set of them changes under way. Other float32 sums: some 1e-7 a step, magnified by AdamW."""
    run_on_ranks(2, train_shared, base, tmp_path / "two", folder=tmp_path / "ranks")
    for name, strategy in SHARED:
        alone = tmp_path / name
        if not alone.exists():
            make_loop(base, alone, name).run()
        found = losses(tmp_path / "two" / f"{name} {strategy}")
        np.testing.assert_allclose(found, losses(alone), rtol=1e-4, err_msg=f"{name} {strategy}")
        assert len(found) == 18


def test_adapters_begin_as_no_change(base: Base) -> None:
    model, settings = build_classifier(base, ModelSection(), LABELS, 3).eval(), settings_of("dora")[0]
    ids = torch.arange(5, 15)[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        add_adapters(model, settings, seed=3)
        torch.testing.assert_close(model.eval()(input_ids=ids).logits, before, rtol=1e-6, atol=1e-6)


def test_nothing_to_train_is_an_error_before_the_first_step(base: Base, tmp_path: Path) -> None:
    rows = rows_of(base, 20, 0)
    model = build_classifier(base, ModelSection(), LABELS, 3).requires_grad_(False)
    train = TrainSection()
    with pytest.raises(Refused, match="nothing trains"):
        Loop(
            model=model,
            objective=Classification(rows, rows, train, 0, CPU),
            settings=train,
            micro_batch=16,
            train=rows,
            precision=Precision.plain(CPU),
            checkpoints=tmp_path / "checkpoints",
            metrics=tmp_path / "metrics.jsonl",
        )
    assert not (tmp_path / "metrics.jsonl").exists()


def test_from_a_finished_model_the_body_is_kept_and_the_head_drawn_anew(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path / "run", "full")
    loop.run()
    loop.model.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((base.folder / name).read_bytes())
    second = build_classifier(resolve_base(str(tmp_path / "model")), ModelSection(), ("x", "y"), seed=5)
    fresh = build_classifier(base, ModelSection(), ("x", "y"), seed=5)
    learnt, drawn = loop.model.state_dict(), fresh.state_dict()
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, (learnt if name.startswith("bert.") else drawn)[name]), name
    assert second.config.id2label == {0: "x", 1: "y"}  # type: ignore[union-attr]


def require_export_without_flash(base: Base, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train where FlashAttention is said to be there, and export the best checkpoint: built to compute anywhere, it
    gives the logits of what was trained. Products of another order differ by some 1e-7."""
    asked: list[str] = []

    def implementation(attention: str) -> None:
        asked.append(attention)

    monkeypatch.setattr("raysft.model.loading.implementation", implementation)
    monkeypatch.setitem(APPROACHES, name, ({**APPROACHES[name][0], "attention": FLASH}, APPROACHES[name][1]))
    loop = make_loop(base, folder, name)
    progress = loop.run()
    checkpoint.load_best(checkpoint.at_step(folder / "checkpoints", progress.best_step), loop.model)
    ids = torch.arange(5, 69).reshape(4, 16)
    with torch.inference_mode():
        trained = loop.model.eval()(input_ids=ids).logits
    model, train = settings_of(name)
    config = JobConfig.model_validate({"name": "x", "data": {"train": "x.csv"}, "model": model, "train": train})
    data: Any = SimpleNamespace(labels=LABELS)
    task = Task(config, folder, base, data, RunFolder(folder), micro_batch=16, threads=1, gpu=False)
    found = best_model(task, base, loop.model, progress.best_step).eval()
    merge_adapters(found)
    assert asked == [FLASH, "auto"]
    assert found is not loop.model and {type(each) for each in found.modules()} <= {type(m) for m in stock(base)}
    with torch.inference_mode():
        torch.testing.assert_close(found(input_ids=ids).logits, trained, rtol=0, atol=1e-5)


def stock(base: Base) -> list[nn.Module]:
    return list(build_classifier(base, ModelSection(), LABELS, 0).modules())


@pytest.mark.parametrize("name", ["full", "dora"])
def test_what_flash_attention_trained_is_exported_without_it(
    base: Base, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_export_without_flash(base, tmp_path, name, monkeypatch)
