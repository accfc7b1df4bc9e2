"""The audit page: complete, escaped, self-contained, readable for many labels and for tasks without any."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from raysft.audit.balance import label_findings
from raysft.audit.finding import Example, Finding
from raysft.audit.lengths import cut_finding, lengths_section
from raysft.report.audit_blocks import label_bars, part_rows, shares, slices, verdict
from raysft.report.audit_page import audit_page, length_plot

HOSTILE = "<script>alert(1)</script> \"quoted\" & 'single' 🙂 مرحبا {{ 7*7 }} </td></table>"
SECTIONS = ["Books", "Findings", "Likely wrong labels", "Near-duplicates", "Labels", "Lengths", "Languages and scripts"]
SECTIONS += ["Personal data", "Test against train", "Parts", "Rows left out", "Settings"]
VOID = {"meta", "br", "wbr", "rect", "path", "use", "hr", "img"}


def drift_of(word: str, label: str) -> dict[str, Any]:
    return {
        "between": ["train", "test"],
        "labels": {
            "n": [800, 200],
            "distance": 0.2,
            "by_chance": 0.03,
            "p_value": 1e-9,
            "most": [{"label": label, "first": 0.3, "second": 0.5}],
        },
        "words": {
            "n": [200, 200],
            "auc": 0.71,
            "low": 0.66,
            "high": 0.75,
            "first": [],
            "second": [{"word": word, "first": 1, "second": 30}],
        },
        "lengths": {"n": [800, 200], "unit": "words", "medians": [12, 20], "distance": 0.3, "by_chance": 0.1},
    }


def findings_of(labels: dict[str, dict[str, int]], lengths: dict[str, Any], text: str) -> list[dict[str, Any]]:
    first = next(iter(labels), "")
    found = [
        Finding("duplicates", "Exact duplicates", 7, "rows", "drop", "note", "", (Example("t.csv:9", text, first),)),
        Finding("conflicts", "Same text, different labels", 1, "rows", "quarantine", "warning", "One must be wrong."),
        Finding("wrong_labels", "Probably wrong labels", 2, "rows", "report", "warning", "Read them."),
        Finding(
            "personal_data", "Personal data", 1, "rows", "report", "warning", "", (Example("t.csv:5", detail="x"),)
        ),
        Finding("leakage", "Texts of a held-out file", 0, "rows", "drop"),
        *label_findings(labels, 5, True, {"small_labels": "report", "label_names": "report"}),
        cut_finding(lengths),
    ]
    return [each.to_json() for each in found]


def audit_of(
    classes: int = 4, text: str = "my card was charged twice", first: str = "refund", plot: bool = False
) -> dict[str, Any]:
    """An audit.json as preparation writes it; `plot` costs half a second a page."""
    names = [first, *(f"intent {index:03}" for index in range(1, classes))]
    labels = {name: {"-1": 9, **{str(fold): 8 - number % 3 for fold in range(5)}} for number, name in enumerate(names)}
    lengths = lengths_section({n: 400 if n < 100 else 1 for n in range(3, 200)}, 128)
    if not plot:
        lengths["histogram"] = {"edges": [0, 1], "counts": [0]}
    suspect = {"where": "t.csv:7", "text": text, "label": first, "suggested": "card", "probability": 0.934}
    kept = sum(sum(counts.values()) for counts in labels.values())
    audit = {
        "schema": "raysft.audit/1",
        "task": "classification",
        "columns": {"text": "text", "label": "label", "guessed": []},
        "sources": [{"path": text[:40], "origin": "train", "format": "csv", "encoding": "utf-8", "rows": 9, "kept": 8}],
        "rows": {"read": kept + 13, "kept": kept, "rejected": {"duplicate": 7, "blank_text": 5}}
        | {"quarantined": {"conflicting_labels": 1}},
        "folds": {fold: sum(counts[fold] for counts in labels.values()) for fold in ("-1", "0", "1", "2", "3", "4")},
        "labels": labels,
        "findings": findings_of(labels, lengths, text),
        "proof": [{"what": "units", "checked": 100, "crossing": 0, "note": ""}],
        "lengths": lengths,
        "language": {"sampled": 90, "sure": 80, "shares": {"en": 0.9, "de": 0.1}},
        "scripts": {"Latin": 990, "Cyrillic": 10},
        "drift": drift_of(text, first),
        "wrong_labels": {
            "looked_at": 500,
            "of": 600,
            "by_pair": [{"given": first, "suggested": "card", "count": 4}],
            "examples": [suspect, {**suspect, "where": "t.csv:8"}],
        },
        "near_duplicates": {
            "skipped": 1234,
            "similarity": 0.8,
            "clusters": 3,
            "rows": 8,
            "largest": 4,
            "examples": [{"rows": 2, "where": ["t.csv:1", "t.csv:2"], "texts": [text, text], "labels": [first, "b"]}],
        },
        "rejected_examples": [
            {"where": "t.csv:9", "reason": "duplicate", "detail": "same as t.csv:2", "text": text, "label": first},
            {"where": "t.csv:12", "reason": "blank_text", "detail": "", "text": "", "label": first},
        ],
        "settings": {"audit": {"duplicates": "drop"}, "folds": {"k": 5, "validation": None}},
    }
    return dict(json.loads(json.dumps(audit)))


class Balanced(HTMLParser):
    """Fails on a tag that closes what was not opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_every_section_in_the_order_in_which_people_ask() -> None:
    page = audit_page(audit_of(plot=True), "support-intents")
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert page.startswith("<!doctype html>") and page == audit_page(audit_of(plot=True), "support-intents")
    parsed(page)
    anchors = re.findall(r'href="#(\w+)"', page)
    assert len(anchors) >= len(SECTIONS) and set(anchors) <= set(re.findall(r'id="(\w+)"', page))


@pytest.mark.parametrize("missing", sorted(set(audit_of()) - {"rows"}))
def test_any_key_but_the_rows_may_be_missing_or_null(missing: str) -> None:
    audit = audit_of()
    del audit[missing]
    without = audit_page(audit, "job")
    parsed(without)
    assert audit_page({**audit, missing: None}, "job") == without


def test_a_generation_corpus_has_neither_labels_nor_suspects() -> None:
    audit = audit_of() | {"task": "generation", "labels": {}, "wrong_labels": None, "drift": None}
    audit["findings"] = [each for each in audit["findings"] if each["name"] != "wrong_labels"]
    page = audit_page(audit, "answers")
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        each for each in SECTIONS if each not in {"Likely wrong labels", "Labels", "Test against train"}
    ]
    assert "prompts with answers" in page and "Labels in it" not in page
    bare = audit_page({"rows": {"read": 0, "kept": 0}}, "bare")
    assert re.findall(r"<h2>(.*?)</h2>", bare) == ["Books", "Findings", "Parts"]


def test_nothing_of_the_person_is_markup() -> None:
    page = audit_page(audit_of(text=HOSTILE, first=HOSTILE), HOSTILE)
    assert "script" not in parsed(page).tags
    assert "{{ 7*7 }}" in page and "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert 'onerror="' not in audit_page(audit_of(first='"><img src=x onerror="alert(1)'), "job")


def test_long_texts_are_cut() -> None:
    page = audit_page(audit_of(text="x" * 10_000, first="y" * 10_000), "job")
    assert max(map(len, re.findall(r"x+", page))) <= 400
    assert max(map(len, re.findall(r"y+", page))) <= 120
    assert "more characters)" in page


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = audit_page(audit_of(text="see https://example.org/a.png", plot=True), "job")
    assert re.findall(r"""(?:src|href|action)=(?!["']?(?:#|data:)).*""", page) == []
    assert re.findall(r"url\((?!#)|@import|<link|<iframe|<script|\son\w+=", page) == []
    assert "default-src 'none'" in page and "script-src" not in page


def test_hundreds_of_labels_scroll_in_a_box() -> None:
    few, many = audit_page(audit_of(4), "job"), audit_page(audit_of(300), "job")
    assert "tall" not in few.split("</style>")[1] and "tall" in many.split("</style>")[1]
    assert "intent 299" in many
    names, bars = label_bars(audit_of(300))
    assert names == ["folds", "test"] and len(bars) == 300
    assert bars[0].total == max(bar.total for bar in bars) and sum(bars[0].widths) == pytest.approx(100, abs=0.1)


def test_rows_read_are_accounted_for() -> None:
    audit = audit_of()
    assert sum(each.rows for each in slices(audit)) == audit["rows"]["read"]
    audit["rows"]["read"] += 2
    assert slices(audit)[-1].name == "unaccounted for" and "unaccounted for" in audit_page(audit, "job")


def test_the_verdict_names_what_a_person_must_mend() -> None:
    sentence, style = verdict(audit_of())
    assert sentence == "Look before you train: probably wrong labels (2 rows); personal data (1 row)."
    assert style == "bad" and sentence in audit_page(audit_of(), "job")
    clean = audit_of()
    clean["findings"] = [
        each for each in clean["findings"] if each["level"] != "warning" or each["name"] == "conflicts"
    ]
    sentence, style = verdict(clean)
    assert sentence.startswith(f"Nothing must be mended: {clean['rows']['kept']} rows can train") and style == "good"
    clean["proof"][0]["crossing"] = 3
    assert verdict(clean) == ("Look before you train: units on both sides of a split (3).", "bad")
    assert "nothing stands on both sides" not in audit_page(clean, "job")


def test_parts_by_fold_or_by_part() -> None:
    audit = audit_of()
    assert [part.name for part in part_rows(audit)] == ["fold 0", "fold 1", "fold 2", "fold 3", "fold 4", "test"]
    assert sum(part.share for part in part_rows(audit)) == pytest.approx(1)
    split = {"train": 20, "validation": 6, "test": 9}
    audit |= {"parts": split, "labels_by_part": {"a": split, "b": {"train": 3}}}
    assert [(part.name, part.labels) for part in part_rows(audit)] == [("train", 2), ("validation", 1), ("test", 1)]
    assert label_bars(audit)[0] == ["train", "validation", "test"]


def test_shares_of_many_scripts_are_summed_up() -> None:
    found = shares({f"script {n:02}": n for n in range(1, 21)})
    assert found[0] == ("script 20", 20 / 210) and found[-1][0] == "12 others"
    assert sum(share for _, share in found) == pytest.approx(1)
    assert shares({}) == []


def test_the_plot_shows_the_cut_where_there_is_one() -> None:
    cut = length_plot(lengths_section({10: 90, 300: 10}, 128))
    assert "cut at 128" in cut and "var(--second)" in cut
    assert "cut at" not in length_plot(lengths_section({10: 90, 30: 10}, 128))
    assert length_plot(lengths_section({}, 128)) == length_plot({}) == ""


def test_chromium_shows_it_without_a_complaint(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    page, picture = tmp_path / "audit.html", tmp_path / "audit.png"
    page.write_text(audit_page(audit_of(100, text=HOSTILE, plot=True), "job"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert picture.exists(), done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
