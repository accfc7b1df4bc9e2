"""Every row once an epoch, in batches of the asked size with little padding: a pure function of seed and epoch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.sampler import by_length, epoch_steps, padded_tokens, split, steps_per_epoch

LENGTHS = st.lists(st.integers(1, 128), max_size=200).map(np.array)
SIZES = st.integers(1, 40)


def flat(steps: list[list[np.ndarray[Any, Any]]]) -> list[int]:
    return [int(row) for step in steps for micro in step for row in micro]


@given(LENGTHS, SIZES, SIZES, st.integers(0, 2**31), st.integers(0, 1000))
def test_every_row_exactly_once_in_batches_of_the_asked_size(
    lengths: np.ndarray[Any, Any], batch: int, micro: int, seed: int, epoch: int
) -> None:
    steps = epoch_steps(lengths, batch, micro, seed, epoch)
    assert sorted(flat(steps)) == list(range(len(lengths)))
    assert len(steps) == steps_per_epoch(len(lengths), batch)
    sizes = sorted((sum(map(len, step)) for step in steps), reverse=True)
    assert sizes[:-1] == [batch] * len(sizes[:-1]) and all(0 < size <= batch for size in sizes)
    for step in steps:
        pieces = [len(each) for each in step]
        assert pieces[:-1] == [micro] * (len(pieces) - 1) and 0 < pieces[-1] <= micro


@given(LENGTHS, SIZES, SIZES, SIZES, st.integers(0, 99), st.integers(0, 9))
def test_the_micro_batch_cuts_a_step_and_changes_nothing_else(
    lengths: np.ndarray[Any, Any], batch: int, micro: int, other: int, seed: int, epoch: int
) -> None:
    first, second = (epoch_steps(lengths, batch, size, seed, epoch) for size in (micro, other))
    assert [flat([step]) for step in first] == [flat([step]) for step in second]


def test_the_same_seed_and_epoch_give_the_same_steps_and_any_other_give_others() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    plans = {(seed, epoch): flat(epoch_steps(lengths, 32, 8, seed, epoch)) for seed in range(3) for epoch in range(4)}
    assert plans[1, 2] == flat(epoch_steps(lengths, 32, 8, 1, 2))
    assert len({tuple(plan) for plan in plans.values()}) == len(plans)


def test_each_epoch_forms_other_batches_not_only_another_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    first, second = ({frozenset(flat([step])) for step in epoch_steps(lengths, 32, 8, 7, epoch)} for epoch in (0, 1))
    assert not first & second


def test_short_and_long_batches_come_in_no_order() -> None:
    """Training on rising lengths would make the last updates those of the longest texts only."""
    lengths = np.sort(np.random.default_rng(0).integers(1, 500, 640))
    means = [float(lengths[flat([step])].mean()) for step in epoch_steps(lengths, 16, 16, 0, 0)]
    rises = sum(a < b for a, b in pairwise(means))
    assert 0.3 < rises / len(means) < 0.7


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rows", [40, 700])
def test_padding_is_below_that_of_random_batches_on_skewed_lengths(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(2.5, 0.8, rows), 3, 256).astype(int)
    order = random.permutation(rows)
    shuffled = [split(batch, 16) for batch in split(order, 32)]
    ours = padded_tokens(lengths, epoch_steps(lengths, 32, 16, seed, 0))
    assert int(lengths.sum()) <= ours < padded_tokens(lengths, shuffled)
    if rows == 700:
        assert ours - lengths.sum() < 0.4 * (padded_tokens(lengths, shuffled) - lengths.sum())


@given(LENGTHS, SIZES)
def test_evaluation_batches_hold_every_row_once_longest_first(lengths: np.ndarray[Any, Any], batch: int) -> None:
    batches = by_length(lengths, batch)
    order = [int(row) for each in batches for row in each]
    assert sorted(order) == list(range(len(lengths)))
    assert all(len(each) <= batch for each in batches)
    assert all(lengths[a] >= lengths[b] for a, b in pairwise(order))


def test_padded_positions_by_hand() -> None:
    lengths = np.array([3, 5, 2, 2])
    assert padded_tokens(lengths, [[np.array([0, 1]), np.array([2])], [np.array([3])]]) == 2 * 5 + 2 + 2
    assert padded_tokens(lengths, []) == 0
