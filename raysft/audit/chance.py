"""What two sides show by chance alone, where rows come in units: the units are divided anew, again and again.

Rows of one customer resemble each other. Two parts of twenty customers each differ more than two parts of as many
single rows, so a test that takes rows for independent finds drift where there is none. A division of whole units is as
likely as the one that is there if both sides come from one population, however alike the rows of a unit are, and
however unequal the units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Statistic = Callable[[Array, Array], Array]  # counts of either side, both (draws, values) -> (draws,)

DRAWS = 1999  # so that one in two thousand can be told from one in a thousand
BUNDLES = 200  # of the smaller side, at most: more units are bundled at random, which bounds the cost
CELLS = 2_000_000  # numbers that are held at once


def by_chance(values: Array, side: Array, units: Array, size: int, statistic: Statistic, seed: int) -> Array:
    """`statistic` of DRAWS random divisions of the units into two sides, as many on each as there are; (DRAWS,).

    values: int, shape (rows,), below size; side: 0 or 1 for each row, both occur; units: a number for each row.
    statistic: the same when the sides are swapped. Where a unit has rows on both sides, each half counts as one.
    """
    from scipy.sparse import csr_array

    random = np.random.default_rng(seed)
    bundle, (small, large) = _bundles(side, units, random)
    number = small + large
    table = csr_array((np.ones(len(values)), (bundle, values)), shape=(number, size))
    total = table.sum(axis=0)
    found = []
    step = max(1, CELLS // size)
    for start in range(0, DRAWS, step):
        draws = min(step, DRAWS - start)
        drawn = [random.choice(number, small, replace=False, shuffle=False) for _ in range(draws)]
        ends = np.arange(draws + 1) * small
        picks = csr_array((np.ones(draws * small), np.concatenate(drawn), ends), shape=(draws, number))
        counts = (picks @ table).toarray()
        found.append(statistic(counts, total - counts))
    return np.concatenate(found)


def p_value(seen: float, chance: Array) -> float:
    """How rarely chance shows as much as was seen; never below 1 / (DRAWS + 1)."""
    return float((1 + (chance >= seen - 1e-9).sum()) / (1 + len(chance)))


def pieces(side: Array, units: Array) -> tuple[Array, Array]:
    """(number of its piece for each row, side of each piece): the rows of one unit on one side are a piece."""
    named = np.unique(units, return_inverse=True)[1] * 2 + side
    found, piece = np.unique(named, return_inverse=True)
    return np.asarray(piece), np.asarray(found % 2)


def _bundles(side: Array, units: Array, random: np.random.Generator) -> tuple[Array, tuple[int, int]]:
    """(bundle of each row, (bundles of the side with fewer, of the other)); all of about as many units."""
    piece, of = pieces(side, units)
    sizes = np.bincount(of, minlength=2)
    each = -(-int(sizes.min()) // BUNDLES)
    counts = sizes // each
    bundle = np.zeros(len(of), np.int64)
    for which in (0, 1):
        mine = random.permutation(np.flatnonzero(of == which))
        bundle[mine] = np.arange(len(mine)) % counts[which] + which * counts[0]
    return bundle[piece], (int(counts.min()), int(counts.max()))
