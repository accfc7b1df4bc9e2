"""Write what people read into a run's folder."""

from __future__ import annotations

from raysft.config.sections import LANGUAGE_TASKS
from raysft.report import answers, language
from raysft.report.facts import ReportFacts
from raysft.report.html import render_html
from raysft.report.markdown import render_card
from raysft.storage.commit import write_bytes
from raysft.storage.layout import RunFolder


def write_report(facts: ReportFacts, run: RunFolder) -> None:
    """The page and the model card, each complete or not there. The same facts give the same bytes."""
    of_language = facts.task in LANGUAGE_TASKS
    page, card = (language.render_page, language.render_card) if of_language else (render_html, render_card)
    if facts.answered:
        page, card = answers.render_page, answers.render_card
    write_bytes(run.report, page(facts).encode())
    write_bytes(run.card, card(facts).encode())
