"""Whether the words of two parts tell them apart, and which do.

A classifier is asked from which part a text comes (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests").
Its area under the ROC curve is 0.5 where nobody can tell. Features are binary TF-IDF of words and pairs of words with a
vocabulary, not hashes: the sample is small, and words that tell the parts apart shall be named.
Words are compared on a sample of at most ROWS a side; `choose_rows` says which rows to fetch, from labels alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysft.audit.chance import pieces
from raysft.audit.language import NO_SPACES
from raysft.audit.personal import excerpts

Array = np.ndarray[Any, Any]

ROWS = 4000  # of each side that are looked at
LEAST_ROWS = 50  # of each side, below which words are not compared
LETTERS = 2000  # of a text that are read
CV_FOLDS = 5
DRAWS = 300  # of the bootstrap
SHOWN = 12  # words of each side
WORD = r"(?u)\b\w+\b"
NUMBER = re.compile(r"\d{4}")  # in a word that is not named: part of a phone or card number, for all we know


def choose_rows(first: Array, second: Array, seed: int, rows: int = ROWS) -> tuple[Array, Array]:
    """Rows of each side to compare by their words: positions, int64, the same number; the i-th of both share a label.

    first, second: label codes, shape (rows of the side,); all 0 where there are no labels. Labels of one side only drop
    out, so that shares of labels, which `label_drift` measures, cannot be told from the words.
    """
    random = np.random.default_rng(seed)
    mine, theirs = (random.permutation(len(side)) for side in (first, second))
    sizes = [np.unique(side, return_counts=True) for side in (first, second)]
    shared, *at = np.intersect1d(sizes[0][0], sizes[1][0], assume_unique=True, return_indices=True)
    counts = np.minimum(sizes[0][1][at[0]], sizes[1][1][at[1]])
    if counts.sum() > rows:
        counts = np.maximum(1, counts * rows // counts.sum())
    wanted = dict(zip(shared.tolist(), counts.tolist(), strict=True))
    return _first_of_each(first, mine, wanted), _first_of_each(second, theirs, wanted)


def _first_of_each(labels: Array, order: Array, wanted: Mapping[int, int]) -> Array:
    """The first wanted[c] rows of each label c in a shuffled order, label after label."""
    by_label = order[np.argsort(labels[order], kind="stable")]
    codes, start = np.unique(labels[by_label], return_index=True)
    kept = [by_label[s : s + wanted.get(int(c), 0)] for c, s in zip(codes, start, strict=True)]
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def word_drift(
    first: Sequence[str],
    second: Sequence[str],
    units: tuple[Array, Array] | None = None,
    seed: int = 0,
    labels: Array | None = None,
) -> dict[str, Any] | None:
    """How well words tell the two sides apart; None with fewer than LEAST_ROWS rows of a side.

    first, second: texts, in the order of `choose_rows`; personal data in them is masked before words are made of them,
    and no word with four digits in a row is named. units: a number for each row of either side; rows that share
    one (near-duplicates, a group) are tested together, so that a text that was seen cannot give its twin away.
    labels: a number for each row, the same on both sides, where texts have labels; few rows a label need it.
    {"n": [rows, rows], "auc", "low", "high": 95% by a bootstrap over units, "first", "second": telling words of a side
    as [{"word", "first": texts, "second": texts}]}
    """
    if min(len(first), len(second)) < LEAST_ROWS:
        return None
    texts = excerpts([*first, *second], LETTERS)
    side = np.repeat([0, 1], [len(first), len(second)])
    rows = np.arange(len(texts)) if units is None else np.unique(np.concatenate(units), return_inverse=True)[1]
    label = np.zeros(len(texts), np.int64) if labels is None else np.unique(np.tile(labels, 2), return_inverse=True)[1]
    words, names = _words(texts)
    scores = _held_out_scores(words, side, label, rows)
    low, high = _interval(scores, side, rows, seed)
    telling = _telling(words, names, side, rows, 2.5 if low > 0.5 else 4.0)
    return {
        "n": [len(first), len(second)],
        "auc": round(_auc(_ranks(scores), side, np.ones(len(side))), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "first": telling[0],
        "second": telling[1],
    }


def _words(texts: list[str]) -> tuple[Any, list[str]]:
    """Which words and pairs of words stand in each text: a sparse 0/1 matrix, and their names."""
    from sklearn.feature_extraction.text import CountVectorizer

    spaceless = sum(NO_SPACES.search(text) is not None for text in texts) > len(texts) / 2
    kind: dict[str, Any] = {"analyzer": "char"} if spaceless else {"token_pattern": WORD}
    counter = CountVectorizer(binary=True, max_features=20_000, ngram_range=(1, 2), **kind)
    try:
        found = counter.fit_transform(texts)
    except ValueError:  # not a word in any text
        return None, []
    return found, list(counter.get_feature_names_out())


def _held_out_scores(words: Any, side: Array, label: Array, units: Array) -> Array:
    """For each text, how much it looks like the second side to a model that did not see its unit. Shape (rows,)."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros(len(side))
    if words is None:
        return scores
    features = TfidfTransformer().fit_transform(words)
    fold = _folds(side, label, units)
    for number in range(CV_FOLDS):
        seen, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(held) and len(np.unique(side[seen])) == 2:
            # The dual of liblinear: 0.1 s where lbfgs takes 1.2 s, for 5,000 texts of 20,000 words.
            model = LogisticRegression(C=3.0, solver="liblinear", dual=True, class_weight="balanced", random_state=0)
            scores[held] = model.fit(features[seen], side[seen]).decision_function(features[held])
    return scores


def _folds(side: Array, label: Array, units: Array) -> Array:
    """A fold for each row; a unit is never split, and each label's units are spread alike on both sides.

    A label of few rows, held out on one side only, would leave more of the other side to learn from: its rows would
    be guessed wrong more often than by chance, and drift would be missed.
    """
    _, first = np.unique(units, return_index=True)
    group = label[first] * 2 + side[first]
    order = np.lexsort((first, group))
    begins = np.searchsorted(group[order], group[order])
    fold = np.zeros(len(first), np.int64)
    fold[order] = (np.arange(len(order)) - begins + label[first][order]) % CV_FOLDS
    return np.asarray(fold[units])


def _interval(scores: Array, side: Array, units: Array, seed: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    number = int(units.max()) + 1
    tie, drawn = _ranks(scores), []
    for _ in range(DRAWS):
        weight = np.bincount(random.integers(0, number, number), minlength=number)[units].astype(float)
        if weight[side == 0].any() and weight[side == 1].any():
            drawn.append(_auc(tie, side, weight))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _ranks(scores: Array) -> Array:
    """The rank of each score from 0, equal scores alike; int64, shape (rows,)."""
    return np.asarray(np.unique(scores, return_inverse=True)[1])


def _auc(rank: Array, side: Array, weight: Array) -> float:
    """Probability that a text of the second side ranks above one of the first; ties count half."""
    zeros = np.bincount(rank, weight * (side == 0))
    ones = np.bincount(rank, weight * (side == 1))
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + zeros / 2)).sum() / (ones.sum() * zeros.sum()))


def _telling(
    words: Any, names: list[str], side: Array, units: Array, least: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Words that stand in far more texts of one side: (of the first, of the second), most telling first.

    By the z-score of the difference of two shares, from `least` on: 4 is what one of 20,000 words reaches by chance;
    2.5 will do to explain a difference that is certain. Units vary, not rows: a word of one customer tells little.
    """
    from scipy.sparse import csr_array

    if words is None:
        return [], []
    counts = np.vstack([np.asarray(words[side == which].sum(axis=0)).ravel() for which in (0, 1)])
    n = np.bincount(side, minlength=2)
    share = (counts.sum(axis=0) + 1) / (n.sum() + 2)
    piece, of = pieces(side, units)
    among = csr_array((np.ones(len(piece)), (piece, np.arange(len(piece)))), shape=(len(of), len(piece))) @ words
    rows = np.bincount(piece)
    # The sum over units of (texts with the word - rows * share) squared, without a dense matrix.
    squares = np.asarray(among.multiply(among).sum(axis=0)).ravel() - 2 * share * (rows @ among)
    squares += share**2 * (rows**2).sum()
    z = (counts[1] / n[1] - counts[0] / n[0]) / np.sqrt(squares / len(of) * (np.bincount(of) / n**2).sum())
    return _named(-z, least, names, counts), _named(z, least, names, counts)


def _named(z: Array, least: float, names: list[str], counts: Array) -> list[dict[str, Any]]:
    best = [i for i in np.argsort(-z, kind="stable")[: 4 * SHOWN].tolist() if z[i] >= least]
    words: list[int] = []
    for i in best:  # a pair of words beside its own word says nothing more
        known = any(set(names[i].split()) & set(names[other].split()) for other in words)
        if not known and not NUMBER.search(names[i]):
            words.append(i)
    return [{"word": names[i], "first": int(counts[0, i]), "second": int(counts[1, i])} for i in words[:SHOWN]]
