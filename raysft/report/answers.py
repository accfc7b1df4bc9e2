"""The page and the card of a model that writes answers: measures, a baseline, curves, and answers beside references."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from raysft.evaluation.decoding import END_MARK, MOST_TOKENS, STOP_TEXT
from raysft.evaluation.evaluation import AnsweredRow, AnswerScores
from raysft.report import audit_view, scores_view, training_view, verdict
from raysft.report.facts import ReportFacts
from raysft.report.html import _audit, _environment, _style
from raysft.report.language import _curves
from raysft.report.markdown import LOCAL, _on_hub, render_markdown
from raysft.report.numbers import clip, count, percent

SHOWN = 1200  # characters of an answer
SHOWN_TURN = 500  # characters of a turn of the prompt
SHOWN_TURNS = 4  # the last ones
ENDS = {END_MARK: "with an end mark", STOP_TEXT: "at a stop text", MOST_TOKENS: "cut off at max_new_tokens"}
WORD = re.compile(r"\S+|\s+")


class Piece(NamedTuple):
    """A stretch of a text; `other`: it is not in the text beside it."""

    text: str
    other: bool


class Turn(NamedTuple):
    """One turn of a prompt."""

    role: str
    content: str


class Sample(NamedTuple):
    """One row: its prompt, and the two answers with what tells them apart."""

    earlier: int  # turns that are not shown
    turns: list[Turn]
    reference: list[Piece]
    answer: list[Piece]
    exact_match: bool
    token_f1: float
    cut_off: bool
    confidence: float
    where: str


def render_page(facts: ReportFacts) -> str:
    """The report as one HTML document; the same facts give the same text."""
    page = {
        **_shared(facts),
        "css": Markup(_style()),  # noqa: S704  # our own file
        "verdict_class": verdict.verdict_class(facts),
        "samples": samples(facts),
        "curves": _curves(facts),
        **_audit(facts),
        "planned": training_view.planned(facts),
        "stages": training_view.stages(facts),
    }
    return _environment().get_template("answers_page.html").render(page) + "\n"


def render_card(facts: ReportFacts) -> str:
    """The model card as Markdown; the same facts give the same text."""
    checks = audit_view.proofs(facts)
    card = {
        **_shared(facts),
        "hub_base": facts.base if _on_hub(facts) else "",
        "base": facts.base if facts.base_revision != LOCAL else Path(facts.base).name,
        "part_rows": audit_view.part_rows(facts.audit),
        "leakage": audit_view.leak_statement(checks)[0] if checks else "",
        "lengths": audit_view.lengths(facts.audit),
        "max_new_tokens": facts.setting("generation", "max_new_tokens") or 128,
    }
    return render_markdown("answers_card.md", card)


def _shared(facts: ReportFacts) -> dict[str, Any]:
    return {
        "facts": facts,
        "headline": verdict.headline(facts),
        "comparison": verdict.comparison(facts),
        "caveat": verdict.caveat(facts),
        "parts": scores_view.parts(facts),
        "rivals": scores_view.rivals(facts),
        "rival_measures": scores_view.rival_measures(facts),
        "compared_by": verdict.compared_by(facts),
        "written": written(facts),
        "training": training_view.facts_of_training(facts),
    }


def written(facts: ReportFacts) -> str:
    """How answers were written, and how they ended."""
    temperature = facts.setting("generation", "temperature")
    how = "always the likeliest token" if not temperature else f"drawn at temperature {temperature:g}"
    scores = facts.scored
    ended = scores.ended if isinstance(scores, AnswerScores) else {}
    total = sum(ended.values())
    said = [f"{count(number)} ({percent(number / total)}) {ENDS.get(why, why)}" for why, number in ended.items()]
    return f"Answers were written token by token, {how}." + (f" They ended: {', '.join(said)}." if said else "")


def samples(facts: ReportFacts) -> list[Sample]:
    """Answers to read, the worst first; empty where no part was scored."""
    scores = facts.scored
    return [_sample(each) for each in scores.samples] if isinstance(scores, AnswerScores) else []


def _sample(row: AnsweredRow) -> Sample:
    reference, answer = differing(clip(row.reference, SHOWN), clip(row.answer, SHOWN))
    turns = [Turn(turn["role"], clip(turn["content"], SHOWN_TURN)) for turn in row.turns[-SHOWN_TURNS:]]
    return Sample(
        earlier=len(row.turns) - len(turns),
        turns=turns,
        reference=reference,
        answer=answer,
        exact_match=row.exact_match,
        token_f1=row.token_f1,
        cut_off=row.ended == MOST_TOKENS,
        confidence=row.confidence,
        where=row.where,
    )


def differing(reference: str, answer: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, told apart by whole words; white space never tells them apart."""
    first, second = WORD.findall(reference), WORD.findall(answer)
    places = [[at for at, word in enumerate(words) if not word.isspace()] for words in (first, second)]
    mine, theirs = ([words[at] for at in own] for words, own in zip((first, second), places, strict=True))
    other = (set(places[0]), set(places[1]))
    for block in SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks():
        other[0].difference_update(places[0][block.a : block.a + block.size])
        other[1].difference_update(places[1][block.b : block.b + block.size])
    return _pieces(first, other[0]), _pieces(second, other[1])


def _pieces(words: Sequence[str], other: set[int]) -> list[Piece]:
    """Neighbours of one kind joined; the space between two marked words is marked with them."""
    marked = [at in other or (word.isspace() and at - 1 in other and at + 1 in other) for at, word in enumerate(words)]
    found: list[Piece] = []
    for word, is_other in zip(words, marked, strict=True):
        if found and found[-1].other == is_other:
            found[-1] = Piece(found[-1].text + word, is_other)
        else:
            found.append(Piece(word, is_other))
    return found
