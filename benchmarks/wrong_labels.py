"""How well wrong labels are found: Banking77 with labels changed on purpose, and corpora as they are.

    python benchmarks/wrong_labels.py [--data FOLDER]

Precision and recall are those of the flagged rows, a set that is chosen without knowing what was changed. Banking77 has
doubtful labels of its own, and whoever finds them loses precision here. The baseline is how rows are often looked for:
those that TF-IDF with a linear SVM, fitted on the other folds, labels otherwise.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raysft.audit.repeats import text_keys
from raysft.audit.wrong_labels import Suspects, find_suspects, finding, row_keys
from raysft.config.template import DEFAULT_BASE
from raysft.corpus.encode import encode_texts
from raysft.model.embed import embed
from raysft.storage.pretrained import resolve_base

Array = np.ndarray[Any, Any]
DATA = Path(__file__).resolve().parents[1] / "../shared/data"
SEEDS = (0, 1, 2)
SHOWN = 10
ONE_WAY = 8  # labels of which a share becomes one other
HEADER = (
    "| changed | rows | seed | flagged | precision | recall | AP | P at R 0.90 | SVM flagged | precision | recall |"
)


class Corpus(NamedTuple):
    """Texts with labels (R,) as numbers into `names`, and their points (R, D)."""

    path: Path
    texts: list[str]
    labels: Array
    names: list[str]
    points: Array


class Changed(NamedTuple):
    """Labels of which some were changed: both (R,)."""

    labels: Array
    wrong: Array


class Scores(NamedTuple):
    """One line of the table."""

    flagged: float
    precision: float
    recall: float
    average_precision: float
    at_90: float
    svm_flagged: float
    svm_precision: float
    svm_recall: float


def main() -> None:
    """Measure and print; some 5 minutes on 2 cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with banking77 and hint3_v1")
    folder = parser.parse_args().data
    train = folder / "banking77/banking_data/train.csv"
    if not train.is_file():
        sys.exit(f"No corpus: {train} does not exist. Name the folder that has banking77/ with --data.")
    started = time.perf_counter()
    banking = read(train, "text", "category")
    print(f"{len(banking.texts) / (time.perf_counter() - started):.0f} rows/s read and embedded")
    print_table(banking)
    started = time.perf_counter()
    show(banking, 3 * SHOWN)
    print(f"{time.perf_counter() - started:.1f} s to fit and judge {len(banking.texts)} rows")
    for path in sorted((folder / "hint3_v1/train").glob("*_train.csv")):
        show(read(path, "sentence", "label"), SHOWN)


def read(path: Path, text: str, label: str) -> Corpus:
    """A CSV file with its rows embedded by the default base."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [row[text] for row in rows]
    names, labels = np.unique([row[label] for row in rows], return_inverse=True)
    base = resolve_base(DEFAULT_BASE)
    ids, _ = encode_texts(texts, base.folder / "tokenizer.json", 128)
    return Corpus(path, texts, labels, names.tolist(), embed(ids, base))


def print_table(corpus: Corpus) -> None:
    """A line a kind of change and seed, and their mean."""
    print(HEADER + "\n" + "|---" * (HEADER.count("|") - 1) + "|")
    for share in (0.10, 0.05, 0.20):
        rows_of(corpus, f"{share:.0%} at random", lambda seed, share=share: to_any(corpus, share, seed))  # type: ignore[misc]
    rows_of(corpus, "10% to the most similar label", lambda seed: to_similar(corpus, 0.10, seed))
    rows_of(corpus, "one way: 20% of 8 labels to the most similar", lambda seed: one_way(corpus, 0.20, seed, True))
    rows_of(corpus, "one way: 20% of 8 labels to one other each", lambda seed: one_way(corpus, 0.20, seed, False))


def rows_of(corpus: Corpus, name: str, change: Callable[[int], Changed]) -> None:
    lines = []
    for seed in SEEDS:
        changed = change(seed)
        lines.append(measure(corpus, changed, seed))
        print_line(name, int(changed.wrong.sum()), str(seed), lines[-1])
    print_line(name, int(changed.wrong.sum()), "**mean**", Scores(*np.mean(lines, axis=0)))


def print_line(name: str, changed: int, seed: str, scores: Scores) -> None:
    counts = {"flagged", "svm_flagged"}
    cells = [f"{value:.0f}" if key in counts else f"{value:.3f}" for key, value in scores._asdict().items()]
    print("| " + " | ".join([name, str(changed), seed, *cells]) + " |", flush=True)


def to_any(corpus: Corpus, share: float, seed: int) -> Changed:
    """A share of the labels becomes any other, all equally likely."""
    draw = np.random.default_rng(seed)
    rows = draw.permutation(len(corpus.labels))[: round(share * len(corpus.labels))]
    labels = corpus.labels.copy()
    labels[rows] = (labels[rows] + draw.integers(1, len(corpus.names), len(rows))) % len(corpus.names)
    return Changed(labels, labels != corpus.labels)


def to_similar(corpus: Corpus, share: float, seed: int) -> Changed:
    """A share of the labels becomes the one whose mean point is nearest: how people err, and much harder."""
    rows = np.random.default_rng(seed).permutation(len(corpus.labels))[: round(share * len(corpus.labels))]
    labels = corpus.labels.copy()
    labels[rows] = nearest(corpus)[labels[rows]]
    return Changed(labels, labels != corpus.labels)


def one_way(corpus: Corpus, share: float, seed: int, similar: bool) -> Changed:
    """A share of each of ONE_WAY labels becomes one other: the most similar, or any; the probe learns it that way."""
    draw = np.random.default_rng(seed)
    number = len(corpus.names)
    labels = corpus.labels.copy()
    for given in draw.choice(number, ONE_WAY, replace=False).tolist():
        rows = draw.permutation(np.flatnonzero(corpus.labels == given))
        other = nearest(corpus)[given] if similar else (given + draw.integers(1, number)) % number
        labels[rows[: round(share * len(rows))]] = other
    return Changed(labels, labels != corpus.labels)


def nearest(corpus: Corpus) -> Array:
    """For each label the one whose mean point is nearest, int64 (labels,)."""
    means = np.stack([corpus.points[corpus.labels == label].mean(axis=0) for label in range(len(corpus.names))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    likeness = means @ means.T
    np.fill_diagonal(likeness, -1.0)
    return np.asarray(likeness.argmax(axis=1))


def measure(corpus: Corpus, changed: Changed, seed: int) -> Scores:
    """The flagged set, the ranking behind it, and the baseline."""
    from sklearn.metrics import average_precision_score

    suspects = suspects_of(corpus, changed.labels, seed)
    flagged = np.zeros(len(corpus.labels), bool)
    flagged[suspects.flagged] = True
    hits = np.cumsum(changed.wrong[np.argsort(-suspects.doubt)])
    reached = int(np.searchsorted(hits, 0.9 * changed.wrong.sum()))
    average = float(average_precision_score(changed.wrong, suspects.doubt))
    own = set_scores(flagged, changed.wrong)
    return Scores(
        *own, average, float(hits[reached] / (reached + 1)), *set_scores(svm(corpus, changed, seed), changed.wrong)
    )


def suspects_of(corpus: Corpus, labels: Array, seed: int) -> Suspects:
    """What is found under these labels, each row being a unit of its own."""
    keys = row_keys(text_keys(corpus.texts), labels, seed)
    return find_suspects(corpus.points, labels, np.arange(len(labels)), keys)


def set_scores(flagged: Array, wrong: Array) -> tuple[float, float, float]:
    """(rows, precision, recall) of a set of rows, both (R,) bool."""
    hits = int((flagged & wrong).sum())
    return float(flagged.sum()), hits / max(1, int(flagged.sum())), hits / max(1, int(wrong.sum()))


def svm(corpus: Corpus, changed: Changed, seed: int) -> Array:
    """Rows that TF-IDF and a linear SVM of the other folds label otherwise, (R,) bool."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(model, corpus.texts, changed.labels, cv=folds) != changed.labels)


def show(corpus: Corpus, most: int) -> None:
    """What is found in a corpus as it is."""
    suspects = suspects_of(corpus, corpus.labels, seed=0)
    wheres = [f"{corpus.path.name}, row {row + 1}" for row in range(len(corpus.texts))]
    found = finding(suspects, wheres, corpus.texts, corpus.names, "report")
    print(f"\n{corpus.path.name} as it is: {found.found} of {len(corpus.texts)} rows flagged. {found.explanation}")
    for row in suspects.flagged[:most].tolist():
        given, suggested = corpus.names[suspects.given[row]], corpus.names[suspects.suggested[row]]
        print(f"  {wheres[row]}: {given} -> {suggested} ({suspects.probability[row]:.2f}): {corpus.texts[row].strip()}")
    for pair in suspects.pairs[:5]:
        print(f"  {pair.count} rows: {corpus.names[pair.given]} -> {corpus.names[pair.suggested]}")


if __name__ == "__main__":
    main()
