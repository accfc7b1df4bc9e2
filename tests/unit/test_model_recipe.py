"""One planner: what it makes of settings, what it refuses, and that names and shapes alone give it the built model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from raysft.config import load_job
from raysft.config.sections import ModelSection, TrainSection
from raysft.errors import JobFileError
from raysft.model.architectures import ARCHITECTURES, classifier_tensors
from raysft.model.classifier import build_classifier, open_pooler
from raysft.model.groups import prefix_of, recipe_of, tensors_of
from raysft.model.recipe import Recipe, Refused, Tensor, make_recipe
from raysft.plan.approach import planned_groups
from raysft.plan.size import tensor_shapes
from raysft.storage.pretrained import Base
from tests.support.jobs import write_job

# Three layers, the lowest first: matrix and bias each, between embeddings, a pooler and a head.
NAMES = [
    "b.embeddings.word.weight", "b.embeddings.norm.weight", "b.layer.0.dense.weight", "b.layer.0.dense.bias",
    "b.layer.1.dense.weight", "b.layer.1.norm.weight", "b.layer.2.dense.weight", "b.pooler.weight", "head.weight",
]  # fmt: skip
TENSORS = [Tensor(name, (4, 4) if name.endswith(("d.weight", "e.weight", "r.weight")) else (4,)) for name in NAMES]
TENSORS[-1] = Tensor("head.weight", (2, 4))


def recipe(model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    settings = {"learning_rate": 0.1, "head_learning_rate": 0.5, "weight_decay": 0.01, "epochs": 10, **train}
    return make_recipe(TENSORS, "b", ModelSection.model_validate(model or {}), TrainSection.model_validate(settings))


def values(found: Recipe, what: str) -> dict[str, Any]:
    return {name: getattr(part, what) for part in found.groups for name in part.tensors}


# --- rates and decay


def test_rates_follow_the_formula() -> None:
    """lr * decay ** (n - 1 - i) for layer i of n = 3, the embeddings one step further down; exact powers of two."""
    rates = values(recipe(learning_rate=1.0, layer_decay=0.5), "learning_rate")
    assert rates == {
        "b.embeddings.word.weight": 0.125, "b.embeddings.norm.weight": 0.125,
        "b.layer.0.dense.weight": 0.25, "b.layer.0.dense.bias": 0.25,
        "b.layer.1.dense.weight": 0.5, "b.layer.1.norm.weight": 0.5,
        "b.layer.2.dense.weight": 1.0, "b.pooler.weight": 1.0, "head.weight": 0.5,
    }  # fmt: skip


def test_of_own_rates_the_first_match_counts_and_vectors_never_decay() -> None:
    rates = [
        {"pattern": r"layer\.0", "learning_rate": 0.7, "weight_decay": 0.3},
        {"pattern": r"dense", "learning_rate": 0.9},
        {"pattern": r"embed", "weight_decay": 0.2},
    ]
    found = recipe(rates=rates)
    rate, decay = values(found, "learning_rate"), values(found, "weight_decay")
    assert (rate["b.layer.0.dense.weight"], decay["b.layer.0.dense.weight"]) == (0.7, 0.3)
    assert (rate["b.layer.0.dense.bias"], decay["b.layer.0.dense.bias"]) == (0.7, 0.0)
    assert (rate["b.layer.1.dense.weight"], decay["b.layer.1.dense.weight"]) == (0.9, 0.01)
    assert (rate["b.embeddings.word.weight"], decay["b.embeddings.word.weight"]) == (0.1, 0.2)
    assert (rate["b.layer.1.norm.weight"], decay["b.embeddings.norm.weight"]) == (0.1, 0.0)


def test_a_norm_does_not_decay_whatever_its_shape() -> None:
    tensors = [Tensor("b.layer.0.norm.weight", (4, 1), norm=True), Tensor("head.weight", (2, 4))]
    found = make_recipe(tensors, "b", ModelSection(), TrainSection(weight_decay=0.1))
    assert values(found, "weight_decay") == {"b.layer.0.norm.weight": 0.0, "head.weight": 0.1}


# --- freezing


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ({}, []),
        ({"embeddings": True}, NAMES[:2]),
        ({"layers": 1}, NAMES[:4]),
        ({"layers": 3}, NAMES[:7]),
        ({"pattern": "pooler|norm"}, [NAMES[1], NAMES[5], NAMES[7]]),
        ({"layers": 1, "pattern": r"2\.dense"}, [*NAMES[:4], NAMES[6]]),
    ],
)
def test_what_is_frozen(freeze: dict[str, Any], frozen: list[str]) -> None:
    found = recipe({"freeze": freeze})
    assert list(found.frozen) == frozen
    assert sorted([*values(found, "name"), *frozen]) == sorted(NAMES)
    assert found.kept == sum(tensor.size for tensor in TENSORS if tensor.name in frozen)
    assert sum(row["parameters"] for row in found.rows()) == sum(tensor.size for tensor in TENSORS)


def test_freezing_shifts_no_rate() -> None:
    whole, part = (values(recipe(m, layer_decay=0.5), "learning_rate") for m in ({}, {"freeze": {"layers": 2}}))
    assert part and part == {name: whole[name] for name in part}


# --- gradual unfreezing


def test_the_head_comes_first_and_the_embeddings_last() -> None:
    turns = values(recipe(unfreeze_every=2), "from_epoch")
    assert [turns[name] for name in NAMES] == [8, 8, 6, 6, 4, 4, 2, 2, 0]


def test_what_is_frozen_has_no_turn_and_what_comes_too_late_is_frozen() -> None:
    turns = values(recipe({"freeze": {"layers": 1, "pattern": r"layer\.2"}}, unfreeze_every=3), "from_epoch")
    # The pooler takes the turn of the uppermost layer, which is frozen.
    assert turns == {"head.weight": 0, "b.pooler.weight": 3, NAMES[4]: 6, NAMES[5]: 6}
    late = recipe(unfreeze_every=2, epochs=5)
    assert set(late.frozen) == set(NAMES[:4])
    assert max(values(late, "from_epoch").values()) == 4


# --- refusals


@pytest.mark.parametrize(
    ("model", "train", "key", "text"),
    [
        ({"freeze": {"layers": 4}}, {}, "model.freeze.layers", "the base has 3 layers, found 4"),
        ({"freeze": {"pattern": "x.y"}}, {}, "model.freeze.pattern", "'x.y' matches none of 9 parameters"),
        ({"freeze": {"pattern": "."}}, {}, "model.freeze", "nothing trains"),
        ({}, {"rates": [{"pattern": "zz", "learning_rate": 0.1}]}, "train.rates.0.pattern", "matches none of 9"),
        ({}, {"rates": [{"pattern": "."}, {"pattern": "head"}]}, "train.rates.1.pattern", "matched by an entry above"),
        ({"freeze": {"layers": 1}}, {"rates": [{"pattern": "embed"}]}, "train.rates.0.pattern", "is frozen"),
        ({}, {"rates": [{"pattern": "bias", "weight_decay": 0.1}]}, "train.rates.0.weight_decay", "never decay"),
        ({}, {"unfreeze_every": 10}, "train.unfreeze_every", r"less than train.epochs \(10\)"),
        ({"lora": {}}, {"unfreeze_every": 1}, "train.unfreeze_every", "under model.lora never trains"),
    ],
)
def test_what_cannot_take_effect_is_refused_with_its_key(
    model: dict[str, Any], train: dict[str, Any], key: str, text: str
) -> None:
    with pytest.raises(Refused, match=text) as caught:
        recipe(model, **train)
    assert caught.value.key == key
    assert caught.value.exit_code == 2


# --- the same from a header as from the model


def tiny(kind: str, folder: Path) -> Base:
    """A base of two layers with random weights, as transformers writes it."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    if kind == "distilbert":
        sizes = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12}
    config = AutoConfig.for_model(kind, vocab_size=11, max_position_embeddings=16, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return Base(kind, folder, "local folder", "0")


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
@pytest.mark.parametrize("variant", [None, "dora"])
def test_check_plans_with_what_the_run_will_build(tmp_path: Path, kind: str, variant: str | None) -> None:
    base = tiny(kind, tmp_path)
    lora = variant and {"r": 2, "variant": variant}
    settings = ModelSection.model_validate({"freeze": {"layers": 1}, "lora": lora})
    train = TrainSection(layer_decay=0.5)
    built = build_classifier(base, settings, ("a", "b", "c"), seed=1)
    job = load_job(write_job(tmp_path / "job", tmp_path, train={"layer_decay": 0.5, "learning_rate": 2e-4}))
    changed = job.config.model_copy(update={"model": settings, "train": train})
    rows = planned_groups(type(job)(changed, job.path), base, 3)
    assert rows == recipe_of(built, train, settings).rows()
    assert len(rows) > 3


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_a_header_gives_the_same_parameters_as_the_model(tmp_path: Path, kind: str) -> None:
    base = tiny(kind, tmp_path)
    model = build_classifier(base, ModelSection(), ("a", "b", "c"), seed=1)
    found = classifier_tensors(base.config, tensor_shapes(base), 3)
    assert found is not None
    assert sorted(found[0], key=lambda t: t.name) == sorted(tensors_of(model), key=lambda t: t.name)
    assert found[1] == prefix_of(model)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_a_pass_through_pooler_is_refused_exactly_where_there_is_none(tmp_path: Path, kind: str) -> None:
    base = tiny(kind, tmp_path)
    has = open_pooler(build_classifier(base, ModelSection(pooler="keep"), ("a", "b"), seed=1))
    job = load_job(write_job(tmp_path / "job", tmp_path, model={"pooler": "identity"}))
    if has:
        assert planned_groups(job, base, 2)
        return
    with pytest.raises(JobFileError, match=rf"model\.pooler: .*\({kind}\) has no pooler; use auto or keep"):
        planned_groups(job, base, 2)


def test_of_a_classifier_s_checkpoint_the_old_head_is_left_out(tmp_path: Path) -> None:
    base = tiny("bert", tmp_path / "base")
    build_classifier(base, ModelSection(), ("a", "b"), 1).save_pretrained(tmp_path / "old")  # type: ignore[operator]
    old = Base("old", tmp_path / "old", "local folder", "0")
    shapes = {**tensor_shapes(old), "bert.embeddings.position_ids": (1, 16), "cls.bias": (11,)}
    assert classifier_tensors(old.config, shapes, 5) == classifier_tensors(base.config, tensor_shapes(base), 5)


def test_an_unknown_architecture_is_planned_later_but_its_layers_are_counted(tmp_path: Path) -> None:
    base = tiny("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "unheard"}))
    job = load_job(write_job(tmp_path / "job", tmp_path))
    assert planned_groups(job, base, 3) == []
    job = load_job(write_job(tmp_path / "job", tmp_path, model={"freeze": {"layers": 3}}))
    with pytest.raises(JobFileError, match=r"model\.freeze\.layers: .* has 2 layers, found 3"):
        planned_groups(job, base, 3)
