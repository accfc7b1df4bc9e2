"""The learning rate over a run, as a factor of each group's peak."""

from __future__ import annotations

import math


def rate_factor(step: int, total: int, warmup: float, schedule: str, decay: float = 0.2) -> float:
    """Factor in (0, 1] for the update number `step` (from 0) of `total`.

    Rises linearly over the first `warmup` share. Then it falls linearly (linear) or along a half cosine (cosine)
    towards zero, stays (constant), or stays and falls linearly over the last `decay` share (wsd: warm-up, stable,
    decay; Hu et al. 2024, MiniCPM, arXiv 2404.06395, section 4).
    """
    rising = int(total * warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    if schedule == "wsd":
        return min(1.0, (total - step) / max(1, int(total * decay)))
    left = (total - step) / max(1, total - rising)
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))
