"""Likely wrong labels: embed training rows with the frozen base, let a probe doubt their labels, and act on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysft.audit.finding import Finding
from raysft.audit.personal import excerpt, excerpts
from raysft.audit.repeats import TRAIN
from raysft.audit.wrong_labels import Suspects, find_suspects, finding, row_keys
from raysft.config import Job
from raysft.events import Listener
from raysft.preparation.books import Books, Found
from raysft.preparation.labels import Labels
from raysft.preparation.points import points_of
from raysft.preparation.rowstore import RowStore
from raysft.storage.layout import DataFolder
from raysft.storage.pretrained import Base

SHOWN = 200  # suspects kept in audit.json
Array = np.ndarray[Any, Any]
RANKED = pa.schema(
    [
        ("rank", pa.int64()),  # from 1
        ("row_id", pa.int64()),
        ("source", pa.string()),
        ("line", pa.int64()),
        ("label", pa.string()),
        ("suggested", pa.string()),
        ("probability", pa.float64()),  # of the suggested label
        ("score", pa.float64()),  # log odds that the label is wrong; falls with the rank
        ("flagged", pa.bool_()),  # these alone are acted on
    ]
)


def check_wrong_labels(
    job: Job,
    base: Base,
    store: RowStore,
    books: Books,
    labels: Labels,
    unit: Array,
    partial: DataFolder,
    listener: Listener,
) -> tuple[Finding, dict[str, Any]]:
    """(the finding, `wrong_labels` of audit.json). The most expensive check: it reads rows with the base model.

    Writes partial.suspects: all rows with which the probe disagrees, in the columns of RANKED.
    """
    audit = job.config.data.audit
    all_rows = int((books.alive & (store.origin == TRAIN)).sum())
    rows = _sample(store, books, audit.wrong_labels_rows)
    given = labels.label_id[rows].astype(np.int64)
    texts = store.texts(rows)
    points = points_of(texts, base, job.config.model.max_length, partial.points, listener)
    keys = row_keys(store.text_key[rows], store.numbers("label_key")[rows], job.config.folds.seed)
    suspects = find_suspects(points, given, unit[rows], keys)
    found = finding(suspects, store.where(rows), texts, labels.names, audit.wrong_labels)
    pq.write_table(_ranked(store, rows, labels, suspects), str(partial.suspects), compression="zstd")
    details = _details(suspects, labels)
    nothing = np.full(len(suspects.flagged), -1)
    books.apply(Found("wrong_label", rows[suspects.flagged], nothing, details), audit.wrong_labels)
    section = {
        "looked_at": len(rows),
        "of": all_rows,
        "found": len(suspects.flagged),
        "disagrees": len(suspects.ranked),
        "estimated": suspects.estimated,
        "accuracy": round(suspects.accuracy, 4),
        "by_pair": [
            {"given": labels.names[pair.given], "suggested": labels.names[pair.suggested], "count": pair.count}
            for pair in suspects.pairs
        ],
        "examples": _examples(store, rows, labels, suspects),
    }
    return found, section


def _details(suspects: Suspects, labels: Labels) -> tuple[str, ...]:
    """What the list of rows left out says of each flagged row."""
    names = suspects.suggested[suspects.flagged].tolist()
    sure = suspects.probability[suspects.flagged].tolist()
    return tuple(f"suggested: {labels.names[name]} ({p:.2f})" for name, p in zip(names, sure, strict=True))


def _examples(store: RowStore, rows: Array, labels: Labels, suspects: Suspects) -> list[dict[str, Any]]:
    """The worst of the flagged rows."""
    at = suspects.flagged[:SHOWN]
    some = rows[at]
    shown = zip(
        store.where(some),
        excerpts(store.texts(some)),
        excerpts(store.values("label", some)),
        suspects.suggested[at].tolist(),
        suspects.probability[at].tolist(),
        strict=True,
    )
    return [
        {
            "where": where,
            "text": text,
            "label": label,
            "suggested": excerpt(labels.names[suggested]),
            "probability": round(p, 4),
        }
        for where, text, label, suggested, p in shown
    ]


def _ranked(store: RowStore, rows: Array, labels: Labels, suspects: Suspects) -> pa.Table:
    """Every row with which the probe disagrees, the most doubtful first: to be read on below the flagged ones."""
    at = suspects.ranked
    ids = rows[at]
    flagged = np.arange(len(at)) < len(suspects.flagged)  # they are the first of the ranking
    columns: list[Any] = [
        np.arange(1, len(at) + 1),
        ids,
        store.values("source", ids),
        store.values("line", ids),
        store.values("label", ids),
        [labels.names[label] for label in suspects.suggested[at].tolist()],
        suspects.probability[at].astype(np.float64),
        suspects.doubt[at].astype(np.float64),
        flagged,
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, RANKED, strict=True)]
    return pa.Table.from_arrays(arrays, schema=RANKED)


def _sample(store: RowStore, books: Books, most: int) -> Array:
    """Kept training rows, at most so many, chosen by their texts alone."""
    rows = np.flatnonzero(books.alive & (store.origin == TRAIN))
    return np.sort(rows[np.argsort(store.text_key[rows], kind="stable")[:most]])
