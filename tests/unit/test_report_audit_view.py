"""The data section of the run report and of the card: the books add up, leaks are said, what is missing is left out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raysft
from raysft.preparation.books import OTHER
from raysft.report import audit_view
from raysft.report.audit_view import PartRow, leak_statement, proofs
from raysft.report.facts import ReportFacts
from raysft.report.html import render_html
from raysft.report.markdown import render_card
from raysft.report.reasons import REASONS, reason_name
from raysft.report.verdict import caveat, equation
from tests.unit.test_report import HOSTILE, TEXT, facts_of

PACKAGE = Path(raysft.__file__).parent
RAISED = re.compile(r"""(?:Unusable|Found)\(\s*"([a-z_0-9]+)"|refuse\([^()"]*?"([a-z_0-9]+)\"""")
ROLES = ("text", "label", "context", "group", "time", "split")
OPTIONAL = tuple(facts_of().audit)
COUNTS = st.dictionaries(st.sampled_from(sorted(REASONS)), st.integers(1, 10**6), max_size=6)


def with_audit(**changes: Any) -> ReportFacts:
    facts = facts_of()
    return replace(facts, audit={**facts.audit, **changes})


def data_section(facts: ReportFacts) -> str:
    """The text of the section without its tags."""
    section = render_html(facts).split('<section id="audit">')[1].split("</section>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", section.replace("<wbr>", "")).split())


# --- books


@given(kept=st.integers(0, 10**6), rejected=COUNTS, quarantined=COUNTS, lost=st.integers(0, 3))
def test_the_books_add_up_to_the_rows_read(
    kept: int, rejected: dict[str, int], quarantined: dict[str, int], lost: int
) -> None:
    read = kept + sum(rejected.values()) + sum(quarantined.values()) + lost
    audit = {"rows": {"read": read, "kept": kept, "rejected": rejected, "quarantined": quarantined}}
    terms = audit_view.terms(audit)
    assert sum(term.rows for term in terms) == read
    assert len(terms) == 1 + len(rejected) + len(quarantined) + (lost > 0)
    left, right = equation(audit).split(" = ")
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", right)]
    assert left.startswith(f"{read:,} row") and sum(numbers) == read


def test_page_and_card_say_what_became_of_every_row() -> None:
    said = data_section(facts_of())
    assert "1,000 rows read = 985 kept + 5 duplicate + 3 blank text + 7 likely wrong label (quarantined)" in said
    card = render_card(facts_of())
    assert "1,000 rows read = 985 kept + 8 rejected + 7 quarantined: duplicate 5, blank text 3, likely wrong" in card
    assert "audit.html" in said


def test_every_reason_that_a_row_can_have_is_said_in_words() -> None:
    files = [file for part in ("reading", "corpus", "preparation") for file in sorted((PACKAGE / part).glob("*.py"))]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    found = {first or second for first, second in RAISED.findall(source)} | set(OTHER)
    found |= {f"{role}_is_not_text" for role in ROLES} | {
        "malformed_json",
        "not_utf8",
        "bad_bytes",
        "sentence_too_long",
    }
    assert len(found) > 30
    assert found <= set(REASONS), found - set(REASONS)
    assert set(REASONS) <= found, set(REASONS) - found
    assert not any("_" in name for name in REASONS.values())
    assert reason_name("never_heard_of") == "never heard of"


# --- parts


def test_rows_that_time_left_unused_are_a_part_only_where_there_are_some() -> None:
    assert [part.name for part in audit_view.part_rows(facts_of().audit)] == ["train", "validation", "test"]
    later = with_audit(parts={"validation": 100, "train": 500, "test": 200, "later": 200})
    assert audit_view.part_rows(later.audit)[-1] == PartRow("later", 200, 0.2, 0)
    assert "later (unused" in data_section(later) and "| later | 200 | 20.0% | 0 |" in render_card(later)
    assert "later" not in data_section(facts_of())


def test_a_task_without_labels_has_no_column_for_them() -> None:
    without = with_audit(labels={}, labels_by_part={})
    assert "Labels in it" in data_section(facts_of()) and "Labels in it" not in data_section(without)
    assert "| part | rows | share |\n|---|--:|--:|\n| train | 700 | 71.1% |\n" in render_card(without)


# --- leaks


def test_what_was_not_looked_for_is_said() -> None:
    checks = [{"what": "same texts", "checked": 9, "crossing": 0, "note": ""}]
    facts = replace(with_audit(proof=checks), group_column=None)
    assert [(proof.what, proof.found) for proof in proofs(facts)] == [
        ("Groups", None),
        ("Same texts", 0),
        ("Near-duplicate pairs", None),
    ]
    said = data_section(facts)
    assert "Groups – not checked no group column is set" in said
    assert "Near-duplicate pairs – not checked data.audit.similarity is 1" in said
    assert "no check that was made found" in said and "Same texts 9 0" in said


def test_a_check_that_crosses_warns_everywhere() -> None:
    note = "such rows are not moved"
    more = [{"what": f"{what}, your files", "checked": 50, "crossing": 3, "note": note} for what in ("units", "groups")]
    facts = with_audit(proof=[*facts_of().audit["proof"], *more])
    sentence, clean = leak_statement(proofs(facts))
    assert not clean and "rows that belong together, your files: 3; groups (customer_id), your files: 3" in sentence
    assert sentence in data_section(facts) and "see the data audit" in caveat(facts)
    assert "scores are too good; see training data" in render_card(facts)
    assert data_section(facts).count(note) == 1


def test_without_any_check_nothing_is_claimed() -> None:
    empty, missing = replace(with_audit(proof=[]), group_column=None), with_audit(proof=None)
    assert "Nothing was checked" in data_section(empty)
    assert "Nothing leaks" not in data_section(empty) + data_section(missing) + render_card(empty) + render_card(
        missing
    )


# --- findings


def test_findings_that_found_something_are_listed_and_the_others_counted() -> None:
    said = data_section(facts_of())
    assert "Labels that look like one Write them alike. 2 labels reported only warning" in said
    assert "Exact duplicates It only adds weight. 1 row left out note" in said
    assert "Texts cut at max_length" not in said and "1 more check found nothing." in said
    assert "- Exact duplicates: 1 row, left out" in render_card(facts_of())
    assert "2 checks found nothing." in data_section(with_audit(findings=[facts_of().audit["findings"][-1]] * 2))


def test_likely_wrong_labels_are_one_sentence_and_five_rows() -> None:
    facts = facts_of()
    said = data_section(facts)
    assert (
        "7 labels are likely wrong, among 700 training rows of 710 that were looked at. The rows are left out" in said
    )
    assert "t.csv:24" in said and "t.csv:25" not in said
    card = render_card(facts)
    assert "7 labels are likely wrong" in card and TEXT not in card
    facts.audit["wrong_labels"].update(found=0, examples=[])
    assert "No label looks wrong among 700" in data_section(facts)


def test_wrong_labels_that_were_not_looked_for() -> None:
    off = {"audit": {"wrong_labels": "off"}}
    assert "Wrong labels were not looked for" in data_section(with_audit(wrong_labels=None, settings=off))
    assert "Wrong labels" not in data_section(with_audit(wrong_labels=None, settings=off, labels={}))
    assert "rong labels were" not in data_section(with_audit(wrong_labels=None))


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ({}, ""),
        ({"p50": 1200, "max": 9000}, "Tokens of a text: median 1,200, longest 9,000."),
        ({"cut": 1, "cut_share": 0.0001, "max_length": 8}, "1 text (less than 0.1%) is cut at 8 tokens."),
        ({"cut": 20, "cut_share": 0.02, "max_length": 8}, "20 texts (2.0%) are cut at 8 tokens."),
        ({"mean": 2.5, "cut": 0}, "Tokens of a text: mean 2.5. No text is cut."),
    ],
)
def test_lengths_say_what_is_known(lengths: dict[str, Any], said: str) -> None:
    assert audit_view.lengths({"lengths": lengths}) == said


def test_a_few_rows_of_each_reason_are_shown() -> None:
    row = {"where": "t.csv:1", "reason": "bad_tag", "text": "x"}
    shown = audit_view.left_out({"rejected_examples": [row] * 9 + [{**row, "reason": "leakage", "label": None}]})
    assert [each.reason for each in shown] == ["malformed tag"] * 3 + ["also in a held-out file"]


# --- whatever the audit holds


@given(missing=st.sets(st.sampled_from(OPTIONAL)), empty=st.sets(st.sampled_from(OPTIONAL)))
def test_any_key_may_be_missing(missing: set[str], empty: set[str]) -> None:
    facts = facts_of()
    audit = {key: None if key in empty else value for key, value in facts.audit.items() if key not in missing}
    facts = replace(facts, audit=audit)
    said = data_section(facts)
    assert ("rows read" in said) == (audit.get("rows") is not None)
    assert ("Tokens of a text" in said) == (audit.get("lengths") is not None)
    assert "## Training data" in render_card(facts) and "None" not in said


def test_texts_labels_and_places_of_the_audit_are_escaped() -> None:
    facts = facts_of(text=HOSTILE, first="<script>alert(1)</script>")
    audit = facts.audit
    audit["rejected_examples"][0].update(where=HOSTILE, detail=HOSTILE, label=HOSTILE)
    audit["wrong_labels"]["examples"][0].update(where=HOSTILE, suggested=HOSTILE)
    audit["findings"][0].update(title=HOSTILE, explanation=HOSTILE)
    audit["proof"][0].update(what=HOSTILE, note=HOSTILE, crossing=1)
    audit["rows"]["rejected"][HOSTILE] = 1
    assert "<script>alert" not in render_html(facts) + render_card(facts)
