"""What this machine offers, found without importing torch or Ray."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np

from raysft.plan.precision import cpu_has_bf16


@dataclass(frozen=True)
class Machine:
    """The processor of the machine where the plan is made."""

    cpus: int
    memory_bytes: int
    gflops: float  # measured float32 matrix product, all cores
    bf16: bool


def this_machine() -> Machine:
    """Look at this machine; costs about 0.2 s, nearly all of it the matrix product."""
    import psutil

    return Machine(len(os.sched_getaffinity(0)), int(psutil.virtual_memory().total), _measure_gflops(), cpu_has_bf16())


def _measure_gflops(seconds: float = 0.15) -> float:
    a = np.random.default_rng(0).random((512, 384), dtype=np.float32)
    b = np.random.default_rng(1).random((384, 1536), dtype=np.float32)
    best, deadline = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return float(2 * a.shape[0] * a.shape[1] * b.shape[1] / best / 1e9)
