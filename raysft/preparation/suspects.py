"""Likely wrong labels: embed training rows with the frozen base, let a probe doubt their labels, and act on it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from raysft.audit.finding import Finding
from raysft.audit.personal import excerpt
from raysft.audit.repeats import TRAIN
from raysft.audit.wrong_labels import find_suspects, finding
from raysft.config import Job
from raysft.corpus.encode import encode_texts
from raysft.events import Listener
from raysft.preparation.books import Books, Found
from raysft.preparation.labels import Labels
from raysft.preparation.rowstore import RowStore
from raysft.storage.commit import write_bytes
from raysft.storage.layout import DataFolder
from raysft.storage.pretrained import Base

SHOWN = 200  # suspects kept in audit.json
Array = np.ndarray[Any, Any]


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
    """(the finding, `wrong_labels` of audit.json). The most expensive check: it reads rows with the base model."""
    audit = job.config.data.audit
    rows = _sample(store, books, audit.wrong_labels_rows)
    given = labels.label_id[rows].astype(np.int64)
    texts = store.texts(rows)
    points = _points(job, base, texts, partial, listener)
    suspects = find_suspects(points, given, unit[rows], seed=job.config.folds.seed)
    flagged = rows[suspects.flagged]
    names = [labels.names[label] for label in suspects.suggested[suspects.flagged].tolist()]
    sure = suspects.probability[suspects.flagged].tolist()
    details = tuple(f"suggested: {name} ({p:.2f})" for name, p in zip(names, sure, strict=True))
    found = finding(suspects, store.where(rows), texts, labels.names, audit.wrong_labels)
    books.apply(Found("wrong_label", flagged, np.full(len(flagged), -1), details), audit.wrong_labels)
    some = flagged[:SHOWN]
    section = {
        "looked_at": len(rows),
        "of": int((books.alive & (store.origin == TRAIN)).sum())
        + (len(flagged) if audit.wrong_labels != "report" else 0),
        "found": len(flagged),
        "accuracy": round(suspects.accuracy, 4),
        "by_pair": [
            {"given": labels.names[pair.given], "suggested": labels.names[pair.suggested], "count": pair.count}
            for pair in suspects.pairs
        ],
        "examples": [
            {"where": where, "text": excerpt(text), "label": label, "suggested": name, "probability": round(p, 4)}
            for where, text, label, name, p in zip(
                store.where(some),
                store.texts(some),
                store.values("label", some),
                names[:SHOWN],
                sure[:SHOWN],
                strict=True,
            )
        ],
    }
    return found, section


def _sample(store: RowStore, books: Books, most: int) -> Array:
    """Kept training rows, at most so many, chosen by their texts alone."""
    rows = np.flatnonzero(books.alive & (store.origin == TRAIN))
    return np.sort(rows[np.argsort(store.text_key[rows], kind="stable")[:most]])


def _points(job: Job, base: Base, texts: list[str], partial: DataFolder, listener: Listener) -> Array:
    """Embeddings, float32 (rows, hidden); kept aside, since they cost more than all the rest of the audit."""
    if not partial.points.exists():
        from raysft.model.embed import embed

        ids, _ = encode_texts(texts, base.folder / "tokenizer.json", job.config.model.max_length)
        points = embed(
            ids, base, progress=lambda done, all_: listener.progress(done, all_, "rows read for wrong labels")
        )
        buffer = io.BytesIO()
        np.save(buffer, points)
        write_bytes(partial.points, buffer.getvalue())
    return np.asarray(np.load(partial.points))
