"""The model card: Markdown with YAML front matter, as the Hugging Face hub reads it. It holds no text of the corpus."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from raysft.metrics.interval import Estimate
from raysft.report import audit_view, numbers, scores_view, training_view, verdict
from raysft.report.facts import ReportFacts

SPECIAL = re.compile(r"([\\`*_{}\[\]|~#!])")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LOCAL = "local folder"  # the revision that raysft.storage.pretrained gives to a folder
WEAKEST = 5


def render_card(facts: ReportFacts) -> str:
    """The card as Markdown; the same facts give the same text."""
    return render_markdown("card.md", _card(facts))


def render_markdown(template: str, values: dict[str, Any]) -> str:
    """A template of this package, filled in."""
    environment = Environment(
        loader=PackageLoader("raysft", "report"),
        autoescape=False,  # noqa: S701  # Markdown; every text of the person goes through `plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        plain=plain,
        quoted=quoted,
        estimate=_estimate,
        gain=_gain,
        optional=_optional,
        score=numbers.score,
        count=numbers.count,
        percent=numbers.percent,
        plural=numbers.plural,
    )
    return environment.get_template(template).render(values) + "\n"


def plain(text: object) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", line)


def quoted(text: str) -> str:
    """A YAML string; JSON's are valid YAML."""
    return json.dumps(text, ensure_ascii=False)


def _card(facts: ReportFacts) -> dict[str, Any]:
    checks = audit_view.proofs(facts)
    statement, clean = audit_view.leak_statement(checks)
    classes = scores_view.class_rows(facts)
    return {
        "facts": facts,
        "hub_base": facts.base if _on_hub(facts) else "",
        "base": facts.base if facts.base_revision != LOCAL else Path(facts.base).name,
        "verdict": [verdict.headline(facts), verdict.comparison(facts), verdict.caveat(facts)],
        "equation": verdict.equation(facts.audit),
        "terms": audit_view.terms(facts.audit)[1:],
        "part_rows": audit_view.part_rows(facts.audit),
        "leakage": statement if checks else "",
        "leak_free": clean,
        "findings": audit_view.findings(facts.audit),
        "wrong_labels": audit_view.wrong_labels(facts.audit),
        "lengths": audit_view.lengths(facts.audit),
        "parts": scores_view.parts(facts),
        "rivals": scores_view.rivals(facts),
        "rival_measures": scores_view.rival_measures(facts),
        "classes": sorted(classes, key=lambda row: row.label),
        "weakest": [row for row in classes if row.f1][:WEAKEST],
        "few": scores_view.few_rows(facts.scored) if facts.scored else 0,
        "few_limit": scores_view.FEW_ROWS,
        "ece": facts.scored.metrics.get("ece") if facts.scored else None,
        "max_length": facts.setting("model", "max_length"),
        "spaced": facts.outcome.get("units") == "spaced",
        "strategy": "simple" if facts.outcome.get("units") == "pieces" else "first",
        "training": training_view.facts_of_training(facts),
    }


def _on_hub(facts: ReportFacts) -> bool:
    """Whether `base` names a model of the hub; a path of this machine has no place in the front matter."""
    return facts.base_revision != LOCAL and HUB_ID.fullmatch(facts.base) is not None


def _estimate(estimate: Estimate) -> str:
    return f"{numbers.score(estimate.value)} ({numbers.interval(estimate)})"


def _gain(estimate: Estimate) -> str:
    return f"{numbers.signed(estimate.value)} ({numbers.signed_interval(estimate)})"


def _optional(value: float | None) -> str:
    return "–" if value is None else numbers.score(value)
