"""Padding is masked, rows come back in their own order, and a row's logits do not depend on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.model.classifier import build_classifier
from raysft.storage.pretrained import resolve_base
from raysft.training import forward
from raysft.training.forward import predict_logits
from raysft.training.objective import padded
from raysft.training.precision import Precision

PLAIN = Precision.plain(torch.device("cpu"))


def rows_of(lists: list[list[int]]) -> TokenizedRows:
    return from_lists(lists, [row % 3 for row in range(len(lists))])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nothing here is large enough to share, and threads that wait for busy cores are slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(base_folder: Path) -> nn.Module:
    return build_classifier(resolve_base(str(base_folder)), ModelSection(), ("a", "b", "c"), seed=0)


@pytest.fixture(scope="module")
def rows() -> TokenizedRows:
    random = np.random.default_rng(0)
    return rows_of([random.integers(5, 60, random.integers(3, 30)).tolist() for _ in range(9)])


def test_rows_are_padded_to_the_longest_and_masked() -> None:
    rows = rows_of([[7], [1, 2, 3], [4, 5]])
    ids, mask = padded(rows, np.array([2, 0]), pad_id=9)
    assert ids.tolist() == [[4, 5], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert ids.dtype == mask.dtype == torch.int64


def test_a_row_has_the_same_logits_alone_and_among_longer_rows(model: nn.Module, rows: TokenizedRows) -> None:
    together = predict_logits(model, rows, 0, PLAIN)
    assert together.shape == (9, 3) and together.dtype == np.float32
    for position in range(len(rows)):
        alone = predict_logits(model, rows.select(np.array([position])), 0, PLAIN)
        assert np.allclose(alone[0], together[position], atol=1e-5)
    assert len(np.unique(together, axis=0)) == 9


def test_the_size_of_batches_does_not_change_the_order(
    model: nn.Module, rows: TokenizedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict_logits(model, rows, 0, PLAIN)
    monkeypatch.setattr(forward, "EVAL_BATCH", 4)
    assert np.allclose(predict_logits(model, rows, 0, PLAIN), whole, atol=1e-5)


@pytest.mark.parametrize("budget", [10, 70, 10_000])
def test_a_batch_has_no_more_positions_than_training_computes_at_once(
    model: nn.Module, rows: TokenizedRows, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    whole = predict_logits(model, rows, 0, PLAIN)
    monkeypatch.setattr(forward, "CPU_MICRO_TOKENS", budget)
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    found = predict_logits(model, rows, 0, PLAIN)
    hook.remove()
    assert all(count == 1 or count * longest <= budget for count, longest in shapes)
    assert len(shapes) == {10: 9, 70: len(shapes), 10_000: 1}[budget] and sum(count for count, _ in shapes) == 9
    assert np.allclose(found, whole, atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(model: nn.Module, rows: TokenizedRows) -> None:
    first, other = (predict_logits(model, rows, pad, PLAIN) for pad in (0, 17))
    assert np.allclose(first, other, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_restored(model: nn.Module, rows: TokenizedRows, training: bool) -> None:
    model.train(training)
    first, again = (predict_logits(model, rows, 0, PLAIN) for _ in range(2))
    assert np.array_equal(first, again)
    assert model.training is training
