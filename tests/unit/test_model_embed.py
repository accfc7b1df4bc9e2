"""Embeddings: what transformers computes row by row, whatever the company and the order of the rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysft.errors import UsageError
from raysft.model.embed import Embedder, batches, embed
from raysft.storage.pretrained import Base, resolve_base

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def base(base_folder: Path) -> Base:
    return resolve_base(str(base_folder))


def some_ids(rows: int, seed: int = 0) -> list[list[int]]:
    """Rows of 1 to 60 token ids of the tiny base."""
    draw = np.random.default_rng(seed)
    return [draw.integers(5, 60, draw.integers(1, 61)).tolist() for _ in range(rows)]


def plain(base: Base, ids: list[list[int]]) -> Array:
    """One row at a time, without padding, as the model card of a sentence encoder says."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(base.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        means = [model(input_ids=torch.tensor([row])).last_hidden_state[0].mean(dim=0) for row in ids]
    points = torch.stack(means)
    return np.asarray(points / points.norm(dim=1, keepdim=True))


def test_points_are_the_mean_of_the_tokens(base: Base) -> None:
    ids = some_ids(150)
    points = embed(ids, base)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, plain(base, ids), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)


def test_the_company_of_a_row_means_nothing(base: Base) -> None:
    ids = some_ids(100)
    embedder = Embedder(base)
    together = embedder(ids)
    apart = np.concatenate([embedder(ids[start : start + 7]) for start in range(0, 100, 7)])
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_the_order_of_the_rows_changes_no_bit(base: Base) -> None:
    ids = some_ids(300)
    order = np.random.default_rng(3).permutation(300)
    embedder = Embedder(base)
    np.testing.assert_array_equal(embedder([ids[row] for row in order]), embedder(ids)[order])


def test_rows_may_be_arrays_and_empty(base: Base) -> None:
    ids = some_ids(5)
    expected = embed(ids, base)
    mixed: list[Any] = [np.array(ids[0], np.int32), [], *ids[1:], np.zeros(0, np.int32)]
    points = embed(mixed, base)
    np.testing.assert_array_equal(points[[1, 6]], 0)
    np.testing.assert_array_equal(points[[0, 2, 3, 4, 5]], expected)
    assert embed([], base).shape == (0, 32)


def test_progress_counts_every_row(base: Base) -> None:
    seen: list[tuple[int, int]] = []
    embed([*some_ids(200), []], base, progress=lambda done, rows: seen.append((done, rows)))
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (201, 201)


def test_threads_change_no_bit_and_are_given_back(base: Base) -> None:
    ids = some_ids(200)
    before = torch.get_num_threads()
    during: set[int] = set()
    points = embed(ids, base, threads=3, progress=lambda *_: during.add(torch.get_num_threads()))
    assert during == {1}
    assert torch.get_num_threads() == before
    np.testing.assert_array_equal(points, embed(ids, base, threads=1))


def test_a_row_that_fails_stops_it_and_gives_the_threads_back(base: Base) -> None:
    before = torch.get_num_threads()
    with pytest.raises(IndexError):
        embed([*some_ids(100), [10**6]], base, threads=2)
    assert torch.get_num_threads() == before


def test_an_embedder_travels_to_another_process(base: Base) -> None:
    ids = some_ids(20)
    embedder = Embedder(base)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder))(ids), embedder(ids))  # noqa: S301


def test_a_base_that_is_no_encoder_is_refused(base: Base, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}', encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be loaded as an encoder"):
        Embedder(Base("mine", tmp_path, "local folder", base.weights_sha256))


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=60), st.integers(1, 40))
def test_batches_hold_every_row_once_and_their_budget(ids: list[list[int]], tokens: int) -> None:
    found = list(batches(ids, tokens))
    assert sorted(row for batch in found for row in batch) == [row for row in range(len(ids)) if ids[row]]
    for batch in found:
        longest = max(len(ids[row]) for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= tokens


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), max_size=30), st.randoms(use_true_random=False))
def test_batches_do_not_depend_on_the_order(ids: list[list[int]], random: Any) -> None:
    shuffled = random.sample(ids, len(ids))
    assert [[ids[row] for row in batch] for batch in batches(ids, 20)] == [
        [shuffled[row] for row in batch] for batch in batches(shuffled, 20)
    ]
