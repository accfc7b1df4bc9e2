"""Scripts are counted exactly; languages only where the guess is sure; English corpora look English."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.audit.finding import Example
from raysft.audit.language import (
    LEAST_TEXTS,
    SAMPLE,
    language_finding,
    language_section,
    languages,
    mixed_words_finding,
    scripts,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
ENGLISH = "I would like to know when my new card will arrive at my home address"
GERMAN = "Ich möchte gerne wissen, wann meine neue Karte bei mir zu Hause ankommt"
FRENCH = "Je voudrais savoir quand ma nouvelle carte arrivera à mon adresse"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("hello", "Latin"),
        ("naïve café, 12 €", "Latin"),
        ("12:30, 5 €", "none"),
        ("", "none"),
        ("🙂🙂", "none"),
        ("привет всем, iPhone", "Cyrillic"),
        ("γειά σου", "Greek"),
        ("مرحبا", "Arabic"),
        ("नमस्ते", "Devanagari"),
        ("我想知道", "Han"),
        ("カードはいつ届きますか", "Japanese"),
        ("카드", "Hangul"),
        ("𝓱𝓮𝓵𝓵𝓸 ｈｅｌｌｏ", "Latin"),
    ],
)
def test_the_dominant_script(text: str, script: str) -> None:
    assert scripts([text])[0] == Counter({script: 1})


def test_look_alikes_within_a_word() -> None:
    counts, mixed = scripts(["open pаypal now", "новый iPhoneом", "Привет world", "plain"])
    assert mixed == [(0, "pаypal")]
    assert counts.total() == 4 and counts["Cyrillic"] >= 1
    finding = mixed_words_finding([Example("t.csv:2", detail="x")], 1)
    assert (finding.level, finding.found) == ("note", 1)
    assert mixed_words_finding([], 0).level == "fine"


@given(st.lists(st.text(max_size=30), max_size=8), st.lists(st.text(max_size=30), max_size=8))
def test_counts_of_batches_add_up(first: list[str], second: list[str]) -> None:
    assert scripts(first)[0] + scripts(second)[0] == scripts(first + second)[0]
    assert scripts(first)[0].total() == len(first)


def test_languages_of_long_texts_only() -> None:
    found = languages([ENGLISH] * 6 + [GERMAN] * 3 + [FRENCH] + ["EMI", "0% EMI.", ""])
    assert found == {"sampled": 10, "sure": 10, "shares": {"en": 0.6, "de": 0.3, "fr": 0.1}}
    assert languages([]) == {"sampled": 0, "sure": 0, "shares": {}}
    assert languages([ENGLISH] * (SAMPLE + 1))["sampled"] <= SAMPLE


def test_one_language_is_fine() -> None:
    finding = language_finding(language_section({"train": [ENGLISH] * 100, "test": [ENGLISH] * 60}))
    assert (finding.level, finding.found) == ("fine", 0)
    assert "en, 100.0% of 160" in finding.explanation


def test_a_second_language_is_a_note_and_a_different_mix_a_warning() -> None:
    mixed = [ENGLISH] * 80 + [GERMAN] * 20
    same = language_section({"train": mixed, "test": mixed})
    assert (language_finding(same).level, same["shares"]) == ("note", {"en": 0.8, "de": 0.2})
    other = language_finding(language_section({"train": mixed, "test": [GERMAN] * 100}))
    assert other.level == "warning" and "differ in 80%" in other.explanation
    few = language_section({"train": mixed, "test": [GERMAN] * (LEAST_TEXTS - 1)})
    assert language_finding(few).level == "note"


def test_nothing_is_said_of_short_texts() -> None:
    finding = language_finding(language_section({"train": ["EMI", "cod available"] * 100, "test": []}))
    assert (finding.level, finding.found) == ("fine", 0) and "Too few" in finding.explanation


@pytest.mark.parametrize(
    ("file", "column", "least"),
    [
        ("banking77/banking_data/train.csv", "text", 0.99),
        ("hint3_v1/train/curekart_train.csv", "sentence", 0.99),
        ("hint3_v1/train/sofmattress_train.csv", "sentence", 0.99),
        ("hint3_v1/test/powerplay11_test.csv", "sentence", 0.97),
    ],
)
def test_english_corpora_look_english(file: str, column: str, least: float) -> None:
    if not SHARED.exists():
        pytest.skip("the real corpora are not on this machine")
    with (SHARED / file).open(encoding="utf-8", newline="") as handle:
        texts = [row[column] for row in csv.DictReader(handle)]
    section = language_section({"train": texts[:1500]})
    assert section["sure"] > 50 and section["shares"]["en"] >= least
    assert language_finding(section).level == "fine"
