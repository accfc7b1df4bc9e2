"""Batches made ahead are those that would have been made at once, in any order of asking, and their errors arrive."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from raysft.corpus.sampler import Batching, Micro, Sampler
from raysft.training.objective import Batch
from raysft.training.prefetch import Prefetch

STEPS = Sampler(np.arange(1, 41), Batching(8, 3), 0, 1).steps(0)


class Maker:
    """Batches that name their rows; remembers which thread made which."""

    def __init__(self) -> None:
        self.made: list[tuple[str, list[int]]] = []

    def __call__(self, rows: Micro, epoch: int) -> Batch:
        if 999 in rows:
            raise ValueError("row 999 is bad")
        self.made.append((threading.current_thread().name, rows.tolist()))
        return Batch({}, torch.tensor([epoch, *rows]))


def mine(step: list[Micro]) -> list[Micro]:
    return step


@pytest.mark.parametrize("ahead", [False, True])
def test_each_batch_is_made_once_and_is_the_right_one(ahead: bool) -> None:
    make = Maker()
    prefetch = Prefetch(make, ahead)
    for step in prefetch.ahead(STEPS, 5, mine):
        for rows in step:
            assert prefetch.take(rows, 5).targets.tolist() == [5, *rows]
    prefetch.close()
    asked = [rows.tolist() for step in STEPS for rows in step]
    assert sorted(rows for _, rows in make.made) == sorted(asked)
    threads = {name.partition("_")[0] for name, rows in make.made if rows not in [each.tolist() for each in STEPS[0]]}
    assert threads == ({"prefetch"} if ahead else {"MainThread"})


def test_the_next_step_is_made_while_this_one_is_computed() -> None:
    make = Maker()
    prefetch = Prefetch(make, ahead=True)
    steps = prefetch.ahead(STEPS, 0, mine)
    next(steps)
    for coming in prefetch._coming.values():
        coming.result(timeout=10)
    prefetch.close()
    assert [rows for _, rows in make.made] == [rows.tolist() for rows in STEPS[1]]


def test_rows_that_nobody_ordered_are_made_at_once_and_what_is_not_taken_is_forgotten() -> None:
    """As when memory runs out and micro-batches become smaller within a step."""
    make = Maker()
    prefetch = Prefetch(make, ahead=True)
    for step in prefetch.ahead(STEPS, 0, mine):
        for rows in [half for whole in step for half in np.array_split(whole, 2) if len(half)]:
            assert prefetch.take(rows, 0).targets.tolist() == [0, *rows]
        assert len(prefetch._coming) <= 2 * len(STEPS[0])
    assert not prefetch._coming
    prefetch.close()


def test_an_error_of_the_thread_is_raised_where_the_batch_is_asked_for() -> None:
    prefetch = Prefetch(Maker(), ahead=True)
    steps: list[Any] = [[np.array([1])], [np.array([999])]]
    with pytest.raises(ValueError, match="row 999"):
        for step in prefetch.ahead(steps, 0, mine):
            prefetch.take(step[0], 0)
    prefetch.close()
