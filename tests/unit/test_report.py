"""The page and the model card: complete, escaped, the same bytes each time, and nothing is loaded from anywhere."""

from __future__ import annotations

import html
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysft.evaluation.evaluation import Baseline, ClassScore, Evaluation, LabelSetBaseline, Mistake, Scores
from raysft.metrics.interval import Estimate
from raysft.report.build import write_report
from raysft.report.facts import ReportFacts
from raysft.report.html import render_html
from raysft.report.markdown import plain, render_card
from raysft.report.numbers import clip, rate, score, seconds, signed
from raysft.report.plots import gradient_norm, loss_curves, score_curves
from raysft.report.verdict import BETTER, CHANCE, WORSE, comparison, headline
from raysft.storage.layout import RunFolder

SECTIONS = ["Scores", "Baselines", "Learning curves", "Confusion matrix", "Classes", "Worst mistakes"]
SECTIONS += ["Data audit", "Training", "Job file"]
CARD_SECTIONS = ["Intended use", "Training data", "Scores", "Limits", "How to load it", "Provenance"]
HOSTILE = "<script>alert(1)</script> \"quoted\" & 'single' 🙂 مرحبا {{ 7*7 }} | `code` " + "long" * 400
TEXT = "my card was charged twice <b>today</b>"

# As the files of a run hold them.
PLAN = """{"workers": 1, "micro_batch": 16, "total_steps": 120, "tokens": 40000, "padding_share": 0.1,
  "memory_bytes": 2147483648, "train_s": 70.0, "total_s": 105.0,
  "why": {"steps_per_epoch": "700 rows / batch 24", "train_s": "2 Tflop at 30 Gflop/s"}}"""
OUTCOME = """{"best_step": 90, "last_step": 120, "resumed_from": null, "precision": "fp32", "device": "cpu",
  "examples": 2800, "tokens": 40000, "padded": 45000, "seconds": 66.0, "weights_sha256": "abababab",
  "groups": [{"group": "head", "parameters": 1925, "learning_rate": 0.01, "weight_decay": 0.01}]}"""
FINDINGS = """{"proof": [{"what": "groups", "checked": 300, "crossing": 0, "note": ""},
    {"what": "same texts", "checked": 980, "crossing": 0, "note": ""},
    {"what": "units", "checked": 290, "crossing": 0, "note": ""},
    {"what": "near-duplicate pairs", "checked": 12, "crossing": 0, "note": ""}],
  "findings": [
    {"name": "label_names", "title": "Labels that look like one", "found": 2, "unit": "labels",
      "action": "report", "level": "warning", "explanation": "Write them alike.", "examples": []},
    {"name": "duplicates", "title": "Exact duplicates", "found": 1, "unit": "rows", "action": "drop",
      "level": "note", "explanation": "It only adds weight.", "examples": []},
    {"name": "wrong_labels", "title": "Probably wrong labels", "found": 7, "unit": "rows",
      "action": "quarantine", "level": "warning", "explanation": "Look at them.", "examples": []},
    {"name": "cut", "title": "Texts cut at max_length", "found": 0, "unit": "rows", "action": "",
      "level": "fine", "explanation": "Every text fits.", "examples": []}],
  "lengths": {"unit": "tokens", "mean": 14.2, "p50": 12, "p90": 31, "p99": 60, "max": 140, "cut": 3,
    "cut_share": 0.0003, "max_length": 128}}"""


def estimate(value: float, n: int = 60, half: float = 0.05) -> Estimate:
    return Estimate(value, value - half, value + half, n)


def scores_of(labels: list[str], each: int, text: str) -> Scores:
    """`each` rows a class, one of them taken for the next class."""
    size = len(labels)
    counts = [[0] * size for _ in labels]
    for true in range(size):
        counts[true][true], counts[true][(true + 1) % size] = each - 1, 1
    n = size * each
    metrics = {name: estimate(0.8, n) for name in ("accuracy", "f1_macro", "f1_weighted", "loss", "ece")}
    classes = [
        ClassScore(label, 0.7, 0.8, estimate(0.9 - index / 100, each), each) for index, label in enumerate(labels)
    ]
    return Scores(metrics, classes, counts, [Mistake("t<i>.csv:7", text, labels[0], labels[1], 0.98)])


def history_of(epochs: int, per_epoch: int) -> list[dict[str, Any]]:
    random_ = random.Random(0)
    lines: list[dict[str, Any]] = []
    for step in range(1, epochs * per_epoch + 1):
        loss = 2 * math.exp(-step / 40) + 0.1 * random_.random()
        lines.append(
            {"step": step, "rate": 2e-4, "loss": loss, "grad_norm": 1.0, "epoch": step / per_epoch, "seconds": 1.0}
        )
        if step % per_epoch == 0:
            scores = {"validation_loss": loss + 0.2, "validation_accuracy": 0.8, "validation_f1_macro": 0.79}
            lines.append({"step": step, "epoch": step // per_epoch, "eval_s": 0.5, **scores})
    return lines


def audit_of(labels: list[str], text: str) -> dict[str, Any]:
    return {
        "rows": {
            "read": 1000,
            "kept": 985,
            "rejected": {"duplicate": 5, "blank_text": 3},
            "quarantined": {"wrong_label": 7},
        },
        "parts": {"train": 700, "validation": 145, "test": 140},
        "folds": {"-1": 140, "0": 145, "1": 700},
        "labels": {label: {"-1": 20, "0": 20, "1": 100} for label in labels},
        "labels_by_part": {label: {"train": 100, "validation": 20, "test": 20} for label in labels},
        **json.loads(FINDINGS),
        "wrong_labels": {
            "looked_at": 700,
            "of": 710,
            "found": 7,
            "accuracy": 0.8,
            "by_pair": [{"given": labels[0], "suggested": labels[1], "count": 7}],
            "examples": [
                {"where": f"t.csv:{row}", "text": text, "label": labels[0], "suggested": labels[1], "probability": 0.9}
                for row in range(20, 27)
            ],
        },
        "rejected_examples": [
            {"where": "t.csv:9", "reason": "duplicate", "detail": "same as t.csv:2", "text": text, "label": "a"},
            {"where": "t.csv:12", "reason": "blank_text", "detail": "", "text": "", "label": "a"},
        ],
    }


def facts_of(
    classes: int = 5, test: bool = True, text: str = TEXT, first: str = "refund", curves: bool = False
) -> ReportFacts:
    """A run as its files would tell it; `curves` costs half a second a page."""
    labels = [first, *(f"intent {index:02}" for index in range(1, classes))]
    scores = scores_of(labels, 12, text)
    rival = Baseline(estimate(0.7), estimate(0.69), estimate(0.7), estimate(0.11))
    return ReportFacts(
        name="support-intents",
        task="classification",
        base="owner/base-model",
        base_revision="0123abcd",
        evaluation=Evaluation(
            labels,
            scores if test else None,
            scores,
            {"tfidf_svm": rival, "majority": rival},
            "test" if test else "validation",
        ),
        audit=audit_of(labels, text),
        history=history_of(4, 30) if curves else [],
        plan=json.loads(PLAN),
        outcome=json.loads(OUTCOME),
        timing={"data_s": 8.0, "train_s": 80.0, "evaluate_s": 6.0, "examples_per_s": 42.4},
        job_yaml=f"name: support-intents\nmodel: {{max_length: 128}}\n# {TEXT}\n",
        created="2026-01-31",
        version="0.1.0",
        group_column="customer_id",
    )


def several_labels() -> ReportFacts:
    """The same run, had each row several labels."""
    facts = facts_of()
    names = {"accuracy": 0.41, "f1_micro": 0.82, "f1_macro": 0.83, "loss": 0.31}
    metrics = {name: estimate(value) for name, value in names.items()}
    scores = replace(scores_of(facts.evaluation.labels, 12, TEXT), metrics=metrics, confusion=[])
    rival = LabelSetBaseline(estimate(0.2), estimate(0.69), estimate(0.71), estimate(0.14))
    evaluation = Evaluation(facts.evaluation.labels, scores, scores, {"majority": rival}, "test", 0.43)
    return replace(facts, evaluation=evaluation)


def test_a_time_that_was_not_predicted_is_a_dash_with_its_reason() -> None:
    facts = facts_of()
    why = {**facts.plan["why"], "train_s": "not predicted on a GPU"}
    facts = replace(facts, plan={**facts.plan, "train_s": None, "total_s": None, "why": why})
    page = render_html(facts)
    (row,) = re.findall(r"<tr><td>Training and validation</td>.*?</tr>", page)
    assert ">–</td>" in row and "not predicted on a GPU" in row
    assert ">None<" not in page and "None" not in render_card(facts)


def with_gain(gain: Estimate) -> ReportFacts:
    facts = facts_of()
    rival = replace(facts.evaluation.baselines["tfidf_svm"], gain=gain)
    return replace(facts, evaluation=replace(facts.evaluation, baselines={"tfidf_svm": rival}))


@pytest.mark.parametrize("classes", [5, 40])
@pytest.mark.parametrize("test", [True, False])
def test_page_and_card_have_every_section_in_order(classes: int, test: bool) -> None:
    facts = facts_of(classes, test)
    page = render_html(facts)
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert page.startswith("<!doctype html>")
    assert ("heat-image" in page.split("</style>")[1]) == (classes == 40)
    assert ('<table class="heat"' in page) == (classes == 5)
    assert "Most frequent confusions" in page
    card = render_card(facts)
    assert re.findall(r"^## (.*)$", card, re.M) == CARD_SECTIONS
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("first", "second"):
        run = RunFolder(tmp_path / name)
        write_report(facts_of(40, curves=True), run)
        written.append((run.report.read_bytes(), run.card.read_bytes()))
    assert written[0] == written[1]


def test_texts_of_the_person_are_escaped() -> None:
    page = render_html(facts_of(text=HOSTILE, first="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in page
    assert html.escape("<script>alert(1)</script>").replace("&#x27;", "&#39;") in page
    assert "{{ 7*7 }}" in page
    assert "<b>today" not in render_html(facts_of())
    assert "t<i>.csv" not in page


@pytest.mark.parametrize("classes", [5, 40])
def test_hostile_labels_do_not_break_out_of_attributes(classes: int) -> None:
    page = render_html(facts_of(classes, first='"><img src=x onerror=alert(1)>'))
    assert "<img src=x" not in page
    assert 'title=""' not in page


def test_card_escapes_labels_and_holds_no_text_of_the_corpus() -> None:
    card = render_card(facts_of(text=HOSTILE, first="<script>alert(1)</script> | `x`\n# heading"))
    assert "<script>" not in card
    assert "alert(1)" in card  # the label, made harmless
    assert "مرحبا" not in card
    assert "\n# heading" not in card
    assert TEXT not in render_card(facts_of())
    rows = [line for line in card.splitlines() if line.startswith("| &lt;script")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in rows)


@pytest.mark.parametrize("classes", [5, 40])
def test_nothing_is_loaded_from_anywhere(classes: int) -> None:
    page = render_html(facts_of(classes, text="see https://example.org and http://x.y", curves=classes == 5))
    assert page.count("<figure role") == (4 if classes == 5 else 0)
    assert re.findall(r"""(?:src|href|action)=(?!["']?(?:#|data:)).*""", page) == []
    assert re.findall(r"url\((?!#)|@import|<link|<iframe|fetch\(", page) == []
    assert "default-src 'none'" in page
    assert len(re.findall(r"https?://", page)) == 2 * page.count("see https://example.org and http://x.y")


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (Estimate(0.1, 0.04, 0.15, 60), BETTER),
        (Estimate(-0.1, -0.15, -0.04, 60), WORSE),
        (Estimate(0.01, -0.02, 0.05, 60), CHANCE),
        (Estimate(0.01, 0.0, 0.05, 60), CHANCE),
    ],
)
def test_the_verdict_follows_the_interval(gain: Estimate, verdict: str) -> None:
    facts = with_gain(gain)
    assert verdict in comparison(facts)
    assert sum(word in comparison(facts) for word in (BETTER, WORSE, CHANCE)) == 1
    assert html.escape(comparison(facts)) in render_html(facts)
    assert verdict in render_card(facts)


def test_the_headline_names_part_rows_and_interval() -> None:
    assert headline(facts_of()) == "Macro-F1 is 0.800 on 60 test rows (95% interval 0.750 to 0.850)."
    assert "60 validation rows" in headline(facts_of(test=False))
    assert "chose the checkpoint" in render_html(facts_of(test=False))


def test_an_unscored_run_without_history_and_audit_is_still_a_page() -> None:
    facts = facts_of()
    bare = replace(
        facts,
        evaluation=Evaluation(facts.evaluation.labels, None, None, {}, "validation"),
        audit={},
        history=[],
        plan={},
        outcome={},
        timing={},
        job_yaml="not: [yaml",
        group_column=None,
    )
    assert re.findall(r"<h2>(.*?)</h2>", render_html(bare)) == SECTIONS
    assert "was not scored" in render_card(bare)


def test_curves_are_drawn_from_what_there_is() -> None:
    history = history_of(2, 30)
    steps = [line for line in history if "loss" in line]
    assert "var(--second)" in loss_curves(history) and "var(--second)" not in loss_curves(steps)
    assert "kept: step 30" in score_curves(history, 30) and score_curves(steps, 30) == ""
    assert loss_curves([]) == gradient_norm([]) == ""


def test_a_class_without_rows_shows_no_score() -> None:
    facts = facts_of()
    scores = facts.evaluation.test
    assert scores is not None
    empty = ClassScore(scores.classes[0].label, 0.0, 0.0, Estimate(0.0, 0.0, 0.0, 0), 0)
    scores = replace(scores, classes=[empty, *scores.classes[1:]])
    page = render_html(replace(facts, evaluation=replace(facts.evaluation, test=scores)))
    assert "no row to score" in page


def test_where_rows_have_several_labels_the_threshold_and_their_measures_are_told() -> None:
    page, card = render_html(several_labels()), render_card(several_labels())
    assert re.findall(r"<h2>(.*?)</h2>", page) == SECTIONS
    assert re.findall(r"^## (.*)$", card, re.M) == CARD_SECTIONS
    for text in (page, card):
        for known in ("Micro-F1", "Exact match", "0.820", "Most frequent set of labels", "and the threshold"):
            assert known in text, known
        for unknown in ("Weighted F1", "Calibration", "calibration"):
            assert unknown not in text, unknown
    assert "probability is at least 0.43" in page and "probability is at least 0.43" in card
    assert "top_k=None" in card and "top_k=None" not in render_card(facts_of())
    assert '<table class="heat"' not in page and "Most frequent confusions" not in page
    assert "threshold" not in render_html(facts_of()) and "threshold" not in render_card(facts_of())


def test_rows_read_are_accounted_for() -> None:
    facts = facts_of()
    assert "unaccounted" not in render_html(facts)
    facts.audit["rows"]["read"] = 1001
    assert "unaccounted for" in render_html(facts)


def test_leakage_is_said_plainly() -> None:
    clean, leaky, quiet = facts_of(), facts_of(), facts_of()
    leaky.audit["proof"][0]["crossing"] = 2
    assert "Nothing leaks: no check found" in render_html(clean)
    assert "Nothing leaks" not in render_html(leaky)
    assert "groups (customer_id): 2" in render_html(leaky)
    assert "took no part in training" not in render_html(leaky)
    quiet.audit["proof"].pop()
    assert "no check that was made" in render_html(quiet)


def test_card_names_a_base_of_the_hub_and_hides_paths_of_this_machine() -> None:
    assert 'base_model: "owner/base-model"' in render_card(facts_of())
    local = render_card(replace(facts_of(), base="/home/someone/bases/mini", base_revision="local folder"))
    assert "base_model" not in local
    assert "someone" not in local
    assert "| base | mini |" in local


def test_numbers_are_written_alike() -> None:
    assert (score(0.8766), score(-0.1), signed(0.0941), signed(-0.05)) == ("0.877", "−0.100", "+0.094", "−0.050")
    assert (signed(-0.0001), rate(2e-4), rate(0.01), rate(0.0)) == ("0.000", "2e-4", "0.01", "0")
    assert (seconds(0.4), seconds(73.06), seconds(725), seconds(12000)) == (
        "0.40 s",
        "73.1 s",
        "12 min 5 s",
        "3 h 20 min",
    )
    assert clip("abcdef", 3) == "abc … (3 more characters)"
    assert plain("a|b\n<c>") == r"a\|b &lt;c&gt;"
