"""What a model must beat to be worth its price: always the commonest class, and a linear model on word counts."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def majority(train_labels: Array, rows: int) -> Array:
    """The commonest training class for each of `rows` rows."""
    return np.full(rows, np.bincount(train_labels).argmax())


def tfidf_svm(train_texts: list[str], train_labels: Array, texts: list[str]) -> Array:
    """TF-IDF over words and word pairs, then a linear support vector machine (scikit-learn, defaults)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC(random_state=0))
    try:
        model.fit(train_texts, train_labels)
    except ValueError:  # no word at all, e.g. texts of emoji only
        return majority(train_labels, len(texts))
    return np.asarray(model.predict(texts))
