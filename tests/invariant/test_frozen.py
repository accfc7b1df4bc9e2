"""What frozen layers give is computed once, and a training that takes it from there is the training without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysft.config.sections import ModelSection, TrainSection
from raysft.corpus.encode import encode_texts
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.classifier import build_classifier
from raysft.model.frozen import Replay
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import checkpoint, ranks
from raysft.training.classification import Classification
from raysft.training.forward import predict_logits
from raysft.training.frozen import Shelf
from raysft.training.loop import Loop
from raysft.training.precision import Precision
from tests.support.jobs import TOPICS, corpus_rows, write_base
from tests.support.loops import assert_near, weights
from tests.support.ranks import run_on_ranks
from tests.support.runs import lines_of, run_until

LABELS = tuple(sorted(TOPICS))
CPU = torch.device("cpu")
PLAIN = Precision.plain(CPU)
TRAIN = {"epochs": 2, "batch_size": 16, "learning_rate": 5e-3, "head_learning_rate": 1e-2, "seed": 3, "save_every": 2}
ROOM = 10**8
TWO = {"embeddings": True, "layers": 2}
BIAS = "relative_attention_bias"  # MPNet's, which stands beside the layers and goes into each
LORA = {"r": 4, "dropout": 0.2, "targets": ["query", "value", "dense"]}
# A name: the base of three layers, `model`, `train`, and how many layers rest.
WAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int | None]] = {
    "bert": ("bert", {"freeze": TWO}, {}, 2),
    "bert, the head alone": ("bert", {"freeze": {**TWO, "layers": 3}}, {}, 3),
    "roberta": ("roberta", {"freeze": TWO}, {}, 2),
    "distilbert": ("distilbert", {"freeze": TWO}, {}, 2),
    "mpnet": ("mpnet", {"freeze": TWO}, {}, None),
    "mpnet, all below": ("mpnet", {"freeze": {**TWO, "pattern": BIAS}}, {}, 2),
    "llama": ("llama", {"freeze": TWO}, {}, 2),
    "adapters above": ("bert", {"freeze": TWO, "lora": LORA}, {}, 2),
    "adapters everywhere": ("bert", {"lora": LORA}, {}, None),
    "thawing": ("bert", {}, {"unfreeze_every": 1}, 2),
    "thawing further": ("bert", {}, {"unfreeze_every": 1, "epochs": 3}, 1),
    "checkpointing": ("bert", {"freeze": TWO}, {"activation_checkpointing": True}, 2),
}
PART = ["bert", "adapters above"]


def write_kind(folder: Path, kind: str) -> Path:
    """A base of three layers of this architecture, beside the tokenizer of all tests."""
    from transformers import AutoConfig, AutoModel

    write_base(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 66,
    }  # fmt: skip
    if kind == "distilbert":
        sizes = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
    more = {"num_key_value_heads": 2} if kind == "llama" else {}
    vocabulary = AutoConfig.from_pretrained(folder).vocab_size
    torch.manual_seed(0)
    marks = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(kind, **sizes, **more, **marks, vocab_size=vocabulary, initializer_range=0.2)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    kinds = {kind for kind, *_ in WAYS.values()}
    return {kind: resolve_base(str(write_kind(tmp_path_factory.mktemp(kind), kind))) for kind in sorted(kinds)}


def rows_of(base: Base) -> TokenizedRows:
    """Of training and validation."""
    rows = corpus_rows(120)
    ids, _ = encode_texts([row["text"] for row in rows], base.folder / "tokenizer.json", 32)
    return from_lists(ids, [LABELS.index(row["label"]) for row in rows])


def make_loop(base: Base, folder: Path, name: str, micro: int = 16, strategy: str = "ddp") -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    _, model, train = WAYS[name][:3]
    settings = TrainSection.model_validate({**TRAIN, **train})
    sections = ModelSection.model_validate(model)
    rows = rows_of(base)
    training, validation = rows.select(np.arange(90)), rows.select(np.arange(90, 120))
    return Loop(
        model=build_classifier(base, sections, LABELS, settings.seed),
        objective=Classification(training, validation, settings, 0, CPU),
        settings=settings,
        micro_batch=micro,
        train=training,
        precision=PLAIN,
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        model_settings=sections,
        strategy=strategy,
    )


def attach(loop: Loop, shelf: Shelf) -> Replay | None:
    return shelf.attach(loop.model, loop.approach.recipe, loop.precision)


def numbers(folder: Path) -> list[float]:
    """Losses of all steps and evaluations."""
    return [line[name] for line in lines_of(folder) for name in ("loss", "validation_loss") if name in line]


def require_same(folder: Path, loop: Loop, other: Path, expected: Loop) -> None:
    """Rows computed in other batches differ by some 1e-7 of float32 sums, which AdamW magnifies; see assert_near."""
    np.testing.assert_allclose(numbers(folder), numbers(other), rtol=1e-4)
    assert_near(weights(loop.model), weights(expected.model))
    assert loop.model.state_dict().keys() == expected.model.state_dict().keys()


@pytest.mark.parametrize("name", WAYS)
def test_training_is_the_same(bases: dict[str, Base], tmp_path: Path, name: str) -> None:
    """With dropout, whose masks the layers above draw as before. Every call is served, of evaluation too."""
    base, depth = bases[WAYS[name][0]], WAYS[name][3]
    usual, mine = (make_loop(base, tmp_path / each, name) for each in ("usual", "mine"))
    usual.run()
    replay = attach(mine, Shelf(rows_of(base), 0, ROOM))
    assert (replay and replay.seam.depth) == depth
    before = mine.model.state_dict()
    names = {key: tensor.data_ptr() for key, tensor in before.items()}
    frozen = {key: tensor.clone() for key, tensor in before.items() if key in mine.approach.recipe.frozen}
    mine.run()
    require_same(tmp_path / "mine", mine, tmp_path / "usual", usual)
    after = mine.model.state_dict()
    assert {key: tensor.data_ptr() for key, tensor in after.items()} == names
    assert all(torch.equal(after[key], tensor) for key, tensor in frozen.items())
    if replay is not None:
        assert replay.computed == 0 and replay.served > 12
        served = predict_logits(mine.model, rows_of(base), 0, PLAIN)
        replay.undo()
        np.testing.assert_allclose(predict_logits(mine.model, rows_of(base), 0, PLAIN), served, atol=1e-5)


@pytest.mark.parametrize("name", PART)
def test_frozen_layers_are_not_computed(bases: dict[str, Base], tmp_path: Path, name: str) -> None:
    """Only when the states are made, once for both runs, and in what each tries beforehand."""
    shelf, tried = Shelf(rows_of(bases["bert"]), 0, ROOM), []
    for run in range(2):
        loop = make_loop(bases["bert"], tmp_path / str(run), name)
        calls: list[int] = []
        layers: Any = loop.model.bert.encoder.layer  # type: ignore[union-attr]
        for number, layer in enumerate(layers):
            part = layer.attention if number < 2 else layer.attention.output  # of the last, what a first token needs
            part.register_forward_hook(lambda *_, number=number, calls=calls: calls.append(number))
        assert attach(loop, shelf)
        tried.append(calls.count(0))
        calls.clear()
        loop.run()
        assert set(calls) == {2}
    assert tried[0] == tried[1] + 2  # 120 rows in batches of 64


@pytest.mark.parametrize("name", PART)
def test_an_interrupted_run_goes_on_with_or_without(bases: dict[str, Base], tmp_path: Path, name: str) -> None:
    """To the bit where it is with, since the states are the same."""
    shelf = Shelf(rows_of(bases["bert"]), 0, ROOM)
    whole, cut, again = (make_loop(bases["bert"], tmp_path / each, name) for each in ("whole", "cut", "cut"))
    for loop in (whole, cut, again):
        assert attach(loop, shelf)
    whole.run()
    run_until(cut, 5)
    again.run()
    assert again.resumed_from == 4
    assert ranks.weights_digest(again.model) == ranks.weights_digest(whole.model)
    without = make_loop(bases["bert"], tmp_path / "cut", name)
    checkpoint.load(checkpoint.at_step(tmp_path / "cut" / "checkpoints", 12), without.model, without.optimizer)
    assert ranks.weights_digest(without.model) == ranks.weights_digest(whole.model)


def train_shared(base: Base, folder: Path) -> list[Any]:
    """On one of two ranks, each a process of its own, with one folder of states."""
    loop = make_loop(base, folder / "run", "bert", 8)
    shelf = Shelf(rows_of(base), 0, ROOM, folder / "states")
    replay = attach(loop, shelf)
    assert replay is not None
    loop.run()
    replay.undo()
    files = sorted((each.name, each.stat().st_ino) for each in (folder / "states").glob("*.npy"))
    sharded = make_loop(base, folder / "sharded", "bert", 8, "fsdp")
    assert attach(sharded, shelf) is None  # each rank holds a part of the weights only
    return [replay.served, replay.computed, files, weights(loop.model)]


def test_processes_share_a_file(bases: dict[str, Base], tmp_path: Path) -> None:
    """Two ranks that map one file train as one does without."""
    found = run_on_ranks(2, train_shared, bases["bert"], tmp_path / "two", folder=tmp_path / "ranks")
    usual = make_loop(bases["bert"], tmp_path / "usual", "bert")
    usual.run()
    (served, computed, files, mine), other = found
    assert computed == other[1] == 0 and served > 12
    assert files == other[2] and len(files) == 1
    assert torch.equal(mine, other[3])
    np.testing.assert_allclose(numbers(tmp_path / "two" / "run"), numbers(tmp_path / "usual"), rtol=1e-4)
    assert_near(mine, weights(usual.model))
    assert not list((tmp_path / "two" / "states").glob("*.tmp-*"))
