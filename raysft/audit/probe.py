"""What points say about labels: a multinomial logistic regression, asked about rows that it was not fitted on.

Shapes: R rows, D numbers a point, C labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STRENGTH = 5.0  # inverse L2 penalty of the probe, for points of unit length; from 1 to 10 little changes
STEPS = 40  # of L-BFGS; on Banking77 it has converged by then
LEARNT = 2  # rows of a label from which the probe can learn it: one row is no evidence against another


def out_of_fold(points: Array, codes: Array, folds: Array, labels: int) -> tuple[Array, Array]:
    """Probabilities (R, C) of each row from the other folds, and whether these teach the row's label, (R,) bool."""
    probabilities = np.zeros((len(codes), labels), np.float32)
    known = np.zeros(len(codes), bool)
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():  # one unit holds every row
            break
        probabilities[held] = _fit_predict(points[~held], codes[~held], points[held], labels)
        known[held] = np.bincount(codes[~held], minlength=labels)[codes[held]] >= LEARNT
    return probabilities, known


def _fit_predict(points: Array, codes: Array, held: Array, labels: int) -> Array:
    """Probabilities of the points `held`, one column a label, by a probe fitted on `points`; unseen labels get 0."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    seen = np.unique(codes)
    found = np.zeros((len(held), labels), np.float32)
    if len(seen) == 1:
        found[:, seen] = 1.0
        return found
    # One BLAS thread: the products are small, a second thread gains little on an idle machine and waits busily on a
    # shared one (15 times the CPU time, measured on two cores with four busy processes).
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(C=STRENGTH, max_iter=STEPS).fit(points, codes)
        found[:, seen] = probe.predict_proba(held)
    return found
