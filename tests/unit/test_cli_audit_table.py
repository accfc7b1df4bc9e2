"""The audit in the terminal reads well in 80 columns and without colour, and shows hostile texts as they are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from raysft.cli.audit_table import audit_table
from tests.unit.test_report_audit_page import HOSTILE, audit_of


def printed(audit: Mapping[str, Any], width: int = 80, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(audit_table(audit))
    return out.getvalue()


def test_books_findings_suspects_and_parts() -> None:
    audit = audit_of()
    text = printed(audit, 200)
    kept = audit["rows"]["kept"]
    assert f"rows: {kept + 13} read = {kept} kept + 1 quarantined (conflicting labels 1)" in text
    assert "12 rejected (duplicate 7, blank text 5)" in text
    assert "Same text, different labels (left out, in quarantine.csv)" in text
    assert "refund -> card 93.4%  t.csv:7" in text
    assert "parts: fold 0: 29; fold 1: 29" in text and "test: 36" in text
    assert "leaks: none, counted over 100 units" in text
    assert "Look before you train: probably wrong labels (2 rows)" in text
    assert "Texts of a held-out file" not in text and "more checks with nothing to do" in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = printed(audit_of(text="a rather long text " * 30, first="a_label_with_a_very_long_name_" * 3), width)
    assert max(map(len, text.splitlines())) <= width
    assert "a rather" in text and "probably wrong labels" in text.lower().replace("\n", " ")


def test_colour_only_repeats_what_the_words_say() -> None:
    plain, coloured = printed(audit_of()), printed(audit_of(), colour=True)
    assert "\x1b[" in coloured and "\x1b[" not in plain
    assert plain.count("warning") == 3 and "note" in plain


def test_texts_are_no_markup_and_stay_on_one_line() -> None:
    text = printed(audit_of(text="[red]stop[/] [/bold] \n\t" + HOSTILE, first="[link=http://x]y[/]"), 300)
    assert "[red]stop[/] [/bold] <script>alert(1)</script>" in text
    assert "[link=http://x]y[/]" in text


def test_ten_suspects_of_many() -> None:
    audit = audit_of()
    audit["wrong_labels"]["examples"] *= 12
    text = printed(audit, 120)
    assert "likely wrong labels, the first 10 of 24" in text
    assert text.count("t.csv:7") + text.count("t.csv:8") == 10


def test_leaks_and_corpora_without_labels() -> None:
    audit = audit_of()
    audit["proof"][0] |= {"crossing": 2, "note": "your files are not moved"}
    assert "leak: units: 2 of 100 (your files are not moved)" in printed(audit)
    assert "leaks: none" not in printed(audit)
    bare = printed({"rows": {"read": 3, "kept": 3, "rejected": {}, "quarantined": {}}})
    assert "rows: 3 read = 3 kept" in bare and "Nothing must be mended: 3 rows can train." in bare
