"""Several rows in one sequence: none is lost, none overlaps, and pieces of a packing are packings themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.packing import one_a_sequence, packed
from raysft.corpus.sampler import Batching, Sampler

SIZE = 64
LENGTHS = st.lists(st.integers(1, SIZE), min_size=1, max_size=120).map(np.array)


@given(LENGTHS)
def test_every_token_has_a_place_of_its_own(lengths: np.ndarray[Any, Any]) -> None:
    layout = packed(lengths, SIZE)
    sequences, longest = layout.shape
    taken = np.zeros((sequences, longest), int)
    for sequence, start, length in zip(layout.sequence, layout.start, lengths, strict=True):
        taken[sequence, start : start + length] += 1
    assert longest <= SIZE and taken.max() == 1 and taken.sum() == lengths.sum()
    assert (taken.sum(axis=1) > 0).all()
    # No two sequences would fit into one.
    filled = np.sort(taken.sum(axis=1))
    assert sequences < 2 or filled[0] + filled[1] > SIZE


@given(LENGTHS, st.data())
def test_some_sequences_packed_anew_are_the_same(lengths: np.ndarray[Any, Any], data: st.DataObject) -> None:
    layout = packed(lengths, SIZE)
    chosen = data.draw(st.sets(st.integers(0, layout.shape[0] - 1), min_size=1))
    rows = np.flatnonzero(np.isin(layout.sequence, list(chosen)))
    again = packed(lengths[rows], SIZE)
    numbers = np.unique(layout.sequence[rows], return_inverse=True)[1]
    assert np.array_equal(again.sequence, numbers) and np.array_equal(again.start, layout.start[rows])


@given(LENGTHS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.integers(0, 99))
def test_steps_hold_every_row_once_and_micro_batches_whole_sequences(
    lengths: np.ndarray[Any, Any], rows: int, micro: int, positions: int, seed: int
) -> None:
    sampler = Sampler(lengths, Batching(rows, micro, micro_tokens=positions, packed=SIZE), seed, 1)
    steps = sampler.steps(0)
    assert sorted(int(row) for step in steps for piece in step for row in piece) == list(range(len(lengths)))
    for step in steps:
        for piece in step:
            sequences, longest = sampler.layout(piece).shape
            assert sequences == 1 or sequences * SIZE <= positions
            assert longest <= SIZE
    padded = Sampler(lengths, Batching(rows, micro, bucketed=False), seed, 1)
    assert [sorted(np.concatenate(step)) for step in steps] == [
        sorted(np.concatenate(each)) for each in padded.steps(0)
    ]
    (heaviest,) = sampler.heaviest()
    assert 1 <= len(heaviest) <= len(lengths)


def test_tokens_of_a_step_under_a_budget() -> None:
    sampler = Sampler(np.array([30, 30, 30, 10]), Batching(1, None, tokens=60, packed=64), 3, 1)
    sums = [sum(sampler.lengths[piece].sum() for piece in step) for step in sampler.steps(0)]
    assert max(sums) <= 60 and sum(sums) == 100


def test_one_row_a_sequence_is_padded_to_the_longest() -> None:
    layout = one_a_sequence(np.array([3, 5, 2]))
    assert layout.shape == (3, 5) and layout.positions == 15
