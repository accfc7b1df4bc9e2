"""The data audit as the page shows it: the row equation, the parts, the proof that nothing leaks, the odd rows."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from raysft.report.facts import PARTS, ReportFacts

REASONS = {
    "blank_text": "blank text",
    "missing_label": "no label",
    "missing_group": "no group",
    "conflicting_labels": "conflicting labels",
    "leakage": "also in a held-out file",
    "duplicate": "duplicate",
    "malformed_csv": "malformed CSV",
    "malformed_json": "malformed JSON",
    "wrong_field_count": "wrong number of fields",
    "not_utf8": "not UTF-8",
}
EXAMPLES_EACH = 4  # rejected rows shown of each reason


class PartRow(NamedTuple):
    """One part: its rows, their share of the kept rows, and how many labels it has."""

    name: str
    rows: int
    share: float
    labels: int


class Proof(NamedTuple):
    """One way a row could leak, and how often it does; None where it was not looked for, with the reason."""

    what: str
    found: int | None
    note: str


def reason_name(reason: str) -> str:
    """A reason in plain words."""
    return REASONS.get(reason, reason.replace("_", " "))


def terms(audit: dict[str, Any]) -> list[tuple[str, int]]:
    """What the rows read consist of: kept, then rejected by reason. The numbers add up to the rows read."""
    found = audit.get("rows")
    if not found:
        return []
    rejected = {reason_name(reason): number for reason, number in found["rejected"].items()}
    left = found["read"] - found["kept"] - sum(rejected.values())
    return [("kept", found["kept"]), *rejected.items(), *([("unaccounted for", left)] if left else [])]


def part_rows(audit: dict[str, Any]) -> list[PartRow]:
    """Rows and labels of train, validation and test."""
    parts = audit.get("parts", {})
    total = max(1, sum(parts.values()))
    return [PartRow(name, parts.get(name, 0), parts.get(name, 0) / total, _labels_in(audit, name)) for name in PARTS]


def _labels_in(audit: dict[str, Any], part: str) -> int:
    return sum(counts.get(part, 0) > 0 for counts in audit.get("labels", {}).values())


def proofs(facts: ReportFacts) -> list[Proof]:
    """Every check for rows that stand on both sides of a split."""
    crossings = facts.audit.get("crossings")
    if crossings is None:
        return []
    group = facts.group_column
    lines = [
        Proof(f"Groups ({group})", crossings["group"], "whole groups stay together")
        if group
        else Proof("Groups", None, "no group column is set"),
        Proof("Texts", crossings["text"], "case and spacing aside"),
        _near(facts, "Near-duplicate pairs", crossings["near_duplicate"], "kept in the same fold"),
    ]
    return lines + (_proofs_of_given_files(facts) if given_files(facts) else [])


def _proofs_of_given_files(facts: ReportFacts) -> list[Proof]:
    present = facts.audit.get("still_present", {}).get("leakage", 0)
    pairs = facts.audit.get("near_duplicate_pairs", {}).get("between_train_and_given_files", 0)
    lines = [
        Proof("Texts also in your held-out files", present, "case and spacing aside"),
        _near(facts, "Near-duplicate pairs with your held-out files", pairs, "your files are left as they are"),
    ]
    if facts.group_column:
        shared = facts.audit.get("shared_with_given_files", {}).get("group")
        what = f"Groups ({facts.group_column}) also in your held-out files"
        lines.append(Proof(what, shared, "your files are left as they are"))
    return lines


def _near(facts: ReportFacts, what: str, found: int, note: str) -> Proof:
    threshold = facts.setting("data", "audit", "near_duplicates")
    if threshold is None:
        return Proof(what, found, note)
    if threshold >= 1:
        return Proof(what, None, "data.audit.near_duplicates is 1, which turns the search off")
    return Proof(what, found, f"overlap of {threshold:g} or more; {note}")


def given_files(facts: ReportFacts) -> bool:
    """Whether the person brought validation or test files, which keep their rows whatever they hold."""
    named = facts.setting("data", "validation") or facts.setting("data", "test")
    between = facts.audit.get("near_duplicate_pairs", {}).get("between_train_and_given_files", 0)
    return bool(named or between or facts.audit.get("still_present", {}).get("leakage", 0))


def leak_statement(checks: list[Proof]) -> tuple[str, bool]:
    """(sentence, clean) over all checks that were made."""
    found = [check for check in checks if check.found]
    if found:
        listed = "; ".join(f"{check.what[0].lower()}{check.what[1:]}: {check.found}" for check in found)
        return f"Rows stand on both sides of a split ({listed}). Scores on these rows are too good.", False
    skipped = any(check.found is None for check in checks)
    return (
        f"Nothing leaks: no {'check that was made' if skipped else 'check'} found a row on both sides of a split.",
        True,
    )


def still_present(audit: dict[str, Any]) -> list[tuple[str, int]]:
    """Findings that the settings only report, and whose rows therefore train."""
    found = audit.get("still_present", {})
    return [(reason_name(name.rstrip("s") if name == "duplicates" else name), n) for name, n in found.items() if n]


def rejected_examples(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """The first few rejected rows of each reason, in the order of the files."""
    shown: Counter[str] = Counter()
    examples = []
    for row in audit.get("rejected_examples", []):
        shown[row["reason"]] += 1
        if shown[row["reason"]] <= EXAMPLES_EACH:
            examples.append({**row, "reason": reason_name(row["reason"])})
    return examples
