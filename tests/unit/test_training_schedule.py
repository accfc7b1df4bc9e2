"""The rate rises, falls as asked, and is never zero while there is something to learn."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.training.schedule import rate_factor

TEN = {
    "linear": [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
    "constant": [1 / 3, 2 / 3, *[1.0] * 8],
    "wsd": [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 2 / 2, 1 / 2],
    "cosine": [1 / 3, 2 / 3, *[0.5 * (1 - math.cos(math.pi * left / 8)) for left in range(8, 0, -1)]],
}


@pytest.mark.parametrize("schedule", TEN)
def test_ten_steps_by_hand(schedule: str) -> None:
    found = [rate_factor(step, 10, 0.2, schedule) for step in range(10)]
    assert found == pytest.approx(TEN[schedule])


@given(st.integers(1, 500), st.floats(0, 0.99), st.sampled_from(sorted(TEN)))
def test_factors_are_above_zero_rise_once_and_never_again(total: int, warmup: float, schedule: str) -> None:
    found = [rate_factor(step, total, warmup, schedule) for step in range(total)]
    assert all(0 < factor <= 1 for factor in found)
    if schedule == "wsd" and warmup > 0.8:
        return  # refused before training: warm-up and decay overlap
    top = found.index(max(found))
    assert all(a <= b for a, b in pairwise(found[: top + 1]))
    assert all(a >= b for a, b in pairwise(found[top:]))
    assert abs(top - total * warmup) <= 1


def test_without_warmup_the_first_step_is_the_fastest() -> None:
    assert rate_factor(0, 10, 0.0, "linear") == rate_factor(0, 10, 0.0, "cosine") == 1


@given(st.integers(10, 500), st.floats(0, 0.5), st.floats(0.01, 0.5))
def test_wsd_rises_stays_and_falls_in_a_line(total: int, warmup: float, decay: float) -> None:
    """Hu et al. 2024 (arXiv 2404.06395), equation 1, with a linear f: 1 until the decay begins, then straight down."""
    found = [rate_factor(step, total, warmup, "wsd", decay) for step in range(total)]
    rising, falling = int(total * warmup), int(total * decay)
    assert found[rising : total - falling] == [1.0] * (total - falling - rising)
    assert found[total - falling :] == pytest.approx([left / falling for left in range(falling, 0, -1)])
