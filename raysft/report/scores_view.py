"""Scores as the page shows them: cards of measures, the table of baselines, the table of classes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from raysft.corpus.encode import tag_names
from raysft.evaluation.evaluation import ClassScore, Scores
from raysft.metrics.interval import Estimate
from raysft.report.facts import PARTS, ReportFacts
from raysft.report.numbers import score
from raysft.report.verdict import baseline_name, compared, style_of

FEW_ROWS = 10  # below this an interval says more than the score

MEASURES = {
    "accuracy": ("Accuracy", "share of rows that are right"),
    "f1_macro": ("Macro-F1", "mean over classes, each counts the same"),
    "f1_weighted": ("Weighted F1", "mean over classes, weighted by rows"),
    "loss": ("Loss", "cross-entropy; guessing evenly gives {even}"),
    "ece": ("Calibration error", "gap between confidence and accuracy; 0 is best"),
}


SEVERAL = {
    "f1_micro": ("Micro-F1", "over all labels of all rows"),
    "f1_macro": ("Macro-F1", "mean over labels, each counts the same"),
    "accuracy": ("Exact match", "share of rows whose labels are all right, and no other"),
    "loss": ("Loss", "mean binary cross-entropy; guessing evenly gives {even}"),
}
TAGGED = {
    "f1_micro": ("Entity F1", "over all entities; edges and type must be right"),
    "f1_macro": ("Macro-F1", "mean over types, each counts the same"),
    "precision": ("Precision", "share of the given entities that are right"),
    "recall": ("Recall", "share of the true entities that were given"),
    "accuracy": ("Exact match", "share of texts whose entities are all right, and no other"),
    "loss": ("Loss", "cross-entropy of the tags; guessing evenly gives {even}"),
}
ANSWERED = {
    "exact_match": ("Exact match", "share of answers that are the reference, white space aside"),
    "token_f1": ("Token F1", "words in common with the reference, mean over rows (SQuAD)"),
    "loss": ("Loss", "mean over the tokens learnt, in nats"),
    "perplexity": ("Perplexity", "e to the loss: among how many tokens it seems to choose"),
}
RIVALS = ("f1_macro", "accuracy", "f1_weighted")
RIVALS_ANSWERED = ("token_f1", "exact_match")
RIVALS_SEVERAL = ("f1_macro", "f1_micro", "accuracy")


class Measure(NamedTuple):
    """One score card. The bar runs from 0 to `top`."""

    name: str
    hint: str
    estimate: Estimate
    top: float


class Part(NamedTuple):
    """The score cards of one part."""

    name: str
    rows: int
    measures: list[Measure]


class Rival(NamedTuple):
    """One line of the table of baselines; the model itself has no gain."""

    name: str
    scores: list[Estimate]
    gain: Estimate | None
    verdict: str
    style: str


class ClassRow(NamedTuple):
    """One class: its rows in each part, and its scores; None where no row could show them."""

    label: str
    rows: list[int]
    precision: float | None
    recall: float | None
    f1: Estimate | None


def parts(facts: ReportFacts) -> list[Part]:
    """Score cards of test and validation, as far as they exist. Both parts share the scales of their bars."""
    found, measures = facts.parts, _measures(facts)
    even = math.log(2 if facts.several_labels else max(2, _outputs(facts)))
    least = {"loss": 0.0, "perplexity": 0.0} if facts.answered else {"loss": even, "ece": 0.2}
    tops = {name: top for name, top in least.items() if name in measures}
    for name in tops:
        tops[name] = max([tops[name], *(scores.metrics[name].high for scores in found.values())])
    return [
        Part(
            part,
            max(each.n for each in scores.metrics.values()),
            [
                Measure(title, hint.format(even=score(even)), scores.metrics[name], tops.get(name, 1.0))
                for name, (title, hint) in measures.items()
            ],
        )
        for part, scores in found.items()
    ]


def rival_measures(facts: ReportFacts) -> list[str]:
    """What people call the scores in the table of baselines."""
    measures = _measures(facts)
    return [measures[name][0] for name in _rival_names(facts)]


def _measures(facts: ReportFacts) -> dict[str, tuple[str, str]]:
    if facts.tagged or facts.answered:
        return TAGGED if facts.tagged else ANSWERED
    return SEVERAL if facts.several_labels else MEASURES


def _outputs(facts: ReportFacts) -> int:
    """Among how many a decision chooses: labels, or tags."""
    labels = facts.evaluation.labels
    return len(tag_names(labels)) if facts.tagged else len(labels)


def _rival_names(facts: ReportFacts) -> tuple[str, ...]:
    if facts.answered:
        return RIVALS_ANSWERED
    return RIVALS_SEVERAL if facts.several_labels or facts.tagged else RIVALS


def rivals(facts: ReportFacts) -> list[Rival]:
    """The model and its baselines on the same rows, the best first; empty when nothing was compared."""
    scores, beside = facts.scored, facts.evaluation.baselines
    if scores is None or not beside:
        return []
    names = _rival_names(facts)
    ours = [scores.metrics[name] for name in names]
    lines = [Rival("This model", ours, None, "", "")]
    for key, each in beside.items():
        numbers = [getattr(each, name) for name in names]
        lines.append(
            Rival(
                baseline_name(key, facts.several_labels), numbers, each.gain, compared(each.gain), style_of(each.gain)
            )
        )
    return sorted(lines, key=lambda line: -line.scores[0].value)


def class_rows(facts: ReportFacts) -> list[ClassRow]:
    """Every class of the scored part, weakest F1 first; classes without a row there come last."""
    if facts.scored is None:
        return []
    counts = facts.audit.get("labels_by_part") or {}
    rows = [_class_row(each, counts.get(each.label, {})) for each in facts.scored.classes]
    return sorted(rows, key=lambda row: (row.f1 is None, row.f1.value if row.f1 else 0.0, row.label))


def _class_row(each: ClassScore, counts: dict[str, Any]) -> ClassRow:
    seen = each.f1.n > 0
    return ClassRow(
        label=each.label,
        rows=[int(counts.get(part, 0)) for part in PARTS],
        precision=each.precision if each.predicted else None,
        recall=each.recall if seen else None,
        f1=each.f1 if seen else None,
    )


def few_rows(scores: Scores) -> int:
    """How many classes rest on fewer than FEW_ROWS rows."""
    return sum(each.f1.n < FEW_ROWS for each in scores.classes)
