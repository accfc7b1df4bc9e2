"""The learning rate over a run, as a factor of each group's peak."""

from __future__ import annotations

import math


def rate_factor(step: int, total: int, warmup: float, schedule: str) -> float:
    """Factor in (0, 1] for the update number `step` (from 0) of `total`.

    Rises linearly over the first `warmup` share, then falls linearly or along a half cosine towards zero, or stays.
    """
    rising = int(total * warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    left = (total - step) / max(1, total - rising)
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))
