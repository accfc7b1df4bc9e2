"""Everything that was found, as audit.json holds it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from raysft.audit.balance import label_findings
from raysft.audit.drift import Side, drift_finding, label_drift, length_drift
from raysft.audit.drift_words import choose_rows, word_drift
from raysft.audit.finding import EXAMPLES, Example, Finding
from raysft.audit.language import language_finding, language_section, mixed_words_finding
from raysft.audit.lengths import cut_finding, in_pieces, lengths_section, pieces_finding, short_finding
from raysft.audit.personal import excerpt, excerpts, masked
from raysft.audit.repeats import TEST
from raysft.config import Job
from raysft.config.sections import SEVERAL_PIECES
from raysft.corpus.rows import where
from raysft.errors import DataError
from raysft.folds.assign import SEALED
from raysft.preparation.decide import Decided
from raysft.preparation.rowstore import RowStore
from raysft.preparation.work import Shard
from raysft.reading.columns import Columns

SCHEMA = "raysft.audit/1"
SAMPLE = 1000  # texts of each part, for language: a millisecond each
SHOWN = 200  # rejected rows
LABEL = 80  # characters of a label that are shown: in a conversation it is the whole answer

Array = np.ndarray[Any, Any]


def audit_facts(job: Job, columns: Columns, store: RowStore, decided: Decided) -> dict[str, Any]:
    """audit.json but for the lengths, which tokenizing tells. Raises DataError where a setting is `fail`."""
    books, fold = decided.books, decided.placed.fold
    alive = books.alive
    kept = np.flatnonzero(alive)
    per_label = _per_label(decided, kept)
    parts = {"train": kept[fold[kept] >= 0], "test": kept[fold[kept] == SEALED]}
    settings = job.config.data.audit
    sealed = bool((fold[kept] == SEALED).any() and not (store.origin[kept] == TEST).any())
    label_part = label_findings(per_label, decided.k, sealed, settings.model_dump())
    language = language_section({name: store.texts(_sample(store, rows, SAMPLE)) for name, rows in parts.items()})
    drift, drifted = _drift(job, store, decided, parts)
    findings = [
        *decided.findings,
        *label_part,
        _short(store, kept),
        language_finding(language),
        _mixed(store, kept),
        *drifted,
    ]
    _refuse_failed(findings)
    return {
        "schema": SCHEMA,
        "task": job.config.task,
        "columns": {
            **{role: name for role, name in columns.__dict__.items() if name and role not in _unsaid(job, columns)},
            "guessed": list(columns.guessed),
        },
        "sources": _sources(store, alive),
        "rows": {
            "read": store.rows,
            "kept": len(kept),
            "rejected": books.counts(quarantined=False),
            "quarantined": books.counts(quarantined=True),
        },
        "folds": {str(number): count for number, count in sorted(Counter(fold[kept].tolist()).items())},
        "labels": per_label,
        "findings": [_shown(finding) for finding in findings],
        "near_duplicates": _near(job, store, decided, kept),
        "proof": decided.proof,
        "language": language,
        "scripts": dict(sum((Counter(each.scripts) for each in store.facts), Counter[str]()).most_common()),
        "drift": drift,
        "wrong_labels": decided.wrong_labels,
        "rejected_examples": _rejected(store, decided),
        # Not which fold validates: every choice of it shares this folder.
        "settings": {
            "audit": settings.model_dump(mode="json"),
            "folds": job.config.folds.model_dump(mode="json", exclude={"validation"}),
        },
    }


def with_lengths(facts: dict[str, Any], shards: list[tuple[Shard, dict[str, Any]]], max_length: int) -> dict[str, Any]:
    """audit.json complete: lengths in tokens, as the shards counted them."""
    counts: Counter[int] = Counter()
    for _, shard in shards:
        counts.update({int(length): rows for length, rows in shard["lengths"].items()})
    section = lengths_section(counts, max_length)
    finding = cut_finding(section)
    if facts["task"] in SEVERAL_PIECES:
        section = in_pieces(section, *(sum(shard[name] for _, shard in shards) for name in ("rows", "texts")))
        finding = pieces_finding(section)
    return {**facts, "lengths": section, "findings": [*facts["findings"], finding.to_json()]}


def _shown(finding: Finding) -> dict[str, Any]:
    """A finding as audit.json holds it: whatever check it came from, its examples show no personal data."""
    found = finding.to_json()
    for example in found["examples"]:
        example |= {key: masked(example[key]) for key in ("text", "label", "detail")}
    return found


def _per_label(decided: Decided, kept: Array) -> dict[str, dict[str, int]]:
    """label -> fold -> rows, largest label first."""
    carried = decided.labels.carried.take(kept)
    fold = np.repeat(decided.placed.fold[kept], np.diff(carried.start))
    names = decided.labels.names
    numbers, counts = np.unique(np.stack([carried.ids, fold]), axis=1, return_counts=True)
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for (label, number), count in zip(numbers.T.tolist(), counts.tolist(), strict=True):
        found[names[label]][str(number)] = count
    return dict(sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def _sources(store: RowStore, alive: Array) -> list[dict[str, Any]]:
    ends = np.cumsum([facts.rows for facts in store.facts])
    return [
        {
            "path": facts.path,
            "origin": facts.origin,
            "format": facts.format,
            "encoding": facts.encoding,
            "rows": facts.rows,
            "kept": int(alive[end - facts.rows : end].sum()),
        }
        for facts, end in zip(store.facts, ends.tolist(), strict=True)
    ]


def _sample(store: RowStore, rows: Array, size: int) -> Array:
    """At most `size` of the rows, chosen by their texts alone, in their order."""
    chosen = rows[np.argsort(store.text_key[rows], kind="stable")[:size]]
    return np.sort(chosen)


def _drift(
    job: Job, store: RowStore, decided: Decided, parts: dict[str, Array]
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """How the test part differs from training; nothing where the test part was drawn from the same rows at random."""
    own = bool((store.origin[parts["test"]] == TEST).any())
    if not len(parts["test"]) or not len(parts["train"]) or not (own or job.config.folds.order == "time"):
        return None, []
    seed, names = job.config.folds.seed, decided.labels.names
    rows = _alike(decided, parts, seed)
    first, second = (store.texts(chosen) for chosen in rows)
    units = (decided.placed.unit[rows[0]], decided.placed.unit[rows[1]])
    section = {
        "between": ["train", "test"],
        "labels": label_drift(_carried(decided, parts["train"]), _carried(decided, parts["test"]), names, seed),
        "words": word_drift(first, second, units, seed, decided.placed.label_id[rows[0]]),
        "lengths": length_drift(_words(first, units[0]), _words(second, units[1]), seed),
    }
    return section, [drift_finding(section, job.config.data.audit.drift)]


def _words(texts: list[str], units: Array) -> Side:
    return Side(np.array([len(text.split()) for text in texts], np.int64), units)


def _alike(decided: Decided, parts: dict[str, Array], seed: int) -> tuple[Array, Array]:
    """Rows of training and test to compare by their words: as many of each label on both sides."""
    label = decided.placed.label_id
    first, second = choose_rows(label[parts["train"]], label[parts["test"]], seed)
    return parts["train"][first], parts["test"][second]


def _carried(decided: Decided, rows: Array) -> Side:
    """Every label of the rows, with the unit of its row."""
    carried = decided.labels.carried.take(rows)
    return Side(carried.ids, np.repeat(decided.placed.unit[rows], np.diff(carried.start)))


def _short(store: RowStore, kept: Array) -> Finding:
    rows = kept[store.numbers("one_word")[kept].astype(bool)]
    return short_finding(len(rows), len(kept), _examples(store, rows))


def _mixed(store: RowStore, kept: Array) -> Finding:
    rows = kept[store.numbers("mixed")[kept].astype(bool)]
    return mixed_words_finding(_examples(store, rows), len(rows))


def _examples(store: RowStore, rows: Array) -> list[Example]:
    some = rows[:EXAMPLES]
    return [
        Example(place, excerpt(text), excerpt(label, LABEL))
        for place, text, label in zip(store.where(some), store.texts(some), store.values("label", some), strict=True)
    ]


def _unsaid(job: Job, columns: Columns) -> set[str]:
    """What is no column of these files: a context that JSON rows might have had, and none of the first ones has."""
    looked_for = job.config.data.context is None and "context" not in columns.guessed
    return {"guessed", *(["context"] if looked_for else [])}


def _near(job: Job, store: RowStore, decided: Decided, kept: Array) -> dict[str, Any]:
    """Clusters of near-duplicates among the kept rows, the largest shown."""
    cluster = decided.near.cluster[kept]
    first, sizes = np.unique(cluster, return_counts=True)
    several = sizes > 1
    order = np.argsort(-sizes[several], kind="stable")[:EXAMPLES]
    shown = []
    for number in first[several][order].tolist():
        members = kept[cluster == number][:5]
        shown.append(
            {
                "rows": int((cluster == number).sum()),
                "where": store.where(members),
                "texts": excerpts(store.texts(members)),
                "labels": excerpts(store.values("label", members), LABEL),
            }
        )
    return {
        "similarity": job.config.data.audit.similarity,
        "clusters": int(several.sum()),
        "rows": int(sizes[several].sum()),
        "largest": int(sizes.max(initial=0)) if several.any() else 0,
        "skipped": decided.near.skipped,  # pairs that share a key and were not compared
        "examples": shown,
    }


def _rejected(store: RowStore, decided: Decided) -> list[dict[str, Any]]:
    """The first rows that were left out, some of every reason."""
    left = np.flatnonzero(~decided.books.alive)
    chosen = np.sort(np.concatenate([left[:0], *(rows[:EXAMPLES] for rows in decided.books.by_reason(left))]))[:SHOWN]
    reasons, details = decided.books.explain(chosen)
    columns = [store.values(name, chosen) for name in ("source", "line", "text", "label")]
    return [
        {
            "where": where(str(Path(source)), line),
            "reason": reason,
            "detail": excerpt(detail),
            "text": excerpt(text),
            "label": excerpt(label, LABEL),
        }
        for source, line, text, label, reason, detail in zip(*columns, reasons, details, strict=True)
    ]


def _refuse_failed(findings: list[Finding]) -> None:
    for finding in findings:
        if (
            finding.action == "fail"
            and finding.level != "fine"
            and finding.name in {"label_names", "small_labels", "drift"}
        ):
            first = finding.examples[0] if finding.examples else None
            shown = f", the first: {first.label or first.where} {first.detail}" if first else ""
            raise DataError(
                f"{finding.title}: {finding.found} {finding.unit}{shown}",
                f"{finding.explanation} Or set data.audit.{finding.name}: report.",
            )
