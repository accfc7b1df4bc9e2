"""Every tensor trains once, at the rate of its place, and only matrices decay."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from raysft.config.sections import ModelSection, TrainSection
from raysft.model.groups import Group, groups_of, recipe_of

SETTINGS = TrainSection(learning_rate=0.1, head_learning_rate=0.5, layer_decay=0.5, weight_decay=0.01)


def bert() -> nn.Module:
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
        num_labels=4,
    )
    return BertForSequenceClassification(config)  # type: ignore[no-any-return]


def distilbert() -> nn.Module:
    config = DistilBertConfig(
        vocab_size=11, dim=8, n_layers=3, n_heads=2, hidden_dim=12, max_position_embeddings=16, num_labels=4
    )
    return DistilBertForSequenceClassification(config)  # type: ignore[no-any-return]


def groups_in(model: nn.Module, settings: TrainSection = SETTINGS) -> list[Group]:
    return groups_of(model, recipe_of(model, settings, ModelSection()))


def rate_of(groups: list[Group], parameter: nn.Parameter) -> float:
    (rate,) = [group.learning_rate for group in groups if any(parameter is each for each in group.parameters)]
    return rate


@pytest.mark.parametrize("build", [bert, distilbert])
def test_every_trainable_tensor_is_in_exactly_one_group(build: type[nn.Module]) -> None:
    model = build()
    groups = groups_in(model)
    found = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())


def test_rates_fall_from_the_head_down_to_the_embeddings() -> None:
    model = bert()
    groups = groups_in(model)
    rates = {name: rate_of(groups, parameter) for name, parameter in model.named_parameters()}
    expected = {
        "classifier.weight": 0.5,
        "bert.pooler.dense.weight": 0.1,
        "bert.encoder.layer.2.output.dense.weight": 0.1,
        "bert.encoder.layer.1.attention.self.query.bias": 0.05,
        "bert.encoder.layer.0.intermediate.dense.weight": 0.025,
        "bert.embeddings.word_embeddings.weight": 0.0125,
        "bert.embeddings.LayerNorm.bias": 0.0125,
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected)
    assert sorted(set(rates.values())) == pytest.approx([0.0125, 0.025, 0.05, 0.1, 0.5])


def test_a_head_of_several_layers_trains_at_the_rate_of_the_head() -> None:
    model = distilbert()
    groups = groups_in(model)
    heads = {name for name, parameter in model.named_parameters() if rate_of(groups, parameter) == 0.5}
    assert heads == {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("build", [bert, distilbert])
def test_matrices_decay_and_vectors_do_not(build: type[nn.Module]) -> None:
    model = build()
    recipe = recipe_of(model, SETTINGS, ModelSection())
    for part, group in zip(recipe.groups, groups_of(model, recipe), strict=True):
        vectors = {parameter.ndim == 1 for parameter in group.parameters}
        assert len(vectors) == 1
        assert group.weight_decay == (0.0 if vectors == {True} else 0.01)
        assert part.name.endswith("(vectors)") == (vectors == {True})
        assert part.parameters == sum(parameter.numel() for parameter in group.parameters)
    assert len({part.name for part in recipe.groups}) == len(recipe.groups)


def test_without_decay_the_whole_body_trains_at_one_rate() -> None:
    groups = groups_in(bert(), TrainSection(learning_rate=0.1, head_learning_rate=0.5, layer_decay=1.0))
    assert {group.learning_rate for group in groups} == {0.1, 0.5}


def test_frozen_tensors_are_in_no_group_and_shift_no_rate() -> None:
    model = bert()
    frozen = [parameter for name, parameter in model.named_parameters() if ".layer.2." in name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    groups = groups_in(model)
    found = {id(parameter) for group in groups for parameter in group.parameters}
    assert not found & {id(parameter) for parameter in frozen}
    below = dict(model.named_parameters())["bert.encoder.layer.1.attention.self.query.bias"]
    assert rate_of(groups, below) == 0.05
