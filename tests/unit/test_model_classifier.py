"""A classifier says what its base cannot give it, and takes from the tokenizer what the config leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from raysft.config.sections import ModelSection
from raysft.errors import UsageError
from raysft.model.classifier import POOLER_GAIN, build_classifier
from raysft.model.padding import pad_id, share_padding
from raysft.storage.pretrained import Base, resolve_base
from tests.support.language import write_causal_base

LABELS = ("a", "b")


def rewrite(folder: Path, **settings: int | None) -> Base:
    """The base with another config.json."""
    AutoConfig.from_pretrained(folder, **settings).save_pretrained(folder)
    return resolve_base(str(folder))


def test_a_pooler_is_opened_where_there_is_one(base_folder: Path) -> None:
    model = build_classifier(resolve_base(str(base_folder)), ModelSection(pooler="identity"), LABELS, 0)
    weight = model.get_parameter("bert.pooler.dense.weight")
    assert torch.equal(weight, POOLER_GAIN * torch.eye(len(weight)))


@pytest.mark.parametrize(("kind", "name"), [("distilbert", "DistilBert"), ("roberta", "Roberta")])
def test_a_base_without_a_pooler_cannot_have_it_opened(tmp_path: Path, kind: str, name: str) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    if kind == "distilbert":
        sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12}
    config = AutoConfig.for_model(kind, vocab_size=11, max_position_embeddings=16, pad_token_id=0, **sizes)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    base = Base("mine", tmp_path, "local folder", "0")
    with pytest.raises(
        UsageError, match=rf"^model\.pooler: identity needs .*{name}.* \(mine\) has none; use auto or keep"
    ):
        build_classifier(base, ModelSection(pooler="identity"), LABELS, 0)
    build_classifier(base, ModelSection(pooler="auto"), LABELS, 0)
    build_classifier(base, ModelSection(pooler="keep"), LABELS, 0)


@pytest.mark.parametrize(
    ("pad", "eos", "expected"), [("doorstep", "van", "doorstep"), (None, "van", "van"), (None, None, "it")]
)
def test_padding_is_the_tokenizer_s_else_the_end_of_a_text(
    tmp_path: Path, pad: str | None, eos: str | None, expected: str
) -> None:
    write_causal_base(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, pad_token=pad, eos_token=eos)
    tokenizer.save_pretrained(tmp_path)
    base = rewrite(tmp_path, eos_token_id=tokenizer.convert_tokens_to_ids("it"))
    model = build_classifier(base, ModelSection(), LABELS, 0)
    assert pad_id(model) == model.config.pad_token_id == tokenizer.convert_tokens_to_ids(expected)  # type: ignore[union-attr]
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    share_padding(loaded, model.config)
    assert loaded.pad_token == expected
    assert len(loaded) == len(tokenizer)


def test_a_padding_token_that_the_base_does_not_embed_is_not_taken(tmp_path: Path) -> None:
    write_causal_base(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, pad_token="<new>")
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer.pad_token_id == AutoConfig.from_pretrained(tmp_path).vocab_size
    assert pad_id(build_classifier(rewrite(tmp_path, eos_token_id=3), ModelSection(), LABELS, 0)) == 3


def test_a_base_without_any_token_to_pad_with_is_refused(tmp_path: Path) -> None:
    write_causal_base(tmp_path)
    with pytest.raises(UsageError, match=r"names no token to fill up rows with") as caught:
        build_classifier(rewrite(tmp_path, eos_token_id=None), ModelSection(), LABELS, 0)
    assert "tokenizer_config.json" in str(caught.value.next_step)


def test_a_config_s_own_padding_token_stays(base_folder: Path) -> None:
    assert pad_id(build_classifier(resolve_base(str(base_folder)), ModelSection(), LABELS, 0)) == 0
