"""What each part of the audit page shows, from audit.json alone; a key that is missing leaves its part out.

Keys that are read (all but `rows` may be missing or null):
  task, columns, sources[path origin format encoding rows kept], rows{read kept rejected quarantined}
  folds{fold: rows}, labels{label: {fold: rows}}; or parts{part: rows}, labels_by_part{label: {part: rows}} instead
  findings[as raysft.audit.finding.Finding], proof[what checked crossing note]
  lengths{mean p50 p90 p99 max cut cut_share max_length enough histogram{edges counts}}
  language{sampled sure shares parts}, scripts{script: rows}
  drift{between labels words lengths} as raysft.audit.drift gives them
  wrong_labels{looked_at of disagrees by_pair[given suggested count] examples[text label suggested probability where]}
  near_duplicates{similarity clusters rows largest skipped examples[rows where texts labels]}
  rejected_examples[where reason detail text label], settings{section: {key: value}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from raysft.report.numbers import count, percent, plural
from raysft.report.reasons import reason_name

Audit = Mapping[str, Any]

FOLD_NAMES = {"-1": "test", "-2": "validation (your file)"}
DONE = {
    "drop": "left out",
    "quarantine": "left out, in quarantine.csv",
    "report": "reported only",
    "fail": "would stop the job",
    "": "",
}
# Reasons that read badly as they are named.
ORDER = {"warning": 0, "note": 1, "fine": 2}
REJECTED_EACH = 5  # rows shown of each reason
SHARES_SHOWN = 8  # languages, scripts


class Slice(NamedTuple):
    """One piece of the bar of the books."""

    name: str
    rows: int
    style: str  # kept | quarantined | rejected


class LabelBar(NamedTuple):
    """One label: rows per part, as numbers and as shares of the largest label in percent."""

    label: str
    rows: list[int]
    widths: list[float]
    total: int


class PartRow(NamedTuple):
    """One fold or part: its rows, their share, and how many labels it has."""

    name: str
    rows: int
    share: float
    labels: int


def slices(audit: Audit) -> list[Slice]:
    """What the rows read consist of; adds up to them."""
    rows = audit["rows"]
    found = [Slice("kept", rows["kept"], "kept")]
    for style in ("quarantined", "rejected"):
        found += [Slice(reason_name(reason), n, style) for reason, n in (rows.get(style) or {}).items()]
    left = rows["read"] - sum(each.rows for each in found)
    return [*found, *([Slice("unaccounted for", left, "rejected")] if left else [])]


def findings(audit: Audit) -> list[dict[str, Any]]:
    """All findings, the gravest first, with `done` in words."""
    found = [{**each, "done": done(each)} for each in audit.get("findings") or []]
    return sorted(found, key=lambda each: ORDER.get(each["level"], 0))


def finding(audit: Audit, name: str) -> dict[str, Any] | None:
    return next((each for each in audit.get("findings") or [] if each["name"] == name), None)


def done(each: Mapping[str, Any]) -> str:
    """What became of a finding, in words."""
    return DONE.get(each["action"], each["action"]) if each["found"] else ""


def is_open(each: Mapping[str, Any]) -> bool:
    """Whether a finding asks for a person: a warning whose rows still train."""
    return bool(each["level"] == "warning" and each["found"] and each["action"] not in {"drop", "quarantine"})


def crossings(audit: Audit) -> list[dict[str, Any]]:
    """Checks of the proof that found something on both sides of a split."""
    return [each for each in audit.get("proof") or [] if each["crossing"]]


def verdict(audit: Audit) -> tuple[str, str]:
    """(sentence, style good | bad): what must be mended before training."""
    said = [
        f"{each['title'][:1].lower()}{each['title'][1:]} ({_amount(each)})" for each in findings(audit) if is_open(each)
    ]
    said += [f"{each['what']} on both sides of a split ({count(each['crossing'])})" for each in crossings(audit)]
    kept = plural(audit["rows"]["kept"], "row")
    if said:
        return f"Look before you train: {'; '.join(said)}.", "bad"
    notes = sum(each["level"] == "note" for each in findings(audit))
    more = f"; {plural(notes, 'note is', 'notes are')} worth a look" if notes else ""
    return f"Nothing must be mended: {kept} can train{more}.", "good"


def books(audit: Audit) -> str:
    """One sentence about what was kept."""
    rows = audit["rows"]
    left = rows["read"] - rows["kept"]
    if not left:
        return f"All {plural(rows['read'], 'row')} that were read are kept."
    share = percent(left / max(1, rows["read"]))
    return f"{count(rows['kept'])} of {plural(rows['read'], 'row')} are kept; {count(left)} ({share}) are left out."


def _amount(each: Mapping[str, Any]) -> str:
    unit = each["unit"]
    return plural(each["found"], unit[:-1] if unit.endswith("s") else unit, unit)


def rows_of_parts(audit: Audit) -> dict[str, int]:
    """part -> rows: by part where the audit says so, else by fold."""
    if audit.get("parts"):
        return dict(audit["parts"])
    folds = audit.get("folds") or {}
    return {fold_name(fold): folds[fold] for fold in sorted(folds, key=_fold_order)}


def fold_name(fold: str) -> str:
    return FOLD_NAMES.get(fold, f"fold {fold}")


def _fold_order(fold: str) -> tuple[bool, int]:
    return int(fold) < 0, abs(int(fold))


def part_rows(audit: Audit) -> list[PartRow]:
    parts = rows_of_parts(audit)
    total = max(1, sum(parts.values()))
    labels = _labels_by_part(audit)
    found = Counter(part for counts in labels.values() for part, rows in counts.items() if rows)
    return [PartRow(name, rows, rows / total, found[name]) for name, rows in parts.items()]


def _labels_by_part(audit: Audit) -> dict[str, dict[str, int]]:
    if audit.get("labels_by_part"):
        return dict(audit["labels_by_part"])
    labels = audit.get("labels") or {}
    return {label: {fold_name(fold): n for fold, n in counts.items()} for label, counts in labels.items()}


def label_bars(audit: Audit) -> tuple[list[str], list[LabelBar]]:
    """(names of the parts, one bar a label, largest first). All folds count as one part, "folds"."""
    labels = _labels_by_part(audit)
    joined = {label: _joined(counts) for label, counts in labels.items()}
    names = list(dict.fromkeys(name for part in rows_of_parts(audit) for name in _joined({part: 1})))
    most = max((sum(counts.values()) for counts in joined.values()), default=1) or 1
    bars = [_bar(label, [counts.get(name, 0) for name in names], most) for label, counts in joined.items()]
    return names, sorted(bars, key=lambda bar: (-bar.total, bar.label))


def _joined(counts: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, rows in counts.items():
        found["folds" if name.startswith("fold ") else name] += rows
    return dict(found)


def _bar(label: str, rows: list[int], most: int) -> LabelBar:
    return LabelBar(label, rows, [round(100 * each / most, 2) for each in rows], sum(rows))


def suspects(audit: Audit) -> list[dict[str, Any]]:
    """Rows whose label is likely wrong, most likely first: text, label, suggested, where, probability or None."""
    found = (audit.get("wrong_labels") or {}).get("examples")
    if found is not None:
        return [{"probability": None, "suggested": "", **each} for each in found]
    shown = finding(audit, "wrong_labels") or {"examples": []}
    return [{**each, "suggested": each["detail"], "probability": None} for each in shown["examples"]]


def clusters(audit: Audit) -> list[dict[str, Any]]:
    """Clusters of near-duplicates, the largest first, with `mixed`: whether their rows carry different labels."""
    found = (audit.get("near_duplicates") or {}).get("examples") or []
    return [
        {
            "rows": each["rows"],
            "mixed": len(set(each["labels"])) > 1,
            "members": list(zip(each["texts"], each["labels"], each["where"], strict=True)),
        }
        for each in found
    ]


def shares(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """(name, share), largest first; what is beyond the first few counts as one."""
    total = sum(counts.values()) or 1
    ranked = sorted(((name, number / total) for name, number in counts.items()), key=lambda pair: (-pair[1], pair[0]))
    rest = ranked[SHARES_SHOWN:]
    more = [(f"{len(rest)} others", sum(share for _, share in rest))] if rest else []
    return ranked[:SHARES_SHOWN] + more


def language_columns(audit: Audit) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """(parts, one line a language with its share in each), where the sample was large enough to say."""
    section = audit.get("language") or {}
    if not section.get("shares"):
        return [], []
    parts = {name: each["shares"] for name, each in (section.get("parts") or {}).items()} or {"all": section["shares"]}
    names = [name for name, _ in shares(section["shares"])[:SHARES_SHOWN]]
    return list(parts), [(name, [each.get(name, 0.0) for each in parts.values()]) for name in names]


def rejected(audit: Audit) -> list[dict[str, Any]]:
    """One block a reason: its name, all its rows, whether they are in quarantine, and the first of them."""
    rows = audit["rows"]
    found = []
    for style in ("quarantined", "rejected"):
        for reason, number in (rows.get(style) or {}).items():
            examples = [each for each in audit.get("rejected_examples") or [] if each["reason"] == reason]
            found.append(
                {"reason": reason_name(reason), "rows": number, "style": style, "examples": examples[:REJECTED_EACH]}
            )
    return found


def settings(audit: Audit) -> list[tuple[str, str]]:
    """(key, value) of the settings that applied, as a job file writes them."""
    heads = {"audit": "data.audit", "folds": "folds"}
    return [
        (f"{heads.get(section, section)}.{key}", "null" if value is None else str(value))
        for section, values in (audit.get("settings") or {}).items()
        for key, value in values.items()
    ]
