"""Scores of written answers: exact match, and the F1 of their words as SQuAD counts it.

Exact match: the same characters once spaces at the edges are gone and every run of white space is one space; case and
marks count. Token F1 (Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1): the words of both as bags, in lower case,
without ASCII punctuation and the English articles a, an, the. A script that does not part words by spaces has one word
a sentence there, so that its F1 is hardly more than exact match.
n rows. Everything is a fraction.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from raysft.metrics.interval import Estimate, bounded, resamples
from raysft.metrics.scores import Array

NAMES = ("exact_match", "token_f1")
ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_MARKS = str.maketrans("", "", string.punctuation)


def one_line(text: str) -> str:
    """A text with single spaces between its words and none around."""
    return " ".join(text.split())


def exact_match(answer: str, reference: str) -> bool:
    """Whether they are the same but for white space."""
    return one_line(answer) == one_line(reference)


def words_of(text: str) -> Counter[str]:
    """The bag of words that F1 compares; may be empty."""
    return Counter(ARTICLES.sub(" ", text.lower().translate(WITHOUT_MARKS)).split())


def token_f1(answer: str, reference: str) -> float:
    """2 x the words in common / the words of both; 1 where neither has a word (as SQuAD 2.0 counts), 0 where one has
    none."""
    given, wanted = words_of(answer), words_of(reference)
    total = given.total() + wanted.total()
    return 2 * (given & wanted).total() / total if total else 1.0


def answer_scores(answers: Sequence[str], references: Sequence[str]) -> dict[str, Array]:
    """Both measures of each row, float64 (n,)."""
    pairs = list(zip(answers, references, strict=True))
    return {
        "exact_match": np.array([exact_match(*pair) for pair in pairs], np.float64),
        "token_f1": np.array([token_f1(*pair) for pair in pairs], np.float64),
    }


def mean_estimate(values: Array, units: Array, name: str, seed: int = 0) -> Estimate:
    """The mean over rows with its interval, whole units resampled. values: float (n,). units: int (n,)."""
    draws = np.concatenate([weights @ values / weights.sum(axis=1) for weights in resamples(units, seed)])
    return bounded(float(values.mean()), draws, len(values), units, name)


def answer_estimates(scores: dict[str, Array], units: Array, seed: int = 0) -> dict[str, Estimate]:
    """Every measure of NAMES with its interval. scores: as answer_scores gives them; at least one row."""
    return {name: mean_estimate(scores[name], units, name, seed) for name in NAMES}


def answer_difference(first: Array, second: Array, units: Array, seed: int = 0) -> Estimate:
    """The mean of `first` minus that of `second`, on the same rows, resampled together (paired)."""
    return mean_estimate(first - second, units, "difference", seed)
