"""What is wrong with a corpus: repeated texts, contradicting labels, test texts in training, odd labels and lengths."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.config.sections import AuditSection
from raysft.corpus.rows import TEST, TRAIN, same_text, where
from raysft.errors import DataError


def mark_rejected(rows: pa.Table, settings: AuditSection) -> pa.Table:
    """Give a reason to rows of `train` that repeat, contradict or leak, as the settings say.

    Rows of the person's own test file are only checked for readability: a score belongs to the very rows that were
    named. Those of a validation file too, but that a text of the test file leaks. Raises DataError where a setting
    is `fail`.
    """
    table = _Findings(rows)
    if settings.conflicts != "report":
        table.reject(table.conflicts(), "conflicting_labels", settings.conflicts)
    if settings.leakage != "report":
        table.reject(table.leaks(), "leakage", settings.leakage)
    if settings.duplicates == "drop":
        table.reject(table.duplicates(), "duplicate", "drop")
    return table.rows()


def findings(rows: pa.Table) -> dict[str, int]:
    """How many kept rows of `train` still repeat, contradict or leak."""
    table = _Findings(rows)
    return {
        "duplicates": len(table.duplicates()),
        "conflicting_labels": len(table.conflicts()),
        "leakage": len(table.leaks()),
    }


class _Findings:
    """Rows as columns, grouped by their text."""

    def __init__(self, rows: pa.Table) -> None:
        self._table = rows
        self._columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
        self._reason: list[str | None] = list(self._columns["reason"])
        self._detail: list[str] = list(self._columns["detail"])
        self._by_text: dict[str, list[int]] = defaultdict(list)
        for index, text in enumerate(self._columns["text"]):
            if self._reason[index] is None:
                self._by_text[same_text(text)].append(index)

    def rows(self) -> pa.Table:
        table = self._table
        for name, values in (("reason", self._reason), ("detail", self._detail)):
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
        return table

    def reject(self, found: dict[int, str], reason: str, action: str) -> None:
        if found and action == "fail":
            index, detail = next(iter(found.items()))
            raise DataError(
                f"{len(found)} rows: {reason}, the first at {self._where(index)} ({detail})",
                "Mend the data, or choose another action under data.audit.",
            )
        for index, detail in found.items():
            self._reason[index], self._detail[index] = reason, detail

    def conflicts(self) -> dict[int, str]:
        """Rows of train whose text carries different labels, with the other label and its place."""
        found = {}
        for same in self._alive(TRAIN):
            labels = {self._columns["label"][index] for index in same}
            if len(labels) > 1:
                for index in same:
                    other = next(i for i in same if self._columns["label"][i] != self._columns["label"][index])
                    found[index] = f"{self._columns['label'][other]!r} at {self._where(other)}"
        return found

    def duplicates(self) -> dict[int, str]:
        """Rows of train that repeat an earlier row, with its place."""
        found = {}
        for same in self._alive(TRAIN):
            first: dict[str, int] = {}
            for index in same:
                label = self._columns["label"][index]
                if label in first:
                    found[index] = f"same as {self._where(first[label])}"
                first.setdefault(label, index)
        return found

    def leaks(self) -> dict[int, str]:
        """Rows of train, and of validation against test, whose text also stands in a held-out file."""
        found = {}
        for same in self._by_text.values():
            held = [index for index in same if self._columns["origin"][index] != TRAIN]
            test = [index for index in held if self._columns["origin"][index] == TEST]
            for index in same:
                others = held if self._columns["origin"][index] == TRAIN else test
                if others and self._columns["origin"][index] != TEST and self._reason[index] is None:
                    found[index] = f"also at {self._where(others[0])}"
        return found

    def _alive(self, origin: str) -> Iterable[list[int]]:
        for same in self._by_text.values():
            alive = [i for i in same if self._reason[i] is None and self._columns["origin"][i] == origin]
            if len(alive) > 1:
                yield alive

    def _where(self, index: int) -> str:
        return where(self._columns["source"][index], self._columns["line"][index])


def near_duplicates(texts: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """Pairs of texts whose 4-letter pieces overlap by at least `threshold` (Jaccard).

    Candidates come from MinHash with locality-sensitive hashing (datasketch, 128 permutations); each is then checked
    exactly. Returns pairs (i, j), i < j.
    """
    if threshold >= 1:
        return []
    from datasketch import MinHash, MinHashLSH

    pieces = [_pieces(text) for text in texts]
    hashes = MinHash.bulk([[piece.encode() for piece in sorted(each)] for each in pieces], num_perm=128, seed=1)
    # The index is asked at a lower threshold than wanted, since MinHash estimates; the exact check decides.
    index = MinHashLSH(threshold=max(0.2, threshold - 0.35), num_perm=128, weights=(0.1, 0.9))
    pairs = []
    for i, signature in enumerate(hashes):
        for j in index.query(signature):
            overlap = len(pieces[i] & pieces[j]) / max(1, len(pieces[i] | pieces[j]))
            if overlap >= threshold:
                pairs.append((j, i))
        index.insert(i, signature)
    return sorted(pairs)


def _pieces(text: str) -> set[str]:
    letters = "".join(c for c in text.casefold() if c.isalnum() or c == " ")
    letters = " ".join(letters.split()) or text
    return {letters[i : i + 4] for i in range(max(1, len(letters) - 3))}


def label_variants(labels: Iterable[str]) -> list[list[str]]:
    """Labels that differ only by case, spacing or punctuation, and so are probably meant to be one."""
    alike: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        alike["".join(c for c in label.casefold() if c.isalnum()) or label].add(label)
    return sorted(sorted(names) for names in alike.values() if len(names) > 1)


def rejected_by_reason(rows: pa.Table) -> dict[str, int]:
    """reason -> rejected rows, most first."""
    counts = Counter(reason for reason in rows.column("reason").to_pylist() if reason is not None)
    return dict(counts.most_common())


def lengths_summary(lengths: np.ndarray[Any, Any], cut: int) -> dict[str, Any]:
    """Distribution of text lengths in tokens, and how many texts were cut at max_length."""
    if not len(lengths):
        return {"mean": 0.0, "p50": 0, "p90": 0, "p99": 0, "max": 0, "cut": 0, "cut_share": 0.0}
    quantiles = {f"p{q}": int(np.percentile(lengths, q)) for q in (50, 90, 99)}
    return {
        "mean": round(float(lengths.mean()), 1),
        **quantiles,
        "max": int(lengths.max()),
        "cut": cut,
        "cut_share": round(cut / len(lengths), 4),
    }
