"""One self-contained page: style, curves and the few lines of script are inside, nothing is loaded from anywhere."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from raysft.report import audit_view, confusion, numbers, plots, scores_view, training_view, verdict
from raysft.report.facts import ReportFacts
from raysft.report.tagged import COLOURS, examples

FILTERS = {
    "score": numbers.score,
    "signed": numbers.signed,
    "interval": numbers.interval,
    "signed_interval": numbers.signed_interval,
    "percent": numbers.percent,
    "count": numbers.count,
    "plural": numbers.plural,
    "rate": numbers.rate,
    "seconds": numbers.seconds,
    "clip": numbers.clip,
}
BREAKS = re.compile(r"(?<=[_./:-])(?=\w)")


def render_html(facts: ReportFacts) -> str:
    """The report as one HTML document; the same facts give the same text."""
    return _environment().get_template("page.html").render(_page(facts)) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("raysft", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, breakable=_breakable)
    return environment


def _page(facts: ReportFacts) -> dict[str, Any]:
    """Everything that the template may name."""
    return {
        "facts": facts,
        "css": Markup(_style()),  # noqa: S704  # our own file
        "headline": verdict.headline(facts),
        "comparison": verdict.comparison(facts),
        "verdict_class": verdict.verdict_class(facts),
        "caveat": verdict.caveat(facts),
        "parts": scores_view.parts(facts),
        "rivals": scores_view.rivals(facts),
        "rival_measures": scores_view.rival_measures(facts),
        "compared_by": verdict.compared_by(facts),
        "classes": scores_view.class_rows(facts),
        **_curves(facts),
        **_errors(facts),
        **_audit(facts),
        "training": training_view.facts_of_training(facts),
        "planned": training_view.planned(facts),
        "stages": training_view.stages(facts),
    }


def _curves(facts: ReportFacts) -> dict[str, Any]:
    beside = "accuracy"
    if facts.several_labels or facts.tagged:
        beside = "entity F1" if facts.tagged else "micro-F1"
    drawn = {
        "Loss of each step, and of the validation part after each epoch.": plots.loss_curves(facts.history),
        f"Validation {beside} and macro-F1 after each epoch. The dashed line marks the checkpoint that was kept.": (
            plots.score_curves(facts.history, facts.outcome.get("best_step"), beside)
        ),
        "Learning rate of the body.": plots.learning_rate(facts.history),
        "Norm of the gradient before clipping.": plots.gradient_norm(facts.history),
    }
    # Drawn from numbers alone; no text of the person is in them.
    return {"curves": [(Markup(svg), caption) for caption, svg in drawn.items() if svg]}  # noqa: S704


def _errors(facts: ReportFacts) -> dict[str, Any]:
    scores, labels = facts.scored, facts.evaluation.labels
    tagged = {"examples": examples(facts), "types": list(enumerate(labels)) if facts.tagged else [], "colours": COLOURS}
    if scores is None or facts.several_labels or facts.tagged:
        mistakes = [] if scores is None else scores.worst
        return {"heat": [], "heat_image": "", "confusions": [], "mistakes": mistakes, **tagged}
    return {
        "heat": confusion.heat_rows(scores, labels),
        "heat_image": confusion.heat_image(scores, labels),
        "confusions": confusion.most_frequent(scores, labels),
        "mistakes": scores.worst,
        **tagged,
    }


def _audit(facts: ReportFacts) -> dict[str, Any]:
    audit, checks = facts.audit, audit_view.proofs(facts)
    statement, clean = audit_view.leak_statement(checks)
    return {
        "terms": audit_view.terms(audit),
        "part_rows": audit_view.part_rows(audit),
        "proofs": checks,
        "leak_statement": statement,
        "leak_free": clean,
        "findings": audit_view.findings(audit),
        "quiet": audit_view.quiet(audit),
        "wrong_labels": audit_view.wrong_labels(audit),
        "suspects": audit_view.suspects(audit),
        "lengths": audit_view.lengths(audit),
        "left_out": audit_view.left_out(audit),
    }


def _breakable(text: str) -> Markup:
    """A name that may be broken after its marks, so that `virtual_card_not_working` fits a narrow column."""
    return Markup("<wbr>").join(BREAKS.split(text))


def _style() -> str:
    return files("raysft.report").joinpath("style.css").read_text(encoding="utf-8")
