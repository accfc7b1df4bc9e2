"""The few sentences that say how good the model is. The page and the model card share them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from raysft.evaluation.evaluation import Scores
from raysft.metrics.interval import Estimate
from raysft.preparation.start import FROM_SCRATCH
from raysft.report.audit_view import proofs, terms
from raysft.report.facts import ReportFacts
from raysft.report.numbers import count, interval, percent, rows, score, signed, signed_interval

NO_METHODS = ("dictionary", "commonest_answer")  # within a sentence they take an article
BETTER, WORSE, CHANCE = "better", "worse", "no difference that can be told from chance"
NAMES = {
    "majority": "Most frequent class",
    "tfidf_svm": "TF-IDF + linear SVM",
    "dictionary": "Dictionary of the training entities",
    "commonest_answer": "Most frequent training answer",
}
RIVALS = ("tfidf_svm", "dictionary", "commonest_answer")  # the strongest simple model of each task


def baseline_name(key: str, several_labels: bool = False) -> str:
    """What people call a baseline."""
    if several_labels and key == "majority":
        return "Most frequent set of labels"
    return NAMES.get(key, key.replace("_", " "))


def compared(gain: Estimate) -> str:
    """BETTER, WORSE or CHANCE; a paired difference whose interval contains zero tells nothing."""
    if gain.low > 0:
        return BETTER
    return WORSE if gain.high < 0 else CHANCE


def headline(facts: ReportFacts) -> str:
    """The main score with its interval and rows."""
    if facts.scored is None:
        return "This model was not scored: the run has neither a test part nor a validation part."
    if facts.answered:
        return _headline_of_answers(facts.scored, facts.evaluation.scored_on)
    name, title = ("f1_micro", "Entity F1") if facts.tagged else ("f1_macro", "Macro-F1")
    f1 = facts.scored.metrics[name]
    return (
        f"{title} is {score(f1.value)} on {count(f1.n)} {facts.evaluation.scored_on} "
        f"{'row' if f1.n == 1 else 'rows'} (95% interval {interval(f1)})."
    )


def _headline_of_answers(scores: Scores, part: str) -> str:
    exact, f1 = scores.metrics["exact_match"], scores.metrics["token_f1"]
    return (
        f"Of {count(exact.n)} {part} {'answer' if exact.n == 1 else 'answers'} {percent(exact.value)} match exactly "
        f"(95% interval {percent(exact.low)} to {percent(exact.high)}); token F1 is {score(f1.value)} "
        f"({interval(f1)})."
    )


def comparison(facts: ReportFacts) -> str:
    """How the model stands against the strongest simple rival; "" when nothing was compared."""
    key = _rival(facts)
    return "" if key is None else _comparison(key, facts.evaluation.baselines[key].gain, compared_by(facts))


def compared_by(facts: ReportFacts) -> str:
    """What people call the measure in which baselines are compared."""
    return "token F1" if facts.answered else "macro-F1"


def _rival(facts: ReportFacts) -> str | None:
    return next((key for key in RIVALS if key in facts.evaluation.baselines), None)


def _comparison(key: str, gain: Estimate, measure: str) -> str:
    verdict, name = compared(gain), baseline_name(key)
    name = f"the {name[0].lower()}{name[1:]}" if key in NO_METHODS else name
    if verdict == CHANCE:
        return (
            f"Compared with {name} on the same rows there is {CHANCE}: its {measure} differs by {signed(gain.value)} "
            f"(95% interval {signed_interval(gain)})."
        )
    size = gain if verdict == BETTER else Estimate(-gain.value, -gain.high, -gain.low, gain.n)
    return (
        f"It is {verdict} than {name} on the same rows: its {measure} is {'higher' if verdict == BETTER else 'lower'} "
        f"by {score(size.value)} (95% interval {interval(size)})."
    )


def caveat(facts: ReportFacts) -> str:
    """What the headline score may be trusted for."""
    if facts.scored is None:
        return "Set folds.k to 2 or more, or name validation or test files, to learn how good it is."
    if any(check.found for check in proofs(facts)):
        return (
            "Some of these rows, or texts almost like them, are also on the other side of a split: see the data audit."
        )
    if facts.evaluation.scored_on == "test":
        return f"The test rows took no part in training, nor in the choice of {_chosen(facts)}{_but_spelling(facts)}."
    return (
        f"There is no test part. The validation rows also chose {_chosen(facts)}, so this score is a little too good."
    )


def _but_spelling(facts: ReportFacts) -> str:
    """What a model from random weights does know of a test part that is a share of the training files."""
    if not facts.base.endswith(FROM_SCRATCH) or any(source["origin"] == "test" for source in facts.audit["sources"]):
        return ""
    return "; its tokenizer, learnt from the files that hold them, knows how they are spelt"


def _chosen(facts: ReportFacts) -> str:
    """What the validation part is used for."""
    return "the checkpoint" + (" and the threshold" if facts.several_labels else "")


def verdict_class(facts: ReportFacts) -> str:
    """A word for the style sheet: good, bad or even."""
    key = _rival(facts)
    return "even" if key is None else style_of(facts.evaluation.baselines[key].gain)


def style_of(gain: Estimate) -> str:
    """good, bad or even, by `compared`."""
    return {BETTER: "good", WORSE: "bad", CHANCE: "even"}[compared(gain)]


def equation(audit: dict[str, Any]) -> str:
    """`1,520 rows read = 1,466 kept + 41 rejected + 13 quarantined`; "" where the books are not known."""
    found: Counter[str] = Counter()
    for term in terms(audit):
        found[term.kind] += term.rows
    parts = " + ".join(f"{count(number)} {kind}" for kind, number in found.items())
    return f"{rows(audit['rows']['read'])} read = {parts}" if parts else ""
