"""The checks that compare rows with each other, in the order in which their findings are acted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.audit import near, repeats
from raysft.audit.finding import EXAMPLES, Example, Finding
from raysft.audit.personal import excerpt
from raysft.config.sections import AuditSection
from raysft.preparation.books import OTHER, Books, Found
from raysft.preparation.features import Wanted
from raysft.preparation.rowstore import RowStore

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Near:
    """Near-duplicates among the rows that were read without fault."""

    pairs: Array  # (pairs, 2) int64, enough to chain every cluster
    cluster: Array  # (rows,) int64

    @classmethod
    def none(cls, rows: int) -> Near:
        """Nothing is like anything else."""
        return cls(np.zeros((0, 2), np.int64), np.arange(rows))


def find_near(store: RowStore, alive: Array, wanted: Wanted) -> Near:
    """Near-duplicate pairs among `alive` rows; none where they are not looked for."""
    rows = np.flatnonzero(alive)
    if not wanted.bands or not len(rows):
        return Near.none(store.rows)
    bands = (keys[rows] for keys in store.bands(wanted))
    pairs, cluster = near.near_pairs(bands, len(rows), lambda at: store.texts(rows[at]), wanted.similarity)
    whole = np.arange(store.rows)
    first = np.full(len(rows), store.rows)
    np.minimum.at(first, cluster, rows)
    whole[rows] = first[cluster]  # a cluster is known by its first row
    return Near(rows[pairs], whole)


def check_repeats(store: RowStore, books: Books, found: Near, audit: AuditSection, one_answer: bool) -> list[Finding]:
    """Act on conflicts, leakage and duplicates, exact and near. Raises DataError where a setting is `fail`.

    one_answer: a text has one right label, so that two are a conflict; not so for answers in a conversation.
    """
    text, origin = store.text_key, store.origin
    label = store.numbers("label_key")
    findings = []

    def act(reason: str, pair: tuple[Array, Array], action: str, title: str, explanation: str, level: str) -> None:
        rows = Found(reason, *pair)
        findings.append(_finding(store, rows, action, title, explanation, level))
        books.apply(rows, action)

    if one_answer:
        act(
            "conflicting_labels",
            repeats.conflicts(text, label, origin, books.alive),
            audit.conflicts,
            "Same text, different labels",
            "One of the labels must be wrong, or the labels overlap.",
            "warning",
        )
    act(
        "leakage",
        repeats.leaks(text, origin, books.alive),
        audit.leakage,
        "Training texts that also stand in a held-out file",
        "A score on such rows shows memory, not skill.",
        "note" if audit.leakage in {"drop", "quarantine"} else "warning",
    )
    act(
        "duplicate",
        repeats.duplicates(text, label, origin, books.alive),
        audit.duplicates,
        "Exact duplicates",
        "The same text with the same label again; it only adds weight.",
        "note",
    )
    act(
        "near_leakage",
        repeats.near_leaks(found.cluster, origin, books.alive),
        audit.near_leakage,
        "Training texts that almost stand in a held-out file",
        "Scores on your held-out files may be too good; data.audit.near_leakage: drop removes them from training.",
        "warning" if audit.near_leakage == "report" else "note",
    )
    act(
        "near_duplicate",
        repeats.later_of_cluster(found.cluster, origin, books.alive),
        audit.near_duplicates,
        "Near-duplicates",
        "Almost the same text as an earlier row; they stay in the same fold, so that no score profits.",
        "note",
    )
    return findings


def _finding(store: RowStore, found: Found, action: str, title: str, explanation: str, level: str) -> Finding:
    key = {
        "conflicting_labels": "conflicts",
        "duplicate": "duplicates",
        "near_duplicate": "near_duplicates",
    }.get(found.reason, found.reason)
    some, others = found.rows[:EXAMPLES], found.other[:EXAMPLES]
    examples = [
        Example(
            where, excerpt(text), label[:80], f"{OTHER[found.reason]} {place}: {other_label[:80]}: {excerpt(other)}"
        )
        for where, text, label, place, other_label, other in zip(
            store.where(some),
            store.texts(some),
            store.values("label", some),
            store.where(others),
            store.values("label", others),
            store.texts(others),
            strict=True,
        )
    ]
    return Finding(
        name=key,
        title=title,
        found=len(found.rows),
        unit="rows",
        action=action,
        level=level if len(found.rows) else "fine",
        explanation=explanation,
        examples=tuple(examples),
    )
