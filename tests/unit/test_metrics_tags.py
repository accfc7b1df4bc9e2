"""Scores of entities: those of seqeval, and the best tags by trying all."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.encode import tag_names
from raysft.metrics.tags import (
    NAMES,
    best_tags,
    count,
    entities_of,
    tag_difference,
    tag_estimates,
    tag_metrics,
    type_estimates,
)

TYPES = ["LOC", "ORG", "PER"]
TAGS = tag_names(TYPES)
SEEDS = st.integers(0, 10**6)


def proper(tags: tuple[int, ...]) -> bool:
    return all(tag % 2 or not tag or (at and tags[at - 1] in (tag, tag - 1)) for at, tag in enumerate(tags))


def random_tags(draw: np.random.Generator, units: int) -> np.ndarray[Any, Any]:
    """Tags in which every I follows its like, about half of them outside."""
    found: list[int] = []
    for _ in range(units):
        begin = int(draw.integers(0, len(TYPES))) * 2 + 1
        goes_on = [found[-1] if found[-1] % 2 == 0 else found[-1] + 1] if found and found[-1] else []
        found.append(int(draw.choice([0, begin, *goes_on])))
    return np.array(found, np.int64)


@given(SEEDS, st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_the_best_tags_are_those_found_by_trying_all(seed: int, units: list[int]) -> None:
    draw = np.random.default_rng(seed)
    log_p = [np.log(draw.dirichlet(np.ones(5), size)) for size in units]
    for scores, tags in zip(log_p, best_tags(log_p), strict=True):
        assert len(tags) == len(scores) and proper(tuple(tags))
        every = [each for each in product(range(5), repeat=len(scores)) if proper(each)]
        best = max(sum(scores[at, tag] for at, tag in enumerate(each)) for each in every)
        assert sum(scores[at, tag] for at, tag in enumerate(tags)) == pytest.approx(best)


@given(SEEDS, st.integers(1, 12))
def test_scores_are_those_of_seqeval(seed: int, texts: int) -> None:
    from seqeval.metrics import classification_report

    draw = np.random.default_rng(seed)
    true, given = ([random_tags(draw, 9) for _ in range(texts)] for _ in range(2))
    given = [np.where(draw.random(9) < 0.5, mine, other) for mine, other in zip(true, given, strict=True)]
    given = [one if proper(tuple(one)) else mine for one, mine in zip(given, true, strict=True)]
    named = [[[TAGS[tag] for tag in each] for each in part] for part in (true, given)]
    ours = count([entities_of(each) for each in true], [entities_of(each) for each in given], len(TYPES))
    found = tag_metrics(ours)
    if not ours.true.sum() and not ours.given.sum():
        assert found["f1_micro"] == found["f1_macro"] == 0
        return
    theirs = classification_report(*named, output_dict=True, zero_division=0)
    assert found["f1_micro"] == pytest.approx(theirs["micro avg"]["f1-score"])
    assert found["precision"] == pytest.approx(theirs["micro avg"]["precision"])
    assert found["recall"] == pytest.approx(theirs["micro avg"]["recall"])
    assert found["f1_macro"] == pytest.approx(theirs["macro avg"]["f1-score"])
    by_type = type_estimates(ours, np.arange(texts))
    for name, each in zip(TYPES, by_type, strict=True):
        if name in theirs:
            assert each.value == pytest.approx(theirs[name]["f1-score"]) and each.n == theirs[name]["support"]


def test_entities_by_hand() -> None:
    assert entities_of(np.array([1, 2, 2, 0, 3, 3, 4, 5])) == [(0, 3, 0), (4, 5, 1), (5, 7, 1), (7, 8, 2)]
    assert entities_of(np.zeros(4, int)) == entities_of(np.zeros(0, int)) == []


def test_measures_by_hand() -> None:
    true = [[(0, 1, 0), (3, 5, 1)], [], [(2, 3, 1)]]
    given = [[(0, 1, 0), (3, 4, 1)], [], [(2, 3, 0)]]  # another edge, and another type
    found = count(true, given, 2, np.array([1.0, 2.0, 3.0]), np.array([5, 4, 3]))
    values = tag_metrics(found)
    assert values == {
        "f1_micro": pytest.approx(1 / 3),
        "f1_macro": pytest.approx((2 / 3 + 0) / 2),
        "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 3),
        "accuracy": pytest.approx(1 / 3),
        "loss": pytest.approx(6 / 12),
    }
    assert tuple(values) == NAMES


@given(SEEDS)
def test_intervals_hold_the_value_and_a_model_is_no_better_than_itself(seed: int) -> None:
    draw = np.random.default_rng(seed)
    true, given = ([entities_of(random_tags(draw, 6)) for _ in range(30)] for _ in range(2))
    found = count(true, given, len(TYPES), draw.random(30), np.full(30, 6))
    units = np.arange(30) // 2
    for name, each in tag_estimates(found, units).items():
        assert each.low <= each.value <= each.high and each.n == 30, name
    assert tag_difference(found, found, units).value == 0
