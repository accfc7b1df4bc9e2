"""The data audit as the run report shows it, short: the books, the parts, the proof that nothing leaks, what was found.

`audit` is raysft.preparation.prepared.Prepared.audit. A key that it lacks leaves its piece out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from raysft.report import audit_blocks
from raysft.report.facts import PARTS, ReportFacts
from raysft.report.numbers import count, percent, plural
from raysft.report.reasons import reason_name

Audit = dict[str, Any]

EXAMPLES_EACH = 3  # rows shown of each reason
SUSPECTS = 5
CHECKS = {
    "groups": "Groups",
    "same texts": "Same texts",
    "units": "Rows that belong together",
    "near-duplicate pairs": "Near-duplicate pairs",
    "units in order of time": "Rows in order of time",
}
UNITS = "by the same text or almost the same text"
FATE = {
    "drop": "The rows are left out.",
    "quarantine": "The rows are left out and stand in quarantine.csv of the data folder.",
}
LENGTHS = {
    "p50": "median {:,}",
    "p90": "90% have at most {:,}",
    "p99": "99% have at most {:,}",
    "mean": "mean {:,}",
    "max": "longest {:,}",
}


class Term(NamedTuple):
    """One piece of the rows read."""

    name: str
    rows: int
    kind: str  # kept | rejected | quarantined | unaccounted for


class PartRow(NamedTuple):
    """One part: its rows, their share of the kept rows, and how many labels it has."""

    name: str
    rows: int
    share: float
    labels: int


class Proof(NamedTuple):
    """One way a row could leak: how many things were looked at, and how many stand on both sides of a split.

    Both are None where it was not looked for; the note says why.
    """

    what: str
    checked: int | None
    found: int | None
    note: str


class FoundRow(NamedTuple):
    """One line of the table of findings."""

    title: str
    found: str
    done: str
    level: str
    explanation: str


class LeftOut(NamedTuple):
    """One row that was left out."""

    text: str
    label: str
    reason: str
    detail: str
    where: str


def terms(audit: Audit) -> list[Term]:
    """What the rows read consist of: kept, rejected by reason, quarantined by reason. Adds up to the rows read."""
    rows = audit.get("rows")
    if not rows:
        return []
    found = [Term("kept", rows["kept"], "kept")]
    for kind, more in (("rejected", ""), ("quarantined", " (quarantined)")):
        found += [Term(reason_name(name) + more, number, kind) for name, number in (rows.get(kind) or {}).items()]
    left = rows["read"] - sum(each.rows for each in found)
    return [*found, *([Term("unaccounted for", left, "unaccounted for")] if left else [])]


def part_rows(audit: Audit) -> list[PartRow]:
    """Rows and labels of train, validation and test; and of those that take no part, such as later ones where folds
    follow time."""
    parts = audit.get("parts") or {}
    total = max(1, sum(parts.values()))
    names = [*PARTS, *(name for name in ("later", "left out") if parts.get(name))]
    return [PartRow(name, parts.get(name, 0), parts.get(name, 0) / total, _labels_in(audit, name)) for name in names]


def _labels_in(audit: Audit, part: str) -> int:
    return sum(counts.get(part, 0) > 0 for counts in (audit.get("labels_by_part") or {}).values())


def proofs(facts: ReportFacts) -> list[Proof]:
    """Every check for rows that stand on both sides of a split, and what was not looked for."""
    checks = facts.audit.get("proof")
    if checks is None:
        return []
    lines = [
        Proof(_named(check["what"], facts), check["checked"], check["crossing"], _note(check, facts))
        for check in checks
    ]
    known = {check["what"] for check in checks}
    if "groups" not in known:
        lines.insert(0, Proof("Groups", None, None, "no group column is set"))
    if "near-duplicate pairs" not in known:
        lines.append(
            Proof("Near-duplicate pairs", None, None, "data.audit.similarity is 1, which turns the search off")
        )
    return _said_once(lines)


def _named(what: str, facts: ReportFacts) -> str:
    key, comma, rest = what.partition(",")
    name = CHECKS.get(key, key[:1].upper() + key[1:])
    column = f" ({facts.group_column})" if key == "groups" and facts.group_column else ""
    return f"{name}{column}{comma}{rest}"


def _note(check: dict[str, Any], facts: ReportFacts) -> str:
    if check["what"] == "units":
        return UNITS + (", or by group" if facts.group_column else "")
    return str(check.get("note") or "")


def _said_once(lines: list[Proof]) -> list[Proof]:
    """Each note only where it stands first."""
    known: set[str] = set()
    found = []
    for line in lines:
        found.append(line._replace(note="") if line.note in known else line)
        known.add(line.note)
    return found


def leak_statement(checks: list[Proof]) -> tuple[str, bool]:
    """(sentence, clean) over all checks that were made."""
    found = [check for check in checks if check.found]
    if found:
        listed = "; ".join(f"{check.what[:1].lower()}{check.what[1:]}: {count(check.found or 0)}" for check in found)
        return f"Rows stand on both sides of a split ({listed}). Scores on these rows are too good.", False
    made = [check for check in checks if check.found is not None]
    if not made:
        return "Nothing was checked for rows on both sides of a split.", True
    skipped = len(made) < len(checks)
    return (
        f"Nothing leaks: no {'check that was made' if skipped else 'check'} found a row on both sides of a split.",
        True,
    )


def findings(audit: Audit) -> list[FoundRow]:
    """What was found at all, warnings first."""
    return [
        FoundRow(
            title=each["title"],
            found=_amount(each["found"], each.get("unit") or "rows"),
            done=each["done"] or "reported only",
            level=each["level"],
            explanation=each.get("explanation") or "",
        )
        for each in audit_blocks.findings(audit)
        if each["found"]
    ]


def quiet(audit: Audit) -> str:
    """One sentence about the checks that found nothing; "" where there are none."""
    found = [each["found"] for each in audit.get("findings") or []]
    number = found.count(0)
    noun = "more check" if number < len(found) else "check"
    return f"{plural(number, noun)} found nothing." if number else ""


def _amount(number: int, unit: str) -> str:
    return plural(number, unit.removesuffix("s"))


def wrong_labels(audit: Audit) -> str:
    """One sentence about labels that are likely wrong; "" where the task has none to judge."""
    section = audit.get("wrong_labels")
    if not section:
        asked = ((audit.get("settings") or {}).get("audit") or {}).get("wrong_labels")
        off = asked == "off" and audit.get("labels")
        return "Wrong labels were not looked for: data.audit.wrong_labels is off." if off else ""
    found = section.get("found", len(section.get("examples") or []))
    looked, of = section.get("looked_at", 0), section.get("of", 0)
    among = plural(looked, "training row") + (f" of {count(of)}" if of > looked else "")
    if not found:
        return f"No label looks wrong among {among} that were looked at."
    finding = audit_blocks.finding(audit, "wrong_labels") or {}
    fate = FATE.get(finding.get("action", ""), "The rows stay as they are.")
    return f"{plural(found, 'label is', 'labels are')} likely wrong, among {among} that were looked at. {fate}"


def suspects(audit: Audit) -> list[dict[str, Any]]:
    """The first rows whose label is likely wrong: text, label, suggested, probability (may be None), where."""
    blank = {"text": "", "label": "", "where": ""}
    return [{**blank, **each} for each in audit_blocks.suspects(audit)[:SUSPECTS]]


def lengths(audit: Audit) -> str:
    """How long the texts are, and how many are cut, as far as it is known."""
    known = audit.get("lengths") or {}
    said = [words.format(known[key]) for key, words in LENGTHS.items() if key in known]
    return " ".join([*([f"Tokens of a text: {', '.join(said)}."] if said else []), *_cut(known)])


def _cut(known: dict[str, Any]) -> list[str]:
    if "cut" not in known:
        return []
    limit = f" at {count(known['max_length'])} tokens" if "max_length" in known else ""
    if not known["cut"]:
        return [f"No text is cut{limit}."]
    share = known.get("cut_share")
    part = "" if share is None else f" ({percent(share) if share >= 0.0005 else 'less than 0.1%'})"
    return [f"{plural(known['cut'], 'text')}{part} {'is' if known['cut'] == 1 else 'are'} cut{limit}."]


def left_out(audit: Audit) -> list[LeftOut]:
    """The first few rows of each reason that were left out, in the order of the files."""
    shown: Counter[str] = Counter()
    examples = []
    for row in audit.get("rejected_examples") or []:
        shown[row["reason"]] += 1
        if shown[row["reason"]] <= EXAMPLES_EACH:
            text, label, detail, where = (str(row.get(key) or "") for key in ("text", "label", "detail", "where"))
            examples.append(LeftOut(text, label, reason_name(row["reason"]), detail, where))
    return examples
