"""Answers in a trie: each beginning stands once, and every answer's tokens are scored behind their own beginning."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.tries import Trie, tries_of

ANSWERS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=12, unique=True)


def read(trie: Trie, answers: list[tuple[int, ...]]) -> list[list[tuple[list[int], int]]]:
    """(what stands before it, token) of each token of each answer, as the trie has them."""
    nodes = [trie.tokens[sees][trie.depth[sees].argsort()].tolist() for sees in trie.sees]
    before: list[Any] = [[], *nodes]
    edges = [(before[place], int(token)) for place, token in zip(trie.after, trie.scored, strict=True)]
    return [sorted((edges[edge] for edge in held.nonzero()[0]), key=lambda each: len(each[0])) for held in trie.holds]


def by_hand(answer: tuple[int, ...]) -> list[tuple[list[int], int]]:
    return [(list(answer[:at]), token) for at, token in enumerate(answer)]


def inner(answers: list[tuple[int, ...]]) -> int:
    """Different beginnings that go on."""
    return len({answer[:size] for answer in answers for size in range(1, len(answer))})


@given(ANSWERS)
def test_a_trie_has_each_beginning_once_and_scores_every_token(answers: list[tuple[int, ...]]) -> None:
    trie = Trie.of(answers, range(len(answers)))
    assert read(trie, answers) == [by_hand(answer) for answer in answers]
    assert len(trie) == inner(answers)
    assert len(trie.scored) == len({answer[:size] for answer in answers for size in range(1, len(answer) + 1)})
    assert ((trie.sees.sum(1) - 1) == trie.depth).all()


@given(ANSWERS, st.integers(0, 8))
def test_several_tries_hold_each_answer_once_and_no_more_nodes_than_allowed(
    answers: list[tuple[int, ...]], most: int
) -> None:
    tries = tries_of(answers, most)
    assert sorted(number for trie in tries for number in trie.answers.tolist()) == list(range(len(answers)))
    for trie in tries:
        own = [answers[number] for number in trie.answers]
        assert len(trie) == inner(own) and (len(trie) <= most or len(own) == 1)
        assert read(trie, own) == [by_hand(answer) for answer in own]


def test_what_begins_alike_stands_together() -> None:
    answers = [(1, 2, 3), (5, 6, 7), (1, 2, 4), (5, 6, 8)]
    assert [trie.answers.tolist() for trie in tries_of(answers, 2)] == [[0, 2], [1, 3]]
