"""What a model must beat to be worth its price: always the commonest answer, and a linear model on word counts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def majority(train_labels: Array, rows: int) -> Array:
    """The commonest training class for each of `rows` rows."""
    return np.full(rows, np.bincount(train_labels).argmax())


def commonest_set(train_has: Array, rows: int) -> Array:
    """The commonest set of labels of a training row, which may be none, for each of `rows` rows. bool (rows, C)."""
    sets, counts = np.unique(train_has, axis=0, return_counts=True)
    return np.tile(sets[counts.argmax()], (rows, 1))


def tfidf_svm(train_texts: list[str], train_labels: Array, texts: list[str]) -> Array:
    """TF-IDF over words and word pairs, then a linear support vector machine (scikit-learn, defaults)."""
    try:
        model = _word_counts_then(_svm()).fit(train_texts, train_labels)
    except ValueError:  # no word at all, e.g. texts of emoji only
        return majority(train_labels, len(texts))
    return np.asarray(model.predict(texts))


def tfidf_svms(train_texts: list[str], train_has: Array, texts: list[str]) -> Array:
    """The same with a support vector machine for each label, which tells whether a row has it. bool (texts, C)."""
    from sklearn.multiclass import OneVsRestClassifier

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Label .* is present in all|Label not .* is present in all")
            model = _word_counts_then(OneVsRestClassifier(_svm())).fit(train_texts, train_has.astype(int))
    except ValueError:
        return commonest_set(train_has, len(texts))
    return np.asarray(model.predict(texts)).reshape(len(texts), -1).astype(bool)


def _svm() -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(random_state=0)


def _word_counts_then(classifier: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), classifier)
