"""Every row once an epoch, in batches of the asked size with little padding: a pure function of seed and epoch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.sampler import (
    Batching,
    Micro,
    Sampler,
    Step,
    by_budget,
    by_length,
    split,
    steps_per_epoch,
)

LENGTHS = st.lists(st.integers(1, 128), max_size=200).map(np.array)
SIZES = st.integers(1, 40)


def steps_of(lengths: np.ndarray[Any, Any], batch: int, micro: int, seed: int, epoch: int) -> list[Step]:
    """The steps of one epoch in bucketed batches of `batch` rows."""
    return Sampler(lengths, Batching(batch, micro), seed, epoch + 1).steps(epoch)


def padded_tokens(lengths: np.ndarray[Any, Any], steps: list[Step]) -> int:
    return Sampler(lengths, Batching(1, 1), 0, 1).positions(steps)


def flat(steps: list[list[np.ndarray[Any, Any]]]) -> list[int]:
    return [int(row) for step in steps for micro in step for row in micro]


@given(LENGTHS, SIZES, SIZES, st.integers(0, 2**31), st.integers(0, 1000))
def test_every_row_exactly_once_in_batches_of_the_asked_size(
    lengths: np.ndarray[Any, Any], batch: int, micro: int, seed: int, epoch: int
) -> None:
    steps = steps_of(lengths, batch, micro, seed, epoch)
    assert sorted(flat(steps)) == list(range(len(lengths)))
    assert len(steps) == steps_per_epoch(len(lengths), batch)
    sizes = sorted((sum(map(len, step)) for step in steps), reverse=True)
    assert sizes[:-1] == [batch] * len(sizes[:-1]) and all(0 < size <= batch for size in sizes)
    for step in steps:
        pieces = [len(each) for each in step]
        assert len(pieces) == -(-sum(pieces) // micro) and max(pieces) - min(pieces) <= 1 and max(pieces) <= micro


@given(LENGTHS, SIZES, SIZES, SIZES, st.integers(0, 99), st.integers(0, 9))
def test_the_micro_batch_cuts_a_step_and_changes_nothing_else(
    lengths: np.ndarray[Any, Any], batch: int, micro: int, other: int, seed: int, epoch: int
) -> None:
    first, second = (steps_of(lengths, batch, size, seed, epoch) for size in (micro, other))
    assert [flat([step]) for step in first] == [flat([step]) for step in second]


def test_the_same_seed_and_epoch_give_the_same_steps_and_any_other_give_others() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    plans = {(seed, epoch): flat(steps_of(lengths, 32, 8, seed, epoch)) for seed in range(3) for epoch in range(4)}
    assert plans[1, 2] == flat(steps_of(lengths, 32, 8, 1, 2))
    assert len({tuple(plan) for plan in plans.values()}) == len(plans)


def test_each_epoch_forms_other_batches_not_only_another_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    first, second = ({frozenset(flat([step])) for step in steps_of(lengths, 32, 8, 7, epoch)} for epoch in (0, 1))
    assert not first & second


def test_short_and_long_batches_come_in_no_order() -> None:
    """Training on rising lengths would make the last updates those of the longest texts only."""
    lengths = np.sort(np.random.default_rng(0).integers(1, 500, 640))
    means = [float(lengths[flat([step])].mean()) for step in steps_of(lengths, 16, 16, 0, 0)]
    rises = sum(a < b for a, b in pairwise(means))
    assert 0.3 < rises / len(means) < 0.7


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rows", [40, 700])
def test_padding_is_below_that_of_random_batches_on_skewed_lengths(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(2.5, 0.8, rows), 3, 256).astype(int)
    order = random.permutation(rows)
    shuffled = [split(batch, 16) for batch in split(order, 32)]
    ours = padded_tokens(lengths, steps_of(lengths, 32, 16, seed, 0))
    assert int(lengths.sum()) <= ours < padded_tokens(lengths, shuffled)
    if rows == 700:
        assert ours - lengths.sum() < 0.4 * (padded_tokens(lengths, shuffled) - lengths.sum())


@given(LENGTHS, SIZES, st.integers(1, 500))
def test_evaluation_batches_hold_every_row_once_longest_first(
    lengths: np.ndarray[Any, Any], rows: int, tokens: int
) -> None:
    batches = by_length(lengths, rows, tokens)
    order = [int(row) for each in batches for row in each]
    assert sorted(order) == list(range(len(lengths)))
    assert all(lengths[a] >= lengths[b] for a, b in pairwise(order))
    for batch in batches:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= tokens


def test_evaluation_batches_by_hand() -> None:
    batches = by_length(np.array([2, 9, 3, 3, 1, 1, 1]), 3, 8)
    assert [batch.tolist() for batch in batches] == [[1], [2, 3], [0, 4, 5], [6]]


def test_padded_positions_by_hand() -> None:
    lengths = np.array([3, 5, 2, 2])
    assert padded_tokens(lengths, [[np.array([0, 1]), np.array([2])], [np.array([3])]]) == 2 * 5 + 2 + 2
    assert padded_tokens(lengths, []) == 0


# --- random batches, and batches under a budget of positions

BATCHINGS = st.builds(
    Batching,
    rows=SIZES,
    micro_rows=SIZES,
    tokens=st.none() | st.integers(1, 2000),
    micro_tokens=st.none() | st.integers(1, 1000),
    bucketed=st.booleans(),
)
SAMPLERS = st.builds(Sampler, lengths=LENGTHS, batching=BATCHINGS, seed=st.integers(0, 99), epochs=st.integers(1, 4))


@given(SAMPLERS)
def test_every_row_exactly_once_an_epoch_however_batches_are_formed(sampler: Sampler) -> None:
    for epoch in range(sampler.epochs):
        steps = sampler.steps(epoch)
        assert sorted(flat(steps)) == list(range(len(sampler.lengths)))
        assert all(len(micro) for step in steps for micro in step)


@given(SAMPLERS)
def test_a_budget_is_kept_and_filled_and_one_row_is_always_taken(sampler: Sampler) -> None:
    budget = sampler.batching.tokens
    if budget is None:
        return
    for step in sampler.steps(0):
        rows = np.array(flat([step]))
        assert len(rows) == 1 or len(rows) * sampler.lengths[rows].max() <= budget
        assert padded_tokens(sampler.lengths, [step]) <= max(budget, sampler.lengths[rows].max())


@given(SAMPLERS)
def test_where_epochs_begin_is_known_beforehand(sampler: Sampler) -> None:
    counts = [len(sampler.steps(epoch)) for epoch in range(sampler.epochs)]
    assert sampler.ends == np.cumsum(counts).tolist() and sampler.total == sum(counts)
    places = [(epoch, done) for epoch, count in enumerate(counts) for done in range(count)]
    assert [sampler.place(step) for step in range(sampler.total)] == places
    if len(sampler.lengths):
        assert sampler.place(sampler.total) == (sampler.epochs, 0)
        assert [sampler.epochs_done(end) for end in sampler.ends] == list(range(1, sampler.epochs + 1))
        assert all(sampler.epochs_done(step) == e + d / counts[e] for step, (e, d) in enumerate(places))


@given(SAMPLERS, SIZES, st.none() | st.integers(1, 1000))
def test_how_a_step_is_cut_changes_no_step(sampler: Sampler, rows: int, tokens: int | None) -> None:
    """So neither workers nor memory decide what is learnt together."""
    batching = replace(sampler.batching, micro_rows=rows, micro_tokens=tokens)
    other = replace(sampler, batching=batching)
    assert [flat([step]) for step in other.steps(0)] == [flat([step]) for step in sampler.steps(0)]


@given(SAMPLERS)
def test_steps_are_a_pure_function(sampler: Sampler) -> None:
    again = Sampler(sampler.lengths.copy(), sampler.batching, sampler.seed, sampler.epochs)
    again.steps(sampler.epochs - 1)  # what was asked before does not matter
    for step, same in zip(sampler.steps(0), again.steps(0), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(step, same, strict=True))


@given(SAMPLERS)
def test_no_micro_batch_is_heavier_than_the_heaviest(sampler: Sampler) -> None:
    """What is tried before training, and what memory is planned for."""

    def shape(rows: Micro) -> tuple[int, int]:
        longest = int(sampler.lengths[rows].max())
        return len(rows) * longest, longest

    every = [micro for epoch in range(sampler.epochs) for step in sampler.steps(epoch) for micro in step]
    heaviest, cap = sampler.heaviest(), sampler.batching.micro_tokens
    assert all(len(np.unique(rows)) == len(rows) for rows in heaviest)
    shapes = [shape(rows) for rows in heaviest]
    assert all(more > one and longer > next_ for (one, longer), (more, next_) in pairwise(shapes))
    for positions, longest in map(shape, every):
        assert any(positions <= most and longest <= longer for most, longer in shapes)
    assert all(len(micro) <= (sampler.batching.micro_rows or len(micro)) for micro in every)
    if cap is not None:
        assert all(shape(micro)[0] <= cap or len(micro) == 1 for micro in every)


def test_one_long_row_may_be_heavier_than_many_short_ones() -> None:
    sampler = Sampler(np.array([512] * 500 + [4096] * 20), Batching(16, 16, micro_tokens=4608), 0, 1)
    assert [sampler.lengths[rows].tolist() for rows in sampler.heaviest()] == [[4096], [512] * 9]


def test_pieces_under_a_budget_by_hand() -> None:
    lengths = np.array([3, 3, 5, 9, 20, 1, 1])
    pieces = by_budget(np.arange(7), lengths, 10)  # 2 x 3, then 3 x 5 would be 15; 5 alone, since 2 x 9 is 18
    assert [piece.tolist() for piece in pieces] == [[0, 1], [2], [3], [4], [5, 6]]
    assert by_budget(np.arange(0), lengths, 10) == []


def test_micro_batches_under_a_budget_are_even() -> None:
    sampler = Sampler(np.full(45, 90), Batching(1, None, tokens=4096, micro_tokens=2304), 0, 1)
    (step,) = sampler.steps(0)
    assert [len(micro) for micro in step] == [23, 22]  # not 22, 22 and 1


def test_random_batches_keep_the_order_of_the_shuffle() -> None:
    """Lengths play no part: twice as long, the same rows."""
    lengths = np.random.default_rng(0).integers(1, 500, 640)
    batching = Batching(16, 16, bucketed=False)
    steps = Sampler(lengths, batching, 3, 1).steps(0)
    other = Sampler(lengths[::-1].copy(), batching, 3, 1).steps(0)
    assert flat(steps) == flat(other)
    assert flat(steps_of(lengths, 16, 16, 3, 0)) != flat(steps)


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_is_nearly_filled_and_little_of_it_is_padding(seed: int) -> None:
    lengths = np.clip(np.random.default_rng(seed).lognormal(2.5, 0.8, 5000), 3, 256).astype(int)
    batching = Batching(1, None, tokens=4096, micro_tokens=4096)
    sampler = Sampler(lengths, batching, seed, 1)
    random = Sampler(lengths, replace(batching, bucketed=False), seed, 1)
    ours, theirs = (padded_tokens(lengths, each.steps(0)) for each in (sampler, random))
    assert ours / (4096 * sampler.total) > 0.95
    assert ours - lengths.sum() < 0.1 * (theirs - lengths.sum())
    assert sampler.total < 0.5 * random.total
