"""What is odd about the labels: too few rows, very unlike sizes, names that mean the same, labels missing in a part.

All functions take `labels` as audit.json holds it: label -> fold -> rows. Folds are "-1" for the sealed test part, "-2"
for the person's own validation file, and "0", "1", ... for the folds.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from raysft.audit.finding import EXAMPLES, Example, Finding

Labels = Mapping[str, Mapping[str, int]]
TEST, OWN_VALIDATION = "-1", "-2"
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
TELLING = frozenset("#*%&@")  # punctuation to Unicode, but part of a name
UNLIKE = 10  # times as many rows in the largest label as in the smallest


def label_findings(labels: Labels, k: int, sealed: bool, actions: Mapping[str, str]) -> list[Finding]:
    """All findings about labels; none where there are no labels. actions: of `small_labels` and `label_names`."""
    if not labels:
        return []
    return [
        small_labels(labels, k, sealed, actions["small_labels"]),
        imbalance(labels),
        label_names(labels, actions["label_names"]),
        missing_labels(labels),
    ]


def small_labels(labels: Labels, k: int, sealed: bool, action: str) -> Finding:
    """Labels with fewer rows than there are parts: k folds, and a test part where one is sealed off the same rows."""
    parts = k + sealed
    given = {OWN_VALIDATION} if sealed else {OWN_VALIDATION, TEST}  # the person's own files are where they are
    split = {name: {f: n for f, n in folds.items() if f not in given} for name, folds in labels.items()}
    small = [(name, size) for name, size in _sizes(split) if 0 < size < parts][::-1]
    return Finding(
        name="small_labels",
        title="Labels with few rows",
        found=len(small),
        unit="labels",
        action=action,
        level="warning" if small else "fine",
        explanation=(
            f"There are {parts} parts, and not a row for each; scores of these labels mean little. "
            "Add rows, or join labels."
            if small
            else f"Every label has at least one row for each of the {parts} parts."
            if parts > 1
            else "These rows are not split."
        ),
        examples=tuple(Example("", label=name, detail=_rows(size)) for name, size in small[:EXAMPLES]),
    )


def imbalance(labels: Labels) -> Finding:
    """The largest label against the smallest, over all parts."""
    sizes = _sizes(labels)
    (largest, most), (smallest, least) = sizes[0], sizes[-1]
    ratio = most / max(1, least)
    unlike = len(sizes) > 1 and ratio > UNLIKE
    return Finding(
        name="imbalance",
        title="Labels of unlike size",
        found=sum(size * UNLIKE < most for _, size in sizes),
        unit="labels",
        action="",
        level="note" if unlike else "fine",
        explanation=(
            f"The largest label has {ratio:.0f} times the rows of the smallest. A model favours large labels: compare "
            "macro-F1, not accuracy."
            if unlike
            else f"The largest label has {ratio:.1f} times the rows of the smallest."
        ),
        examples=(Example("", label=largest, detail=_rows(most)), Example("", label=smallest, detail=_rows(least))),
    )


def label_names(labels: Labels, action: str) -> Finding:
    """Labels that differ by case, space, punctuation or Unicode form only; the largest of each group first."""
    sizes = dict(_sizes(labels))
    groups = alike(labels)
    return Finding(
        name="label_names",
        title="Labels that look like one",
        found=sum(map(len, groups)),
        unit="labels",
        action=action,
        level="warning" if groups else "fine",
        explanation=(
            "These names differ by case, space or punctuation only, and are learnt apart. Write them alike."
            if groups
            else "No two labels differ only by case, space or punctuation."
        ),
        examples=tuple(_group_example(group, sizes) for group in groups[:EXAMPLES]),
    )


def _group_example(group: list[str], sizes: Mapping[str, int]) -> Example:
    names = sorted(group, key=lambda name: (-sizes[name], name))
    others = ", ".join(f"{name!r} ({_rows(sizes[name])})" for name in names[1:])
    return Example("", label=names[0], detail=f"{_rows(sizes[names[0]])}; also written {others}")


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels with the same letters, digits and signs, after NFKC and casefold.

    Spaces and punctuation aside, but for what sets names apart: `C`, `C++` and `C#` differ, and so do `1` and `-1`.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[_folded(label)].append(label)
    return sorted(sorted(names) for names in groups.values() if len(names) > 1)


def _folded(label: str) -> str:
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()).strip()
    if NUMBER.fullmatch(plain):
        return plain
    return "".join(c for c in plain if c in TELLING or unicodedata.category(c)[0] not in "ZPC") or plain


def missing_labels(labels: Labels) -> Finding:
    """Labels that some part lacks: not to be learnt (no training row, or all in one fold), or not to be measured."""
    parts = {fold for folds in labels.values() for fold, rows in folds.items() if rows}
    found = [(name, _lack(folds, parts)) for name, folds in labels.items()]
    found = sorted((name, lack) for name, lack in found if lack)
    unlearnable = [pair for pair in found if "learnt" in pair[1]]
    return Finding(
        name="missing_labels",
        title="Labels missing in a part",
        found=len(found),
        unit="labels",
        action="",
        level="warning" if unlearnable else "note" if found else "fine",
        explanation=(
            "What has no training row is always answered wrong; what has no test row is not measured."
            if found
            else "Every label stands in training and test."
        ),
        examples=tuple(
            Example("", label=name, detail=lack)
            for name, lack in [*unlearnable, *(pair for pair in found if pair not in unlearnable)][:EXAMPLES]
        ),
    )


def _lack(folds: Mapping[str, int], parts: set[str]) -> str:
    """What is missing of a label, in words; "" where nothing is. parts: folds in which any label has rows."""
    mine = {fold for fold, rows in folds.items() if rows}
    training, mine_training = parts - {TEST, OWN_VALIDATION}, mine - {TEST, OWN_VALIDATION}
    if not mine_training:
        return "no training row: cannot be learnt"
    if len(training) > 1 and len(mine_training) == 1:
        return f"all training rows in fold {next(iter(mine_training))}: cannot be learnt while it validates"
    if TEST in parts and TEST not in mine:
        return "no test row: not measured"
    return ""


def _sizes(labels: Labels) -> list[tuple[str, int]]:
    """(label, rows in all parts), largest first, then by name."""
    sizes = [(name, sum(folds.values())) for name, folds in labels.items()]
    return sorted(sizes, key=lambda pair: (-pair[1], pair[0]))


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
