"""Texts that are almost the same: pairs that share a band key and whose sketches are alike, each checked exactly.

Two texts are near-duplicates when their sets of pieces overlap by at least `similarity` (Jaccard). Pairs are found on
the driver, one band at a time, so that memory stays at a few bytes a row.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from raysft.audit.minhash import band_shape
from raysft.audit.pieces import Texts, changes, resembling

SIGMAS = 3.0  # by which a sketch may differ more than expected at `similarity`; one pair in 700 does
BUDGET = 5 * 10**8  # sketches compared at the most, some seconds; see `window`
WINDOWS = (16, 2048)
CHUNK = 20_000  # pairs that a thread checks at once, fewer of long texts
THREADS = 8  # at the most, each with the pieces of one portion of pairs in memory
BATCH = 10 * CHUNK  # pairs gathered before the most promising of them are checked
TRIES = 4  # pairs checked of two clusters, of all that are gathered

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Likeness:
    """What is almost the same among some rows."""

    pairs: Array  # (pairs, 2) int64, enough to chain every cluster, and fewer than the rows
    cluster: Array  # (rows,) int64
    skipped: int  # pairs of rows with a common band key that were not compared: the bucket was too large


def near_pairs(bands: Iterable[Array], sketches: Array, texts_at: Texts, similarity: float, sizes: Array) -> Likeness:
    """Find near-duplicates. Pairs that others already chain are left out.

    bands: one array of uint32 keys a band, each of shape (rows,). sketches: uint64, (rows, SKETCH_WORDS). texts_at: the
    texts at some rows. sizes: the characters of each text, int, shape (rows,), by which it is known how many may be
    asked for at once. Rows in another order give other pairs: sort them by content.
    """
    rows = len(sketches)
    shape = band_shape(similarity)
    limit, reach = _limit(similarity, shape[0] * shape[1]), window(rows, shape[0])
    workers = min(THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as threads:  # numpy works outside of the interpreter's lock
        known = _Known(rows, partial(_alike, sizes, texts_at, similarity, threads))
        skipped, before = 0, np.zeros(rows, np.uint32)
        for keys in bands:
            skipped += _one_band(keys, before, sketches, limit, reach, known)
            before = keys
    return Likeness(np.concatenate(known.found), known.cluster, skipped)


def _alike(sizes: Array, texts_at: Texts, similarity: float, threads: ThreadPoolExecutor, pairs: Array) -> Array:
    return resembling(pairs, sizes, texts_at, similarity, CHUNK, threads.map)


def window(rows: int, bands: int) -> int:
    """With how many rows before it, in one bucket, a row is compared: all in small corpora, 23 in one of a million."""
    return int(np.clip(BUDGET // max(1, rows * bands), *WINDOWS))


def _limit(similarity: float, bits: int) -> int:
    """Bits in which the sketches of two texts of this similarity differ, SIGMAS above what is expected."""
    share = (1 - similarity) / 2
    return math.ceil(bits * share + SIGMAS * math.sqrt(bits * share * (1 - share)))


def _one_band(keys: Array, before: Array, sketches: Array, limit: int, reach: int, known: _Known) -> int:
    """Compare the rows of each bucket, a bucket being the rows with one key; returns how many pairs were skipped.

    Each row with the first of its bucket, then with those before it, the nearest first; by their sketches, and exactly
    where these are alike. before: the keys of another band; rows that share these too stand together, so that in a
    bucket that is larger than `reach` the likeliest pairs are within it.
    """
    order = np.argsort((keys.astype(np.uint64) << np.uint64(32)) | before, kind="stable")
    begins = changes(keys[order])
    rows = np.arange(len(keys))
    place = rows - np.maximum.accumulate(np.where(begins, rows, 0)) if len(keys) else rows  # in its bucket
    sketch, cluster = sketches[order], known.cluster[order]
    waiting: list[Array] = []
    later = np.flatnonzero(place > 0)
    for back in range(min(reach, int(place.max(initial=0))) + 1):
        later = later[place[later] > back] if back else later
        other = later - (back or place[later])
        apart = cluster[other] != cluster[later]  # what is chained already needs no comparison
        a, b = other[apart], later[apart]
        differ = np.bitwise_count(sketch[a] ^ sketch[b]).sum(axis=1, dtype=np.int64)
        alike = differ <= limit
        waiting.append(np.stack([order[a[alike]], order[b[alike]], differ[alike]], axis=1))
        if back == 0 or sum(map(len, waiting)) >= BATCH:
            known.compare(np.concatenate(waiting))
            waiting, cluster = [], known.cluster[order]
    known.compare(np.concatenate([np.zeros((0, 3), np.int64), *waiting]))
    return _skipped(place, begins, known.cluster[order], reach)


def _skipped(place: Array, begins: Array, cluster: Array, reach: int) -> int:
    """Pairs beyond reach, in buckets whose rows are not all chained."""
    starts = np.flatnonzero(begins)
    if not len(starts):
        return 0
    chained = np.minimum.reduceat(cluster, starts) == np.maximum.reduceat(cluster, starts)
    far = np.maximum(place - reach - 1, 0)  # the first of the bucket was compared
    return int(far[~chained[np.cumsum(begins) - 1]].sum())


class _Known:
    """What comparisons have shown so far."""

    def __init__(self, rows: int, alike: Callable[[Array], Array]) -> None:
        """alike: pairs of rows -> whether their texts are near-duplicates, bool, shape (pairs,)."""
        self.cluster = np.arange(rows)
        self.found = [np.zeros((0, 2), np.int64)]
        self._rows, self._alike = rows, alike
        self._unlike = np.zeros(0, np.int64)  # pairs that were compared in vain, as one number each, sorted

    def compare(self, candidates: Array) -> None:
        """Compare rows that are neither chained nor were compared, and join what is alike.

        candidates: int64 (p, 3), two rows and the bits in which their sketches differ. Of each two clusters only the
        TRIES pairs that differ least are compared: hundreds of copies of two texts would else be compared crosswise.
        """
        codes, differ = _first_of_each(self._code(candidates[:, :2]), candidates[:, 2])
        fresh = ~_in_sorted(codes, self._unlike)
        codes, differ = codes[fresh], differ[fresh]
        clusters = self._code(self.cluster[self._pairs(codes)])
        order = np.lexsort((codes, differ, clusters))
        place = (
            np.arange(len(order)) - np.flatnonzero(changes(clusters[order]))[np.cumsum(changes(clusters[order])) - 1]
        )
        apart = np.diff(self.cluster[self._pairs(codes[order])], axis=1)[:, 0] != 0
        codes = np.sort(codes[order][apart & (place < TRIES)])
        if not len(codes):
            return
        near = self._alike(self._pairs(codes))
        self._unlike = np.sort(np.concatenate([self._unlike, codes[~near]]), kind="stable")  # merges two sorted runs
        self.found.append(self._pairs(codes[near]))
        self.cluster = _merge(self.cluster, self.found[-1])

    def _code(self, pairs: Array) -> Array:
        """Each pair as one number, whichever comes first."""
        return np.asarray(pairs.min(axis=1) * self._rows + pairs.max(axis=1))

    def _pairs(self, codes: Array) -> Array:
        return np.stack(np.divmod(codes, self._rows), axis=1)


def _merge(cluster: Array, pairs: Array) -> Array:
    """Cluster numbers after joining `pairs`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return cluster
    a, b = cluster[pairs[:, 0]], cluster[pairs[:, 1]]
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(cluster), len(cluster)))
    _, joined = connected_components(graph, directed=False)
    return np.asarray(joined)[cluster]


def _first_of_each(values: Array, beside: Array) -> tuple[Array, Array]:
    """Distinct values, sorted, and what stands beside the first of each."""
    order = np.argsort(values, kind="stable")
    first = order[changes(values[order])]
    return values[first], beside[first]


def _in_sorted(values: Array, ordered: Array) -> Array:
    if not len(ordered):
        return np.zeros(len(values), bool)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values)
