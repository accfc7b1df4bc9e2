"""Without the tokens that no row has a model gives the same logits, and a matrix of less than half the vocabulary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.objective import padded
from raysft.training.vocabulary import leave_out_unused, tokens_of
from tests.support.jobs import write_base
from tests.support.loops import LABELS, rows_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def logits_of(model: nn.Module, rows: TokenizedRows) -> torch.Tensor:
    ids, mask = padded(rows, np.arange(len(rows)), 0)
    with torch.inference_mode():
        return model.eval()(input_ids=ids, attention_mask=mask).logits  # type: ignore[no-any-return]


def test_logits_are_the_same(base: Base) -> None:
    rows = rows_of(base, 12, 0)
    rows = rows.select(np.arange(3))  # whose words are few
    model = build_classifier(base, ModelSection(dropout=0.0), LABELS, 1)
    before, size = logits_of(model, rows), model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    numbers = leave_out_unused(model, rows, 0)
    assert numbers is not None
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    assert embedding.weight.shape[0] == embedding.num_embeddings == len(np.union1d([0], tokens_of(rows))) < size / 2
    renamed = replace(rows, numbers=numbers)
    assert torch.equal(logits_of(model, renamed), before)
    assert renamed.tokens(0).max() < embedding.num_embeddings and numbers[0] == 0


def test_a_matrix_that_is_the_heads_too_stays_whole(base: Base) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(500, 4)
            self.head = nn.Linear(4, 500, bias=False)
            self.head.weight = self.words.weight

        def get_input_embeddings(self) -> nn.Module:
            return self.words

    assert leave_out_unused(Tied(), rows_of(base, 3, 0), 0) is None


def test_where_most_tokens_occur_nothing_is_left_out(base: Base) -> None:
    model = build_classifier(base, ModelSection(), LABELS, 1)
    size = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    most = from_lists([list(range(1, size // 2 + 2))], [0])
    assert leave_out_unused(model, most, 0) is None
    assert model.get_input_embeddings().num_embeddings == size  # type: ignore[operator]
