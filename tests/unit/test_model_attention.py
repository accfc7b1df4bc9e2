"""Attention is computed as asked, or the person is told why it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.config.sections import ModelSection
from raysft.errors import UsageError
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import resolve_base


@pytest.mark.parametrize(("asked", "found"), [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
def test_the_model_computes_attention_as_asked(base_folder: Path, asked: str, found: str) -> None:
    settings = ModelSection.model_validate({"attention": asked})
    model = build_classifier(resolve_base(str(base_folder)), settings, ("a", "b"), seed=0)
    assert model.config._attn_implementation == found  # type: ignore[union-attr]


def test_flash_attention_is_refused_where_it_is_not_installed(base_folder: Path) -> None:
    settings = ModelSection(attention="flash_attention_2")
    with pytest.raises(UsageError, match=r"model\.attention: flash_attention_2 needs an NVIDIA GPU and the package"):
        build_classifier(resolve_base(str(base_folder)), settings, ("a", "b"), seed=0)
