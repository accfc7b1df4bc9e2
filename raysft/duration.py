"""Lengths of time for people, said in one way everywhere."""

from __future__ import annotations

from itertools import pairwise

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
MANY = 10  # of a unit, from which on the next smaller one tells nothing


def span(seconds: float) -> str:
    """40 s, 2 min 20 s, 12 min, 1 h 30 min, 2 d 7 h; "0 s" of what is over."""
    whole = max(0, round(seconds))
    for (unit, size), (smaller, part) in pairwise(UNITS):
        if whole >= size:
            count, rest = divmod(whole, size)
            finer = rest // part if count < MANY else 0
            return f"{count} {unit}" + (f" {finer} {smaller}" if finer else "")
    return f"{whole} s"
