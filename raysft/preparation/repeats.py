"""The checks that compare rows with each other, in the order in which their findings are acted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.audit import near, repeats
from raysft.audit.finding import EXAMPLES, Example, Finding
from raysft.audit.personal import excerpts
from raysft.audit.resemblance import Clusters, near_duplicates, near_leaks
from raysft.config.sections import AuditSection
from raysft.preparation.books import OTHER, QUARANTINE, REPORT, Books, Found
from raysft.preparation.features import Wanted
from raysft.preparation.rowstore import RowStore

LABEL = 80  # characters shown
Array = np.ndarray[Any, Any]

# reason -> title, explanation, level where something is found.
WORDS = {
    "held_out_conflicts": (
        "Same text, different labels in your validation or test file",
        "No model can be right on all of them, so they cap every score on that file; mend the wrong ones there.",
        "warning",
    ),
    "conflicting_labels": (
        "Same text, different labels",
        "One of the labels must be wrong, or the labels overlap.",
        "warning",
    ),
    "held_out_duplicates": (
        "Exact duplicates in your validation or test file",
        "Such rows count more than once and say nothing new: intervals look narrower than they are.",
        "note",
    ),
    "validation_in_test": (
        "Validation rows that also stand in your test file",
        "The test score is taken from rows that the best step was chosen on, which flatters it; take them out of one.",
        "warning",
    ),
    "leakage": (
        "Training texts that also stand in a held-out file",
        "A score on such rows shows memory, not skill.",
        "warning",
    ),
    "duplicate": (
        "Exact duplicates",
        "The same text with the same label again; it only adds weight.",
        "note",
    ),
    "near_leakage": (
        "Training texts that almost stand in a held-out file",
        "Scores on your held-out files may be too good; data.audit.near_leakage: drop removes them from training.",
        "warning",
    ),
    "near_duplicate": (
        "Near-duplicates",
        "Almost the same text as an earlier row; they stay in the same fold, so that no score profits.",
        "note",
    ),
}
MENDED = {"leakage", "near_leakage"}  # leaving the rows out is all that is needed


@dataclass(frozen=True)
class Near:
    """Near-duplicates among the rows that were read without fault."""

    pairs: Array  # (pairs, 2) int64, enough to chain every cluster of unequal texts
    cluster: Array  # (rows,) int64; equal texts are in one cluster
    skipped: int = 0  # pairs that were not compared, because too many texts have the same form

    @classmethod
    def none(cls, rows: int) -> Near:
        """Nothing is like anything else."""
        return cls(np.zeros((0, 2), np.int64), np.arange(rows))


def find_near(store: RowStore, alive: Array, wanted: Wanted) -> Near:
    """Near-duplicate pairs among `alive` rows; none where they are not looked for. Each text is looked at once, in the
    order of the texts' keys: so the result does not depend on the order of rows or files."""
    rows = np.flatnonzero(alive)
    if not wanted.bands or not len(rows):
        return Near.none(store.rows)
    _, first, text = np.unique(store.text_key[rows], return_index=True, return_inverse=True)
    texts = rows[first]
    bands = (keys[texts] for keys in store.bands(wanted))
    sizes = store.text_sizes()[texts]
    found = near.near_pairs(bands, store.sketches()[texts], lambda at: store.texts(texts[at]), wanted.similarity, sizes)
    least = np.full(len(texts), store.rows)
    np.minimum.at(least, found.cluster, texts)
    whole = np.arange(store.rows)
    whole[rows] = least[found.cluster[text]]  # a cluster is known by its first row
    return Near(texts[found.pairs], whole, found.skipped)


def check_repeats(store: RowStore, books: Books, found: Near, audit: AuditSection, one_answer: bool) -> list[Finding]:
    """Act on conflicts, leakage and duplicates, exact and near. Raises DataError where a setting is `fail`.

    one_answer: a text has one right label, so that two are a conflict; not so for answers in a conversation.
    """
    text, origin, label = store.text_key, store.origin, store.numbers("label_key")
    near_texts = Clusters(found.cluster, found.pairs, text, store.texts, audit.similarity, store.text_sizes())
    findings = []

    def act(reason: str, pair: tuple[Array, Array], action: str) -> None:
        rows = Found(reason, *pair)
        findings.append(_finding(store, rows, action))
        books.apply(rows, action)

    # Held-out rows first, while all are there; they are never left out for what they say.
    if one_answer:
        act("held_out_conflicts", repeats.held_out_conflicts(text, label, origin, books.alive), REPORT)
        act("conflicting_labels", repeats.conflicts(text, label, origin, books.alive), audit.conflicts)
    act("held_out_duplicates", repeats.held_out_duplicates(text, label, origin, books.alive), REPORT)
    act("validation_in_test", repeats.validation_in_test(text, origin, books.alive), REPORT)
    act("leakage", repeats.leaks(text, origin, books.alive), audit.leakage)
    act("duplicate", repeats.duplicates(text, label, origin, books.alive), audit.duplicates)
    act("near_leakage", near_leaks(near_texts, origin, books.alive), audit.near_leakage)
    act("near_duplicate", near_duplicates(near_texts, origin, books.alive), audit.near_duplicates)
    return findings


def _finding(store: RowStore, found: Found, action: str) -> Finding:
    title, explanation, level = WORDS[found.reason]
    if found.reason in MENDED and action in {"drop", QUARANTINE}:
        level = "note"
    return Finding(
        name=found.finding,
        title=title,
        found=len(found.rows),
        unit="rows",
        action=action,
        level=level if len(found.rows) else "fine",
        explanation=explanation,
        examples=_examples(store, found),
    )


def _examples(store: RowStore, found: Found) -> tuple[Example, ...]:
    """The first of the rows, each with the row that shows it; labels may hold personal data, just as texts do."""
    some, others = found.rows[:EXAMPLES], found.other[:EXAMPLES]
    seen, shown = (
        zip(
            store.where(rows),
            excerpts(store.texts(rows)),
            excerpts(store.values("label", rows), LABEL),
            strict=True,
        )
        for rows in (some, others)
    )
    return tuple(
        Example(where, text, label, f"{OTHER[found.reason]} {place}: {other_label}: {other}")
        for (where, text, label), (place, other, other_label) in zip(seen, shown, strict=True)
    )
