"""Rows -> what becomes of each: findings acted on, labels numbered, units and folds assigned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raysft.audit.finding import Finding
from raysft.audit.pieces import spread
from raysft.audit.repeats import TEST, TRAIN, VALIDATION, text_keys
from raysft.config import Job
from raysft.corpus.encode import SEVERAL, SINGLE, TAGS
from raysft.errors import DataError
from raysft.events import Listener
from raysft.folds.assign import FREE, GIVEN, SEALED, assign
from raysft.folds.proof import proof
from raysft.folds.units import NO_GROUP, units_of
from raysft.preparation.books import Books, Found
from raysft.preparation.features import Wanted
from raysft.preparation.labels import Labels, find_labels, kind_of
from raysft.preparation.parts import part_sizes, require_parts
from raysft.preparation.personal import check_personal
from raysft.preparation.repeats import Near, check_repeats, find_near
from raysft.preparation.rowstore import RowStore
from raysft.preparation.suspects import check_wrong_labels
from raysft.preparation.write import Placed, write_refused
from raysft.storage.layout import DataFolder
from raysft.storage.pretrained import Base

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Decided:
    """All that is known of the rows before they are tokenized."""

    books: Books
    labels: Labels
    near: Near
    placed: Placed
    k: int  # folds; 0 where the person's own rows validate
    findings: list[Finding] = field(default_factory=list)
    wrong_labels: dict[str, Any] | None = None
    proof: list[dict[str, Any]] = field(default_factory=list)


def decide(job: Job, base: Base, store: RowStore, partial: DataFolder, listener: Listener) -> Decided:
    """Run every check, place every kept row.

    Raises DataError where nothing is left to learn, or a setting says so; then partial.refused holds what was left out.
    """
    books = Books(store)
    try:
        return _decide(job, base, store, books, partial, listener)
    except DataError as error:
        if not books.left_out:
            raise
        refused = partial.refused(job.config.name)
        write_refused(store, books, refused)
        raise DataError(error.message, f"{error.next_step} All that were left out: {refused}") from None


def _decide(job: Job, base: Base, store: RowStore, books: Books, partial: DataFolder, listener: Listener) -> Decided:
    audit, kind = job.config.data.audit, kind_of(job.config)
    _require_rows(store, books)
    near = find_near(store, books.alive, Wanted.of(audit))
    findings = check_repeats(store, books, near, audit, one_answer=kind in {SINGLE, SEVERAL, TAGS})
    findings.append(check_personal(store, books, audit.personal_data))
    labels = find_labels(store, books.alive, kind)
    _leave_out_unseen(job, store, books, labels)
    wrong = None
    if kind == SINGLE and audit.wrong_labels != "off":
        unit = _units(store, near, books.alive)
        finding, wrong = check_wrong_labels(job, base, store, books, labels, unit, partial, listener)
        findings.append(finding)
        labels = find_labels(store, books.alive, kind)
        _leave_out_unseen(job, store, books, labels)  # a label may have lost its last training row
    check_ceiling(job, store, books)
    _require_labels(job, labels)
    _require_own_parts(job, store, books)
    return _place(job, store, books, labels, near, findings, wrong)


def screen(job: Job, store: RowStore, strict: bool) -> tuple[Books, Labels]:
    """What can be said of a sample at once: rows left out, exact repeats, labels. strict: the sample is everything."""
    kind = kind_of(job.config)
    books = Books(store)
    _require_rows(store, books)
    check_repeats(
        store, books, Near.none(store.rows), job.config.data.audit, one_answer=kind in {SINGLE, SEVERAL, TAGS}
    )
    labels = find_labels(store, books.alive, kind)
    if strict:
        _leave_out_unseen(job, store, books, labels)
        check_ceiling(job, store, books)
        _require_labels(job, labels)
    return books, labels


def _groups(store: RowStore) -> Array:
    """A group number per row of the store, NO_GROUP for a row without one."""
    codes, names = store.codes("group")
    without = np.array([name == "" for name in names] or [True])
    return np.where(without[codes], NO_GROUP, codes)


def _units(store: RowStore, near: Near, alive: Array) -> Array:
    """A unit number per row of the store: rows of a group, of a near-duplicate cluster, of one text, chained.

    alive: bool (rows,), the rows that are kept. The others do not speak for their groups: customers who left the same
    empty row have nothing in common. Their texts and likenesses still chain, since the pairs that were found are only
    enough to chain each cluster, and one may lead through a row that was left out.
    """
    return units_of(np.where(alive, _groups(store), NO_GROUP), near.pairs, store.text_key)


def _place(
    job: Job,
    store: RowStore,
    books: Books,
    labels: Labels,
    near: Near,
    findings: list[Finding],
    wrong: dict[str, Any] | None,
) -> Decided:
    """Folds of the kept rows, and the proof that nothing leaks between them."""
    settings = job.config.folds
    rows = np.flatnonzero(books.alive)
    unit = _units(store, near, books.alive)
    given = np.array([FREE, GIVEN, SEALED])[store.origin[rows]]  # in the order of TRAIN, VALIDATION, TEST
    k = 0 if (given == GIVEN).any() else settings.k
    test = 0.0 if (given == SEALED).any() else float(settings.test)
    time = store.numbers("time")[rows] if settings.order == "time" else None
    fold = np.full(store.rows, FREE, np.int64)
    fold[rows] = assign(labels.carried.take(rows), unit[rows], _keys(store, rows, settings.seed), k, test, given, time)
    free = rows[given == FREE]
    times = time[given == FREE] if time is not None else None
    require_parts(job, labels.carried.take(free), fold[free], unit[free], k, test, times)
    sizes = part_sizes(fold[free], unit[free], k, test, times)
    renumbered = np.unique(unit[rows], return_inverse=True)[1]
    placed_unit = np.full(store.rows, -1, np.int64)
    placed_unit[rows] = renumbered
    return Decided(
        books=books,
        labels=labels,
        near=near,
        placed=Placed(labels.label_id, placed_unit, fold),
        k=k,
        findings=[*findings, sizes],
        wrong_labels=wrong,
        proof=_proof(job, store, rows, fold[rows], renumbered, near, given, time),
    )


def _keys(store: RowStore, rows: Array, seed: int) -> Array:
    """A stable random number per row, from its group or else its text, and the seed; so rows that come later move few
    old ones, also those of a customer who writes again."""
    codes, names = store.codes("group")
    groups = text_keys(names) if names else np.zeros(1, np.uint64)
    grouped = np.array([name != "" for name in names] or [False])[codes]
    content = np.where(grouped, groups[codes], store.text_key)[rows]
    return spread(content ^ spread(np.full(1, seed, np.uint64)))


def _proof(
    job: Job, store: RowStore, rows: Array, fold: Array, unit: Array, near: Near, given: Array, time: Array | None
) -> list[dict[str, Any]]:
    groups = _groups(store)[rows] if job.config.data.group else None
    place = np.full(store.rows, -1, np.int64)
    place[rows] = np.arange(len(rows))
    pairs = place[near.pairs]
    looked_for = job.config.data.audit.similarity < 1
    kept = pairs[(pairs >= 0).all(axis=1)]
    return proof(fold, unit, groups, store.text_key[rows], kept if looked_for else None, given, time)


def _leave_out_unseen(job: Job, store: RowStore, books: Books, labels: Labels) -> None:
    """Rows of held-out files with a label that no training row has: an error, unless the person wants them left out."""
    rows = np.flatnonzero(labels.has_unseen & books.alive)
    action = job.config.data.audit.unseen_labels
    if len(rows) and action == "fail":
        shown = ", ".join(map(repr, labels.unseen[:5]))
        raise DataError(
            f"{store.values('source', rows[:1])[0]}:{store.values('line', rows[:1])[0]}: label never seen in training: "
            f"{shown} ({len(rows)} rows)",
            "Add training rows with it, correct its spelling, or set data.audit.unseen_labels: drop.",
        )
    details = tuple("no training row has this label" for _ in rows)
    books.apply(Found("unseen_label", rows, np.full(len(rows), -1), details), action)


def _require_rows(store: RowStore, books: Books) -> None:
    if not (books.alive & (store.origin == TRAIN)).any():
        reasons = ", ".join(f"{reason} {count}" for reason, count in books.counts(quarantined=False).items())
        raise DataError(
            f"no usable row: {store.rows} read, all rejected ({reasons or 'the files hold no rows'})",
            _first_left_out(store, books),
        )


def _require_own_parts(job: Job, store: RowStore, books: Books) -> None:
    """Refuse a file of the person's own of which nothing is left: another part must not silently stand in for it."""
    data = job.config.data
    for origin, key, brought in ((VALIDATION, "validation", data.validation), (TEST, "test", data.test)):
        mine = store.origin == origin
        if (brought is not None or mine.any()) and not (mine & books.alive).any():
            raise DataError(
                f"{job.where('data', key)}: data.{key}: no usable row: {mine.sum()} read, all left out",
                f"{_first_left_out(store, books, mine)} Mend the rows, or leave data.{key} out.".strip(),
            )


def check_ceiling(job: Job, store: RowStore, books: Books) -> None:
    """Raise DataError when more rows were left out than `max_rejected` allows."""
    left, total = books.left_out, store.rows
    ceiling = job.config.data.audit.max_rejected
    if left / total > ceiling:  # as people reckon: 0.29 * 100 is less than 29
        counts = {**books.counts(quarantined=False), **books.counts(quarantined=True)}
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items())
        raise DataError(
            f"{left} of {total} rows rejected ({left / total:.1%}), more than data.audit.max_rejected ({ceiling}): "
            f"{reasons}",
            f"{_first_left_out(store, books)} Mend them, or raise data.audit.max_rejected.",
        )


def _first_left_out(store: RowStore, books: Books, among: Array | None = None) -> str:
    """Place and reason of the first row that was left out; among: bool, shape (rows,)."""
    rows = np.flatnonzero(~books.alive if among is None else ~books.alive & among)[:1]
    if not len(rows):
        return ""
    source, line = store.values("source", rows)[0], store.values("line", rows)[0]
    reasons, details = books.explain(rows)
    return f"The first: {source}:{line}: {reasons[0]}" + (f" ({details[0]})." if details[0] else ".")


def _require_labels(job: Job, labels: Labels) -> None:
    where = job.where("data", "label")
    if labels.kind in {SINGLE, SEVERAL} and len(labels.names) < 2:
        raise DataError(
            f"{where}: data.label: only one class: every row is labelled {labels.names[0]!r}",
            "A classifier needs two or more; is that the label column?",
        )
    if labels.kind == TAGS and not labels.names:
        raise DataError(f"{where}: data.label: no row has an entity", "Is that the column with the tags or spans?")
