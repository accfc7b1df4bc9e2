"""The page and the card of a language model: loss and perplexity, curves, data and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from raysft.metrics.interval import Estimate
from raysft.report import audit_view, plots, training_view
from raysft.report.facts import ReportFacts
from raysft.report.html import _audit, _environment, _style
from raysft.report.markdown import LOCAL, _on_hub, render_markdown
from raysft.report.numbers import count, interval, score

KINDS = {"masked-lm": "Masked language modelling", "causal-lm": "Causal language modelling"}
TAGS = {"masked-lm": "fill-mask", "causal-lm": "text-generation"}
HINTS = {"loss": "mean over tokens, in nats", "perplexity": "e to the loss: among how many tokens it seems to choose"}
CAVEAT = (
    "Perplexities compare models of one tokenizer on the same texts only. Whether this base serves a task better than "
    "the one it came from, fine-tuning from both will tell."
)


class Measure(NamedTuple):
    """One number of a part, and how far its scale goes."""

    name: str
    estimate: Estimate
    top: float
    hint: str


class PartScores(NamedTuple):
    """What was measured on one part."""

    name: str
    rows: int
    measures: list[Measure]


def render_page(facts: ReportFacts) -> str:
    """The report as one HTML document; the same facts give the same text."""
    page = {
        **_shared(facts),
        "css": Markup(_style()),  # noqa: S704  # our own file
        "kind": KINDS[facts.task],
        "curves": _curves(facts),
        **_audit(facts),
        "planned": training_view.planned(facts),
        "stages": training_view.stages(facts),
    }
    return _environment().get_template("language_page.html").render(page) + "\n"


def render_card(facts: ReportFacts) -> str:
    """The model card as Markdown; the same facts give the same text."""
    checks = audit_view.proofs(facts)
    card = {
        **_shared(facts),
        "pipeline_tag": TAGS[facts.task],
        "hub_base": facts.base if _on_hub(facts) else "",
        "base": facts.base if facts.base_revision != LOCAL else Path(facts.base).name,
        "part_rows": audit_view.part_rows(facts.audit),
        "leakage": audit_view.leak_statement(checks)[0] if checks else "",
        "lengths": audit_view.lengths(facts.audit),
    }
    return render_markdown("language_card.md", card)


def _shared(facts: ReportFacts) -> dict[str, Any]:
    return {
        "facts": facts,
        "headline": headline(facts),
        "caveat": CAVEAT,
        "parts": parts(facts),
        "training": training_view.facts_of_training(facts),
    }


def headline(facts: ReportFacts) -> str:
    """The perplexity with its interval and texts."""
    if facts.scored is None:
        return "This model was not scored: the run has neither a test part nor a validation part."
    found = facts.scored.metrics["perplexity"]
    return (
        f"Perplexity is {score(found.value)} on {count(found.n)} {facts.evaluation.scored_on} "
        f"{'text' if found.n == 1 else 'texts'} (95% interval {interval(found)})."
    )


def parts(facts: ReportFacts) -> list[PartScores]:
    """The measures of each part that was scored, test first."""
    return [
        PartScores(
            name,
            scores.metrics["loss"].n,
            [Measure(key.capitalize(), each, 1.25 * each.high, HINTS[key]) for key, each in scores.metrics.items()],
        )
        for name, scores in facts.parts.items()
    ]


def _curves(facts: ReportFacts) -> list[tuple[Markup, str]]:
    drawn = {
        "Loss of each step, and of the validation part after each epoch.": plots.loss_curves(facts.history),
        "Learning rate of the body.": plots.learning_rate(facts.history),
        "Norm of the gradient before clipping.": plots.gradient_norm(facts.history),
    }
    # Drawn from numbers alone; no text of the person is in them.
    return [(Markup(svg), caption) for caption, svg in drawn.items() if svg]  # noqa: S704
