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
    "unseen_label": "label never seen in training",
    "wrong_label": "probably a wrong label",
    "near_leakage": "almost in a held-out file",
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
    left_out = {**found["rejected"], **found.get("quarantined", {})}
    rejected = {reason_name(reason): number for reason, number in left_out.items()}
    left = found["read"] - found["kept"] - sum(rejected.values())
    return [("kept", found["kept"]), *rejected.items(), *([("unaccounted for", left)] if left else [])]


def part_rows(audit: dict[str, Any]) -> list[PartRow]:
    """Rows and labels of train, validation and test."""
    parts = audit.get("parts", {})
    total = max(1, sum(parts.values()))
    return [PartRow(name, parts.get(name, 0), parts.get(name, 0) / total, _labels_in(audit, name)) for name in PARTS]


def _labels_in(audit: dict[str, Any], part: str) -> int:
    return sum(counts.get(part, 0) > 0 for counts in audit.get("labels_by_part", {}).values())


def proofs(facts: ReportFacts) -> list[Proof]:
    """Every check for rows that stand on both sides of a split, and what was not looked for."""
    checks = facts.audit.get("proof")
    if checks is None:
        return []
    lines = [Proof(_named(check["what"], facts), check["crossing"], check["note"]) for check in checks]
    known = {check["what"] for check in checks}
    if "groups" not in known:
        lines.insert(0, Proof("Groups", None, "no group column is set"))
    if "near-duplicate pairs" not in known:
        lines.append(Proof("Near-duplicate pairs", None, "data.audit.similarity is 1, which turns the search off"))
    return lines


def _named(what: str, facts: ReportFacts) -> str:
    name = what[0].upper() + what[1:]
    return name.replace("Groups", f"Groups ({facts.group_column})", 1) if facts.group_column else name


def given_files(facts: ReportFacts) -> bool:
    """Whether the person brought validation or test files, which keep their rows whatever they hold."""
    named = facts.setting("data", "validation") or facts.setting("data", "test")
    return bool(named or any("your files" in check["what"] for check in facts.audit.get("proof") or []))


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


def findings(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found at all, warnings first."""
    found = [each for each in audit.get("findings") or [] if each["found"]]
    return sorted(found, key=lambda each: each["level"] != "warning")


def rejected_examples(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """The first few rejected rows of each reason, in the order of the files."""
    shown: Counter[str] = Counter()
    examples = []
    for row in audit.get("rejected_examples", []):
        shown[row["reason"]] += 1
        if shown[row["reason"]] <= EXAMPLES_EACH:
            examples.append({**row, "reason": reason_name(row["reason"])})
    return examples
