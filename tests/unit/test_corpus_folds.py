"""Units never cross, every row is placed, shares and labels come out as asked, and the seed decides the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from raysft.corpus.folds import GIVEN, SEALED, assign, crossings, fold_per_row, part_of, units_of

Array = np.ndarray[Any, Any]
TESTS = st.sampled_from([0.0, 0.1, 0.15, 0.3])


@st.composite
def corpora(draw: st.DrawFn, singles: bool = False) -> tuple[Array, Array]:
    """Labels, skewed as labels are, and units of one to some eight rows."""
    rows, classes = draw(st.integers(1, 200)), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = random.choice(classes, size=rows, p=random.dirichlet(np.full(classes, 0.7)))
    if singles:
        return labels, np.arange(rows)
    kinds = random.integers(0, max(1, rows // draw(st.integers(1, 8))), rows)
    return labels, np.unique(kinds, return_inverse=True)[1]


def deviations(labels: Array, fold: Array, k: int, test: float) -> tuple[float, float]:
    """Largest distance, in rows, of a bin's size and of a label's count in a bin from what was asked."""
    bins = ([SEALED] if test else []) + list(range(max(k, 1)))
    shares = ([test] if test else []) + [(1 - test) / max(k, 1)] * max(k, 1)
    sizes = [abs((fold == b).sum() - share * len(fold)) for b, share in zip(bins, shares, strict=True)]
    counts = [
        abs(((fold == b) & (labels == label)).sum() - share * (labels == label).sum())
        for b, share in zip(bins, shares, strict=True)
        for label in np.unique(labels)
    ]
    return max(sizes), max(counts)


@given(corpora(), st.integers(0, 7), TESTS, st.integers(0, 99))
def test_every_row_has_a_fold_and_no_unit_crosses(corpus: tuple[Array, Array], k: int, test: float, seed: int) -> None:
    labels, units = corpus
    fold = fold_per_row(labels, units, k, test, seed)
    assert fold.shape == labels.shape
    assert set(fold.tolist()) <= {*range(max(k, 1)), *([SEALED] if test else [])}
    assert crossings(units.tolist(), fold.astype(str).tolist()) == 0
    assert np.array_equal(fold, fold_per_row(labels, units, k, test, seed))


@given(corpora(), st.integers(0, 7), TESTS)
@example((np.zeros(60, int), np.repeat(np.arange(6), 10)), 3, 0.0)
def test_shares_are_met_within_one_largest_unit(corpus: tuple[Array, Array], k: int, test: float) -> None:
    """A bin is off by no more than the largest unit and a few rows. Bins that could not hold a unit are left out."""
    labels, units = corpus
    largest = np.bincount(units).max()
    assume(largest <= min(test or 1, (1 - test) / max(k, 1)) * len(labels))
    size, label = deviations(labels, fold_per_row(labels, units, k, test, 0), k, test)
    assert size <= max(largest, 2)
    assert label <= max(largest, 2)


@given(corpora(singles=True), st.integers(0, 7), TESTS)
def test_single_rows_meet_shares_and_labels_within_a_few_rows(corpus: tuple[Array, Array], k: int, test: float) -> None:
    """Measured over 1000 corpora: sizes off by 1.4 rows at most, a label by 1.5."""
    labels, units = corpus
    size, label = deviations(labels, fold_per_row(labels, units, k, test, 0), k, test)
    assert size <= 2
    assert label <= 2


def test_a_sealed_share_beside_one_large_part_is_as_large_as_asked() -> None:
    """Without folds the training part is far larger than the test part; that must not starve the test part."""
    random = np.random.default_rng(292)
    labels = random.choice(9, size=298, p=random.dirichlet(np.ones(9)))
    fold = fold_per_row(labels, np.arange(298), 0, 0.15, 0)
    assert abs((fold == SEALED).sum() - 0.15 * 298) <= 1


def test_a_large_unit_is_balanced_by_the_small_ones() -> None:
    """Placed last, it would overfill its bin."""
    units = np.concatenate([np.zeros(20, int), np.arange(1, 81)])
    for seed in range(5):
        fold = fold_per_row(np.zeros(100, int), units, 4, 0.0, seed)
        assert np.bincount(fold).tolist() == [25] * 4


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 10), TESTS)
def test_labels_with_fewer_rows_than_folds_are_placed_too(counts: list[int], k: int, test: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    fold = fold_per_row(labels, np.arange(len(labels)), k, test, 0)
    assert len(fold) == len(labels)


def test_a_label_with_one_row_trains() -> None:
    """Nothing can be learnt or measured of it, but a test row without training rows could only be wrong."""
    labels = np.array([0] * 40 + [1])
    fold = fold_per_row(labels, np.arange(41), 0, 0.3, 0)
    assert fold[-1] == 0


def test_another_seed_is_another_split_of_the_same_shape() -> None:
    labels = np.arange(200) % 4
    first, second = (fold_per_row(labels, np.arange(200), 5, 0.2, seed) for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.unique(first, return_counts=True), np.unique(second, return_counts=True))


def test_no_rows_are_no_trouble() -> None:
    nothing = np.zeros(0, int)
    assert len(fold_per_row(nothing, nothing, 5, 0.15, 0)) == 0
    assert len(assign(nothing, nothing, [0.5, 0.5], 0)) == 0
    assert len(units_of([], [])) == 0


# --- units


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=12), st.data())
def test_rows_share_a_unit_exactly_when_a_chain_joins_them(groups: list[str], data: st.DataObject) -> None:
    rows = st.integers(0, len(groups) - 1)
    pairs = data.draw(st.lists(st.tuples(rows, rows), max_size=6))
    units = units_of(groups, pairs)
    joined = np.eye(len(groups), dtype=bool)
    for a, b in pairs:
        joined[a, b] = joined[b, a] = True
    for a, group in enumerate(groups):
        for b, other in enumerate(groups):
            joined[a, b] |= group == other != ""
    for _ in groups:  # paths of any length
        joined = joined @ joined
    assert np.array_equal(units[:, None] == units[None, :], joined)
    assert set(units.tolist()) == set(range(units.max() + 1))


def test_rows_without_a_group_stay_alone() -> None:
    assert len(set(units_of(["", "", ""], []).tolist())) == 3


# --- what is proven and what a part is


def test_crossings_count_the_keys_that_stand_in_two_parts() -> None:
    keys = ["a", "a", "b", "b", "c", "", "", None, None, "a"]
    parts = ["train", "test", "test", "test", "train", "train", "test", "train", "test", "validation"]
    assert crossings(keys, parts) == 1
    assert crossings(keys, ["train"] * 10) == 0
    assert crossings([1, 1, 2, 2], ["x", "y", "x", "y"]) == 2


@pytest.mark.parametrize(
    ("fold", "validation", "k", "part"),
    [
        (SEALED, 0, 5, "test"),
        (SEALED, 0, 0, "test"),
        (GIVEN, 0, 5, "validation"),
        (GIVEN, 0, 0, "validation"),
        (0, 0, 5, "validation"),
        (3, 3, 5, "validation"),
        (0, 3, 5, "train"),
        (4, 3, 5, "train"),
        (0, 0, 0, "train"),
    ],
)
def test_the_part_of_a_fold(fold: int, validation: int, k: int, part: str) -> None:
    assert part_of(fold, validation, k) == part
