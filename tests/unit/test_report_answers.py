"""The page and the card of a model that writes answers: complete, escaped, and with what differs marked."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.evaluation.evaluation import AnswerBaseline, AnsweredRow, AnswerScores, Evaluation
from raysft.metrics.interval import Estimate
from raysft.report.answers import SHOWN, differing, render_card, render_page, samples, written
from raysft.report.build import write_report
from raysft.report.facts import ReportFacts
from raysft.storage.layout import RunFolder
from tests.support.answering import asked
from tests.support.browser import open_page
from tests.unit.test_report import HOSTILE, estimate, facts_of, history_of

REFERENCE = "I am sorry for the delay. Your parcel left our depot on Monday; it should reach you by Wednesday."
ANSWER = "I am sorry to hear that. Your parcel left our depot on Friday; it should reach you soon."


def row(
    reference: str, answer: str, f1: float, prompt: str = "Where is my parcel?", ended: str = "end mark"
) -> AnsweredRow:
    return AnsweredRow("chats.jsonl:7", asked(prompt), reference, answer, reference == answer, f1, ended, 0.91)


def answered_facts(rows: list[AnsweredRow], test: bool = True, curves: bool = False) -> ReportFacts:
    metrics = {"exact_match": estimate(0.31, 140), "token_f1": estimate(0.62, 140)}
    metrics |= {"loss": Estimate(0.83, 0.79, 0.88, 150), "perplexity": Estimate(2.29, 2.2, 2.41, 150)}
    scores = AnswerScores(metrics, [], [], [], {"end mark": 130, "max_new_tokens": 10}, rows)
    rival = AnswerBaseline(estimate(0.1), estimate(0.22), estimate(0.4))
    evaluation = Evaluation(
        [], scores if test else None, scores, {"commonest_answer": rival}, "test" if test else "validation"
    )
    known = facts_of(curves=False)
    audit = {**known.audit, "labels": {}, "labels_by_part": {}, "wrong_labels": None}
    job = "name: support-answers\ntask: generation\ngeneration: {max_new_tokens: 64, temperature: 0.0}\n"
    history = history_of(3, 20) if curves else []
    return replace(
        known,
        name="support-answers",
        task="generation",
        evaluation=evaluation,
        audit=audit,
        job_yaml=job,
        history=history,
    )


ROWS = [row(REFERENCE, ANSWER, 0.7), row("yes", "", 0.0), row("The same words.", "The same words.", 1.0)]


def test_the_page_and_the_card_say_how_good_the_answers_are() -> None:
    facts = answered_facts(ROWS, curves=True)
    page, card = render_page(facts), render_card(facts)
    said = "Of 140 test answers 31.0% match exactly (95% interval 26.0% to 36.0%); token F1 is 0.620 (0.570 to 0.670)."
    rival = "It is better than the most frequent training answer on the same rows: its token F1 is higher by 0.400"
    for text in (page, card):
        assert said in text and rival in text and "always the likeliest token" in text
        assert "130 (92.9%) with an end mark" in text.replace("\\", "")
    body = page.split("</style>")[1]
    for words in (
        "Exact match",
        "Token F1",
        "Perplexity",
        "n = 150",
        "Data audit",
        "Learning curves",
        "<svg",
        "Job file",
    ):
        assert words in body, words
    for words in ("F1 macro", "Confusion", "macro-F1", "http:", "https:"):
        assert words not in body and words not in card, words
    assert "pipeline_tag: text-generation" in card and "max_new_tokens=64" in card
    assert "| Most frequent training answer |" in card and REFERENCE not in card


def test_what_differs_is_marked_and_an_empty_answer_is_said() -> None:
    body = render_page(answered_facts(ROWS)).split("</style>")[1]
    assert '<mark class="missing">the delay.</mark>' in body or '<mark class="missing">for the delay.</mark>' in body
    assert '<mark class="added">Friday;</mark>' in body and '<mark class="missing">Monday;</mark>' in body
    assert "(empty)" in body and body.count('<article class="sample">') == 3
    assert body.count('good-word">exact match') == 1 and body.count("no exact match") == 3  # one in the explanation


def test_hostile_texts_stay_texts() -> None:
    hostile = row(HOSTILE, HOSTILE[::-1], 0.0, prompt=HOSTILE, ended="max_new_tokens")
    page = render_page(answered_facts([hostile]))
    assert "<script" not in page and "&lt;script&gt;" in page and "cut off at max_new_tokens" in page
    assert render_page(answered_facts([hostile])) == page


def test_long_texts_and_conversations_are_shown_in_part() -> None:
    long = replace(row("x " * 5000, "y " * 5000, 0.0), turns=asked(*[f"turn {at} " * 400 for at in range(9)]))
    (found,) = samples(answered_facts([long]))
    assert found.earlier == 5 and len(found.turns) == 4 and found.turns[-1].role == "user"
    assert sum(len(each.text) for each in found.answer) < SHOWN + 60
    assert "(5 earlier turns)" in render_page(answered_facts([long]))


def test_without_a_scored_part_the_page_says_so() -> None:
    facts = replace(answered_facts([]), evaluation=Evaluation([], None, None, {}, "validation"))
    page, card = render_page(facts), render_card(facts)
    assert "not scored" in page and "No part was scored." in card and samples(facts) == []
    assert written(facts).startswith("Answers were written token by token")


def test_the_validation_part_and_a_temperature_are_said() -> None:
    facts = answered_facts(ROWS, test=False)
    facts = replace(facts, job_yaml=facts.job_yaml.replace("0.0", "0.7"))
    page = render_page(facts)
    assert (
        "drawn at temperature 0.7" in page and "There is no test part" in page and "Of 140 validation answers" in page
    )


def test_a_run_of_this_task_gets_this_page(tmp_path: Path) -> None:
    write_report(answered_facts(ROWS), RunFolder(tmp_path))
    assert "Answers to read" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "text-generation" in (tmp_path / "model_card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1300, 420])
def test_a_browser_shows_it_without_complaint(tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_page(answered_facts(ROWS, curves=True)), encoding="utf-8")
    assert "Answers to read" in open_page(path, tmp_path, width)


@given(st.text(max_size=60), st.text(max_size=60))
def test_pieces_are_the_texts_and_without_the_marked_ones_the_same_words(reference: str, answer: str) -> None:
    mine, theirs = differing(reference, answer)
    assert "".join(each.text for each in mine) == reference and "".join(each.text for each in theirs) == answer
    plain = [re.split(r"\s+", "".join(each.text for each in side if not each.other).strip()) for side in (mine, theirs)]
    assert plain[0] == plain[1]
    for side in (mine, theirs):
        assert all(one.other != next_.other for one, next_ in pairwise(side))


def test_equal_texts_have_no_mark_and_spacing_is_none() -> None:
    assert not any(each.other for side in differing("a  b", "a\nb") for each in side)
    assert all(each.other for side in differing("a b", "c d") for each in side)
