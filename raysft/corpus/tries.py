"""Answers that are scored after one prompt, each beginning they share once, with what a forward pass needs of them.

N nodes: tokens that another one follows. E edges: tokens that are scored, each after a node or after the prompt.
A answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Answer = Sequence[int]


@dataclass(frozen=True)
class Trie:
    """Some of the answers. Place 0 is the end of the prompt, place n + 1 that of node n."""

    answers: Array  # (A,) int64, their numbers
    tokens: Array  # (N,) int64
    depth: Array  # (N,) int64: tokens behind the prompt, from 0
    sees: Array  # (N, N) bool: which nodes each may look at, those before it in its answers and itself
    after: Array  # (E,) int64: the place whose logits score the token
    scored: Array  # (E,) int64: the token
    holds: Array  # (A, E) float64: 1 where an answer has the edge

    def __len__(self) -> int:
        return len(self.tokens)

    @staticmethod
    def of(answers: Sequence[Answer], numbers: Sequence[int]) -> Trie:
        """numbers: which of the answers."""
        edges: dict[tuple[int, ...], int] = {}
        nodes: dict[tuple[int, ...], int] = {}
        for number in numbers:
            answer = tuple(answers[number])
            for length in range(1, len(answer) + 1):
                edges.setdefault(answer[:length], len(edges))
                if length < len(answer):
                    nodes.setdefault(answer[:length], len(nodes))
        sees, holds = np.zeros((len(nodes), len(nodes)), bool), np.zeros((len(numbers), len(edges)))
        for path, node in nodes.items():
            sees[node, [nodes[path[:length]] for length in range(1, len(path) + 1)]] = True
        for row, number in enumerate(numbers):
            answer = tuple(answers[number])
            holds[row, [edges[answer[:length]] for length in range(1, len(answer) + 1)]] = 1
        return Trie(
            answers=np.array(numbers, np.int64),
            tokens=np.array([path[-1] for path in nodes], np.int64),
            depth=np.array([len(path) - 1 for path in nodes], np.int64),
            sees=sees,
            after=np.array([nodes[path[:-1]] + 1 if path[:-1] else 0 for path in edges], np.int64),
            scored=np.array([path[-1] for path in edges], np.int64),
            holds=holds,
        )


def tries_of(answers: Sequence[Answer], most: int) -> list[Trie]:
    """All answers, in tries of at most `most` nodes each, or of one answer that has more."""
    order = sorted(range(len(answers)), key=lambda number: tuple(answers[number]))  # what begins alike stands together
    groups: list[list[int]] = []
    size = 0
    before: tuple[int, ...] = ()
    for number in order:
        answer = tuple(answers[number])
        new = max(0, len(answer) - 1 - _shared(before, answer))
        if not groups or size + new > most:
            groups.append([])
            size, new = 0, len(answer) - 1
        groups[-1].append(number)
        size, before = size + new, answer
    return [Trie.of(answers, group) for group in groups]


def _shared(before: tuple[int, ...], answer: tuple[int, ...]) -> int:
    """Nodes of `answer` that a trie has already, which holds the answer that stands before it in order."""
    same = 0
    for mine, theirs in zip(answer[:-1], before[:-1], strict=False):
        if mine != theirs:
            break
        same += 1
    return same
