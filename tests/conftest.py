"""Tests never reach the network, and find the same examples each time."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tiny models: threads would only wait for each other, and one thread makes sums repeatable. Torch reads it once.
os.environ["OMP_NUM_THREADS"] = "1"
# Hundreds of processes are started: where Python was told to keep no bytecode, each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from hypothesis import HealthCheck, settings

settings.register_profile("quick", derandomize=True, deadline=None, max_examples=40, database=None)
# For a longer search by hand: pytest tests/unit --hypothesis-profile=deep
settings.register_profile("deep", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")
