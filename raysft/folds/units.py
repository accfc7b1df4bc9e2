"""Which rows must stay together, and the stable random numbers by which they are placed.

A unit is the set of rows that must never stand on two sides of a boundary: the rows of one group (customer), of one
near-duplicate cluster, of one text, and whatever these chain together.

Shapes: n rows, p pairs, u units, b bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
NO_GROUP = -1


def units_of(groups: Array, pairs: Array, texts: Array | None = None) -> Array:
    """A unit number per row: int64 (n,), from 0, in the order of the units' first rows.

    groups: int (n,), NO_GROUP for a row without one. pairs: int (p, 2), rows that belong together (a near-duplicate and
    its like). texts: any integer type (n,), equal for equal texts; None where texts need not stay together. All three
    chain: a row that is like two others joins them, and their groups. Memory: some 60 bytes per row and pair.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(groups)
    if rows == 0:
        return np.zeros(0, dtype=np.int64)
    grouped = np.flatnonzero(groups != NO_GROUP)
    edges = [np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T, _to_first(groups[grouped], grouped)]
    if texts is not None:
        edges.append(_to_first(texts, np.arange(rows)))
    ends = np.concatenate(edges, axis=1)
    ends = ends[:, ends[0] != ends[1]]
    graph = coo_array((np.ones(ends.shape[1], dtype=np.int8), (ends[0], ends[1])), shape=(rows, rows))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _to_first(codes: Array, rows: Array) -> Array:
    """Edges (2, n) from each row to the first row with its code."""
    _, first, code = np.unique(codes, return_index=True, return_inverse=True)
    return np.stack([rows, rows[first[code]]])


def smallest(values: Array, units: Array, count: int) -> Array:
    """The smallest value of each unit: (u,). units: int (n,), 0 to count - 1, each at least once."""
    least = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, units, values)
    return least


def distance(keys: Array, fold: int, share: float) -> Array:
    """How far each key is from a bin: float64, shape of `keys`; every key prefers the nearest bin.

    Weighted rendezvous hashing: -log(random number of key and bin) / share of the bin. A bin is the nearest of as many
    keys as its share asks, and no other key or bin changes the distance.
    """
    mixed = keys.astype(np.uint64) + np.uint64((fold + 3) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # SplitMix64, Steele et al. 2014
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray(-np.log(((mixed >> np.uint64(11)) + 0.5) / 2.0**53) / share)
