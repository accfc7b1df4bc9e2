"""Near-duplicates: pieces as the definition says, pairs as comparing all with all finds them."""

from __future__ import annotations

import random
import unicodedata
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysft.audit import minhash, near, pieces

WORDS = ["card", "arrive", "money", "transfer", "café", "naïve", "Straße", "42", "please", "привет", "注文"]
texts = st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=30), max_size=8)


def in_words(letter: str) -> bool:
    """Vowel signs belong to the word; what test_audit_pieces.py calls optional does not."""
    optional = any(ord(letter) in marks for marks in pieces.OPTIONAL_MARKS)
    return letter.isalnum() or (unicodedata.category(letter)[0] == "M" and not optional)


def plain_pieces(text: str) -> set[str]:
    """The definition, letter by letter; what lies beyond the basic plane (emoji, rare scripts) counts as a letter."""
    letters = "".join(c if in_words(c) or ord(c) > 0xFFFF else " " if c.isspace() else "" for c in text.casefold())
    letters = " ".join(letters.split()) or text.casefold()
    return {letters[i : i + pieces.PIECE] for i in range(max(1, len(letters) - pieces.PIECE + 1))}


def clusters(cluster: Any) -> set[tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for row, number in enumerate(cluster.tolist()):
        found.setdefault(number, []).append(row)
    return {tuple(rows) for rows in found.values() if len(rows) > 1}


def sizes_of(rows: list[str]) -> Any:
    return np.array([len(text) for text in rows], np.int32)


class Held(list[str]):
    """Texts that were asked for; unlike a plain list, they can say when they are gone."""


class Counting:
    """A source of texts that knows the characters of all that it gave and that are still held."""

    def __init__(self, rows: list[str]) -> None:
        self.rows, self.held, self.peak = rows, 0, 0

    def __call__(self, at: Any) -> list[str]:
        given = Held(self.rows[row] for row in at.tolist())
        size = sum(map(len, given))
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(given, self._back, size)
        return given

    def _back(self, size: int) -> None:
        self.held -= size


def find(rows: list[str], similarity: float) -> tuple[Any, Any]:
    keys, sketches = minhash.fingerprints(rows, similarity)
    found = near.near_pairs(iter(keys.T), sketches, lambda at: [rows[i] for i in at], similarity, sizes_of(rows))
    assert found.skipped == 0
    return found.pairs, found.cluster


def boilerplate(twins: int) -> list[str]:
    """Texts that share most of their words, so that hundreds have a band key in common; each with one real twin."""
    draw = random.Random(5)
    common = [f"word{number}" for number in range(60)]
    rows = []
    for number in range(twins):
        words = draw.choices(common, k=22)
        rows.append(" ".join([*words, f"case {number}"]))
        words[draw.randrange(22)] = draw.choice(common)
        rows.append(" ".join([*words, f"case {number}"]))
    return rows


@settings(max_examples=200, deadline=None)
@given(texts)
@example(["!!!", "a", "👍", "  x  ", "it's", "its", "A B", "a  b!"])
def test_pieces_are_those_of_the_definition(rows: list[str]) -> None:
    keys, offsets = pieces.piece_hashes(rows) if rows else (np.zeros(0), np.zeros(1, int))
    for row, text in enumerate(rows):
        assert len(set(keys[offsets[row] : offsets[row + 1]].tolist())) == len(plain_pieces(text)), text


@settings(max_examples=100, deadline=None)
@given(texts, texts)
def test_overlap_is_the_jaccard_similarity_of_the_pieces(first: list[str], second: list[str]) -> None:
    pairs = list(zip(first, second, strict=False))
    if not pairs:
        return
    found = pieces.overlap([text for pair in pairs for text in pair], np.arange(2 * len(pairs)).reshape(-1, 2))
    for value, (a, b) in zip(found, pairs, strict=True):
        mine, theirs = plain_pieces(a), plain_pieces(b)
        assert value == pytest.approx(len(mine & theirs) / len(mine | theirs))


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95])
def test_clusters_are_those_of_comparing_all_with_all(similarity: float) -> None:
    draw = random.Random(3)
    rows = []
    for number in range(150):
        words = draw.choices(WORDS, k=draw.randint(6, 14))
        rows.append(f"{' '.join(words)} {number}")
        if number % 3 == 0:
            words[draw.randrange(len(words))] = draw.choice(WORDS)
            rows.append(f"{' '.join(words)} {number}!")
            rows.append(f"{rows[-1]}s")
    known = [plain_pieces(text) for text in rows]
    alike = [
        (a, b)
        for b in range(len(rows))
        for a in range(b)
        if len(known[a] & known[b]) / len(known[a] | known[b]) >= similarity
    ]
    pairs, cluster = find(rows, similarity)
    assert len(alike) > 20
    together = sum(cluster[a] == cluster[b] for a, b in alike)
    assert together >= 0.99 * len(alike), "RECALL is for pairs just at the threshold; most are above it"
    for a, b in pairs.tolist():
        assert len(known[a] & known[b]) / len(known[a] | known[b]) >= similarity


def test_thousands_of_copies_cost_one_pair_each() -> None:
    rows = [f"where is my parcel, it should have come by now, order {number}" for number in range(3000)]
    pairs, cluster = find(rows, 0.8)
    assert len(clusters(cluster)) == 1
    assert len(pairs) < 3 * len(rows)


def test_twins_are_found_among_many_texts_of_one_form() -> None:
    rows = boilerplate(600)
    known = [plain_pieces(text) for text in rows]
    twins = [i for i in range(0, len(rows), 2) if len(known[i] & known[i + 1]) / len(known[i] | known[i + 1]) >= 0.8]
    assert len(twins) > 400
    _, cluster = find(rows, 0.8)
    assert np.mean([cluster[i] == cluster[i + 1] for i in twins]) >= 0.99


def test_a_window_that_is_too_small_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "WINDOWS", (4, 4))
    rows = boilerplate(300)
    keys, sketches = minhash.fingerprints(rows, 0.3)
    found = near.near_pairs(iter(keys.T), sketches, lambda at: [rows[i] for i in at], 0.98, sizes_of(rows))
    assert found.skipped > 0


def test_long_texts_are_held_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is found is the same as when all are compared at once."""
    monkeypatch.setattr(near, "THREADS", 1)
    rows = [text * 40 for text in boilerplate(60)]
    keys, sketches = minhash.fingerprints(rows, 0.8)
    source = Counting(rows)

    def compare() -> near.Likeness:
        source.peak = 0
        return near.near_pairs(iter(keys.T), sketches, source, 0.8, sizes_of(rows))

    whole = compare()
    assert len(whole.pairs) > 30 and source.peak > 300_000
    monkeypatch.setattr(pieces, "READ", 50_000)
    monkeypatch.setattr(pieces, "LOAD", 20_000)
    few = compare()
    assert 10_000 < source.peak <= 50_000 and source.held == 0
    assert (few.pairs == whole.pairs).all() and (few.cluster == whole.cluster).all()


def test_the_threads_do_not_grow_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            started.append(workers)
            super().__init__(workers)

    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(200)))
    monkeypatch.setattr("raysft.audit.near.ThreadPoolExecutor", Pool)
    find(["one text", "one text!"], 0.8)
    assert started == [near.THREADS]


def test_sketches_differ_by_half_of_what_the_similarity_lacks() -> None:
    rows = boilerplate(300)
    _, sketches = minhash.fingerprints(rows, 0.8)
    pairs = np.arange(len(rows)).reshape(-1, 2)
    bits = np.prod(minhash.band_shape(0.8))
    differ = np.bitwise_count(sketches[pairs[:, 0]] ^ sketches[pairs[:, 1]]).sum(axis=1) / bits
    assert differ.mean() == pytest.approx((1 - pieces.overlap(rows, pairs).mean()) / 2, abs=0.01)


def test_the_keys_of_a_text_do_not_depend_on_its_neighbours() -> None:
    rows = ["Where is my card?", "!!!", "where is MY card", "x", "注文はどこですか", "Where is my card?"]
    together = minhash.fingerprints(rows, 0.8)[0]
    alone = np.concatenate([minhash.fingerprints([text], 0.8)[0] for text in rows])
    assert (together == alone).all()
    assert (together[0] == together[2]).all(), "case and punctuation do not count"


@pytest.mark.parametrize("similarity", [0.2, 0.3, 0.5, 0.8, 0.9, 0.99])
def test_bands_find_what_they_should(similarity: float) -> None:
    bands, rows = minhash.band_shape(similarity)
    assert bands * rows <= minhash.PERMUTATIONS
    assert 1 - (1 - similarity**rows) ** bands >= minhash.RECALL or rows == 1


def test_no_rows_at_all() -> None:
    pairs, cluster = find([], 0.8)
    assert pairs.shape == (0, 2)
    assert len(cluster) == 0
