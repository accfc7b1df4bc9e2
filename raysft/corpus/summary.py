"""What the audit says of a prepared corpus: the numbers of audit.json, and the lines people read."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysft.corpus import audit, folds
from raysft.corpus.rows import TRAIN, same_text, where
from raysft.events import Listener


def summary(
    k: int,
    rows: pa.Table,
    kept: pa.Table,
    fold: np.ndarray[Any, Any],
    pairs: list[tuple[int, int]],
    lengths: np.ndarray[Any, Any],
    cut: int,
) -> dict[str, Any]:
    """The content of audit.json. Counts are per fold, so that any fold may validate; see Prepared.audit."""
    labels = kept.column("label").to_pylist()
    per_label: dict[str, Counter[str]] = {}
    for label, number in zip(labels, fold.tolist(), strict=True):
        per_label.setdefault(label, Counter())[str(number)] += 1
    own = {index for index, origin in enumerate(kept.column("origin").to_pylist()) if origin == TRAIN}
    texts = [same_text(text) for text in kept.column("text").to_pylist()]
    inside = sorted(own)
    bins = [str(fold[index]) for index in inside]
    return {
        "rows": {"read": rows.num_rows, "kept": kept.num_rows, "rejected": audit.rejected_by_reason(rows)},
        "folds": {str(number): int(count) for number, count in sorted(Counter(fold.tolist()).items())},
        "labels": {
            label: dict(per_label[label])
            for label in sorted(per_label, key=lambda each: (-sum(per_label[each].values()), each))
        },
        "small_labels": sorted(label for label, counts in per_label.items() if sum(counts.values()) < k + 1),
        "label_variants": audit.label_variants(per_label),
        "still_present": audit.findings(rows),
        "near_duplicate_pairs": {
            "kept_together": sum(a in own and b in own for a, b in pairs),
            "between_train_and_given_files": sum((a in own) != (b in own) for a, b in pairs),
        },
        "shared_with_given_files": _shared(kept, own),
        "crossings": {
            "group": folds.crossings([kept.column("group")[i].as_py() for i in inside], bins),
            "text": folds.crossings([texts[i] for i in inside], bins),
            "near_duplicate": int(sum(fold[a] != fold[b] for a, b in pairs if a in own and b in own)),
        },
        "tokens": audit.lengths_summary(lengths, cut),
        "rejected_examples": [
            {
                "where": where(row["source"], row["line"]),
                **{key: row[key] for key in ("reason", "detail", "text", "label")},
            }
            for row in rows.filter(pc.is_valid(rows.column("reason"))).slice(0, 200).to_pylist()
        ],
    }


def _shared(kept: pa.Table, own: set[int]) -> dict[str, int]:
    """Groups of data.train that also stand in the person's own validation or test file."""
    sides: dict[str, set[bool]] = {}
    for index, group in enumerate(kept.column("group").to_pylist()):
        if group:
            sides.setdefault(group, set()).add(index in own)
    return {"group": sum(len(side) == 2 for side in sides.values())}


def announce(report: dict[str, Any], labels: int, reused: bool, listener: Listener) -> None:
    """Say what became of the rows, and what deserves a look."""
    if reused:
        listener.note("prepared before")
    counts = report["rows"]
    rejected = sum(counts["rejected"].values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items())
    listener.note(
        f"rows: {counts['read']} read = {counts['kept']} kept + {rejected} rejected"
        + (f" ({reasons})" if reasons else "")
    )
    parts = report["parts"]
    listener.note(
        "parts: "
        + ", ".join(f"{name} {parts.get(name, 0)}" for name in ("train", "validation", "test"))
        + f"; {labels} labels"
    )
    for label in report["small_labels"]:
        listener.warn(f"label {label!r} has fewer rows than there are parts; its scores mean little")
    for label, counts in report["labels"].items():
        if not counts.get("train"):
            listener.warn(f"label {label!r} has no row in the training part and cannot be learnt")
    for names in report["label_variants"]:
        listener.warn(f"labels that look like one: {json.dumps(names, ensure_ascii=False)}")
    shared = report["shared_with_given_files"]["group"]
    if shared:
        listener.warn(
            f"{shared} groups of data.train also stand in your validation or test file; scores may be too good"
        )
    tokens = report["tokens"]
    if tokens["cut_share"] > 0.02:
        listener.warn(f"{tokens['cut']} texts ({tokens['cut_share']:.1%}) are cut at model.max_length")
