"""What is said to be almost the same is so, row by row, however long the chain of a cluster."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from raysft.audit import pieces, resemblance
from raysft.audit.pieces import overlap
from raysft.audit.repeats import TEST, TRAIN, VALIDATION, text_keys
from raysft.audit.resemblance import Clusters, near_duplicates, near_leaks

LEVEL = 0.8
Found = tuple[Any, Any]


def chain(length: int, step: int = 2, words: int = 40) -> list[str]:
    """Texts of which each is almost the one before it, and the ends have nothing in common."""
    said = [f"{number * 7919 % 100003:05d}" for number in range(length * step + words)]
    return [" ".join(said[start * step : start * step + words]) for start in range(length)]


def similarity(first: str, second: str) -> float:
    return float(overlap([first, second], np.array([[0, 1]]))[0])


def one_cluster(texts: list[str], pairs: list[tuple[int, int]] | None = None) -> Clusters:
    linked = [(at - 1, at) for at in range(1, len(texts))] if pairs is None else pairs
    return Clusters(
        np.zeros(len(texts), np.int64),
        np.array(linked, np.int64).reshape(-1, 2),
        text_keys(texts),
        lambda rows: [texts[row] for row in rows.tolist()],
        LEVEL,
        np.array([len(text) for text in texts], np.int32),
    )


def as_dict(found: Found) -> dict[int, int]:
    return dict(zip(found[0].tolist(), found[1].tolist(), strict=True))


def living(texts: list[str]) -> Any:
    return np.ones(len(texts), bool)


def greedy(texts: list[str]) -> dict[int, int]:
    """What `near_duplicates` means, in a loop over all rows that stay."""
    stays: list[int] = []
    found = {}
    for row, text in enumerate(texts):
        like = [each for each in stays if similarity(texts[each], text) >= LEVEL]
        if like:
            found[row] = like[0]
        else:
            stays.append(row)
    return found


def test_only_rows_that_resemble_a_held_out_row_are_near_leaks() -> None:
    texts = chain(30)
    origin = np.array([TEST, *[TRAIN] * 29], np.int8)
    found = as_dict(near_leaks(one_cluster(texts), origin, living(texts)))
    assert found == {row: 0 for row in range(1, 30) if similarity(texts[0], texts[row]) >= LEVEL}
    assert 1 <= len(found) < 5


def test_the_row_that_is_named_is_the_one_that_it_resembles_and_a_test_row_first() -> None:
    texts = chain(30)
    origin = np.full(30, TRAIN, np.int8)
    origin[[2, 20]] = VALIDATION
    origin[[5, 29]] = TEST
    found = as_dict(near_leaks(one_cluster(texts), origin, living(texts)))
    for row in np.flatnonzero(origin == TRAIN).tolist():
        like = [each for each in (5, 29, 2, 20) if similarity(texts[each], texts[row]) >= LEVEL]
        assert (row in found) == bool(like)
        if like:
            assert found[row] in like and (origin[found[row]] == TEST) == (origin[like] == TEST).any()


def test_rows_that_were_left_out_are_no_partners() -> None:
    texts = [*chain(2), chain(1)[0]]
    origin = np.array([TEST, TRAIN, TRAIN], np.int8)
    assert as_dict(near_leaks(one_cluster(texts), origin, np.array([False, True, True]))) == {}
    assert as_dict(near_duplicates(one_cluster(texts), origin, np.array([True, True, False]))) == {}


@pytest.mark.parametrize("load", [1, 1500, 8_000_000])
def test_near_duplicates_are_like_an_earlier_row_that_stays(load: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LOAD", load)
    monkeypatch.setattr(pieces, "READ", 10 * load)
    texts = chain(40)
    random.Random(3).shuffle(texts)
    found = as_dict(near_duplicates(one_cluster(texts, []), np.zeros(40, np.int8), living(texts)))
    assert found == greedy(texts) and 10 < len(found) < 35


def test_long_texts_are_held_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text * 20 for text in chain(40)]
    asked: list[int] = []
    known = one_cluster(texts, [])

    def at(rows: Any) -> list[str]:
        asked.append(sum(len(texts[row]) for row in rows.tolist()))
        return known.texts_at(rows)

    monkeypatch.setattr(pieces, "READ", 30_000)
    counted = Clusters(known.cluster, known.pairs, known.text, at, LEVEL, known.sizes)
    near_duplicates(counted, np.zeros(40, np.int8), living(texts))
    assert len(asked) > 20 and max(asked) <= 30_000


def test_clusters_are_apart() -> None:
    texts = chain(3) * 2
    known = one_cluster(texts)
    apart = Clusters(np.array([0, 0, 0, 3, 3, 3]), known.pairs, known.text, known.texts_at, LEVEL, known.sizes)
    found = as_dict(near_duplicates(apart, np.zeros(6, np.int8), living(texts)))
    assert {row: other // 3 for row, other in found.items()} == {row: row // 3 for row in found} and 4 in found


def test_beyond_the_bound_known_pairs_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training row whose only partner is the last of many held-out texts; copies of a row among many that stay."""
    monkeypatch.setattr(resemblance, "MOST", 2)
    texts = [f"{'abcdefghijkl'[number] * 3} has nothing in common {number * 7919}" * 3 for number in range(8)]
    texts.append(texts[7] + "s")
    held = np.array([*[TEST] * 8, TRAIN], np.int8)
    assert as_dict(near_leaks(one_cluster(texts, [(8, 7)]), held, living(texts))) == {8: 7}
    own = np.full(9, TRAIN, np.int8)
    assert as_dict(near_duplicates(one_cluster(texts, [(8, 7)]), own, living(texts))) == {8: 7}


def test_a_known_pair_stands_for_all_rows_of_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs name the first row of a text, which may be a row of another part, or gone."""
    monkeypatch.setattr(resemblance, "MOST", 0)
    first, second = chain(2)
    texts = [first, second, first.upper(), second]
    known = one_cluster(texts, [(0, 1)])
    alive = np.array([False, False, True, True])
    assert as_dict(near_leaks(known, np.array([TEST, TRAIN, TRAIN, TEST], np.int8), alive)) == {2: 3}
    assert as_dict(near_duplicates(known, np.zeros(4, np.int8), alive)) == {3: 2}


def test_nothing_to_compare() -> None:
    known = one_cluster([])
    assert as_dict(near_leaks(known, np.zeros(0, np.int8), np.zeros(0, bool))) == {}
    assert as_dict(near_duplicates(known, np.zeros(0, np.int8), np.zeros(0, bool))) == {}
