"""What a sweep found, in a few plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysft.metrics.interval import Estimate
from raysft.report.numbers import clip, count, interval, percent, plural, score, signed_interval
from raysft.report.sweep_folds import finished, fold_lines, folds_trained, score_of
from raysft.report.sweep_view import (
    LONGEST,
    estimate_of,
    in_words,
    keys_of,
    measure_name,
    setting,
)
from raysft.report.verdict import BETTER, CHANCE, WORSE, compared
from raysft.tuning.outcome import SweepResult


def kind(result: SweepResult) -> str:
    """What was done: the line below the name."""
    folds, epochs = plural(len(result.folds), "fold"), plural(result.epochs, "epoch")
    if not result.names:
        return f"Cross-validation of a {result.task} job over {folds}, {epochs} each"
    what = plural(len(result.trials), "configuration")
    return f"Sweep of a {result.task} job: {what} ({result.algorithm}) over {folds}, {epochs} each"


def headline(result: SweepResult) -> str:
    """What was chosen."""
    chosen, after = result.chosen, _after(result)
    if not result.names:
        return f"The settings of the job file were trained on each fold in turn, and count {after}."
    settings = in_short(chosen["settings"], keys_of(result)) or "the settings of the job file"
    tried = plural(len(result.trials), "configuration")
    return f"Of {tried} trial {chosen['trial']} is chosen: {settings}; it counts {after}."


def _after(result: SweepResult) -> str:
    """Which epoch counts, and why it is not the last one."""
    if result.chosen["epoch"] == result.epochs:
        return "after the last epoch" if result.epochs > 1 else "after the only epoch"
    return (
        f"after epoch {result.chosen['epoch']} of {result.epochs}, which is better than the last by more than a "
        "standard error"
    )


def in_short(settings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`learning_rate 2e-4, batch_size 16`."""
    return ", ".join(f"{names.get(key, key)} {clip(setting(value), LONGEST)}" for key, value in settings.items())


def standing(result: SweepResult) -> str:
    """The score of the chosen configuration on rows that its models have not seen."""
    measure = next(iter(result.objectives))
    name, found = measure_name(measure, result.task), estimate_of(result.chosen["out_of_fold"].get(measure))
    if found is None:
        row = next((row for row in result.trials if row["trial"] == result.chosen["trial"]), {})
        return f"Its mean {name} over {plural(len(result.folds), 'fold')} is {score_of(row, measure) or 'not known'}."
    whose = f"Its {name}" if result.names else f"{name[:1].upper()}{name[1:]}"
    if len(result.folds) == 1:
        return f"{whose} is {_of(found, 'validation row')}."
    return f"{whose} out of fold is {_of(found, 'row')}: each row judged by a model that has not seen it."


def comparison(result: SweepResult) -> str:
    """Whether it is really better than the runner-up; "" where nothing was searched."""
    chosen = result.chosen
    if len(result.trials) < 2:
        return ""
    if chosen["runner_up"] is None:
        return "No other configuration was trained on all folds: there is no runner-up to compare it with."
    if chosen["ahead"] is None:
        return (
            f"How far it is ahead of the runner-up, trial {chosen['runner_up']}, is not known: it takes two folds that "
            "differ, or two rows or groups in each, to tell what is chance."
        )
    ahead, rival = _ahead(chosen["ahead"]), f"trial {chosen['runner_up']}"
    name = measure_name(next(iter(result.objectives)), result.task)
    verdict, p = compared(ahead), _p(chosen["ahead"]["p"])
    if verdict == BETTER:
        return (
            f"It is better than the runner-up, {rival}, on the same rows: by {score(ahead.value)} in {name} "
            f"(95% interval {interval(ahead)}, {p})."
        )
    size = ahead if ahead.value >= 0 else Estimate(-ahead.value, -ahead.high, -ahead.low, 0)
    if verdict == WORSE:
        return (
            f"{rival.capitalize()} is better on the same rows: by {score(size.value)} in {name} (95% interval "
            f"{interval(size)}, {p}). The chosen one is cheaper, and within one standard error of the best."
        )
    way = "ahead" if ahead.value >= 0 else "behind"
    return (
        f"Compared with the runner-up, {rival}, on the same rows there is {CHANCE}: it is {way} by {score(size.value)} "
        f"in {name} (95% interval {signed_interval(size)}, {p})."
    )


def verdict_class(result: SweepResult) -> str:
    """A word for the style sheet."""
    ahead = result.chosen["ahead"]
    return "good" if ahead is not None and compared(_ahead(ahead)) == BETTER else "even"


def tested(result: SweepResult) -> str:
    """What the test part says of the chosen configuration after training on all folds; "" where none was asked."""
    if not result.metrics:
        return "It was not trained on all folds (tune.refit: false)." if result.names else ""
    found, measure = result.metrics.get("test"), next(iter(result.objectives))
    if not found:
        return "It was trained on all folds; there is no test part to score that model on."
    measure = measure if measure in found else next(iter(found))
    estimate = estimate_of(found[measure])
    assert estimate is not None
    return f"Trained on all folds, its {measure_name(measure, result.task)} is {_of(estimate, 'test row')}."


def nested(result: SweepResult) -> str:
    """What the whole procedure is worth; "" without a nested estimate."""
    found = (result.nested or {}).get("metrics") or {}
    measure = next(iter(result.objectives))
    estimate = estimate_of(found.get(measure if measure in found else next(iter(found), "")))
    if estimate is None:
        return ""
    name = measure_name(measure if measure in found else next(iter(found)), result.task)
    return (
        f"The whole procedure is worth a {name} of {_of(estimate, 'row')}: searches that never saw the fold on which "
        "their choice was scored."
    )


def raced(result: SweepResult) -> str:
    """How many folds were trained of those possible, and why not all."""
    if len(result.trials) < 2:
        return ""
    trained, possible = folds_trained(result)
    states = [row["status"] for row in result.trials]
    stopped, failed = states.count("stopped"), states.count("failed")
    saved = sum(row["folds"] - row["folds_done"] for row in result.trials if row["status"] == "stopped")
    said = [f"{count(trained)} of {count(possible)} folds were trained."]
    if stopped:
        said = [
            f"Racing stopped {plural(stopped, 'configuration')} early and saved {count(saved)} of {count(possible)} "
            f"folds ({percent(saved / possible)}); {count(trained)} were trained."
        ]
    if failed:
        said.append(f"{plural(failed, 'configuration')} failed.")
    if result.status != "done":
        said.append(f"The search ended before it was through: {result.status}.")
    return " ".join(said)


def caveat(result: SweepResult) -> str:
    """What the score by which it was chosen may be trusted for."""
    if len(finished(result)) < 2 and len(result.trials) < 2:
        fitted = [
            *(["epoch"] if result.chosen["epoch"] < result.epochs else []),
            *(["threshold of each fold"] if result.chosen.get("threshold_fitted") else []),
        ]
        what, were = " and the ".join(fitted), "were" if len(fitted) > 1 else "was"
        return f"The {what} {were} chosen on the same rows, so this score is a little too good." if fitted else ""
    known = {"test part": result.metrics.get("test"), "nested estimate": nested(result)}
    unseen = [name for name, found in known.items() if found]
    but = f"; the {' and the '.join(unseen)} {'do' if len(unseen) > 1 else 'does'} not know of it" if unseen else ""
    best = (
        "The best of many and the thresholds were" if result.chosen.get("threshold_fitted") else "The best of many was"
    )
    return f"{best} chosen on these rows, so its score there is a little too good{but}."


def decided_by(result: SweepResult) -> str:
    """Whether the runner-up would be ahead without a single fold; "" where it cannot be told."""
    rows = {line.trial: [fold.value for fold in line.folds] for line in fold_lines(result)}
    first, second = result.chosen["trial"], result.chosen["runner_up"]
    if second not in rows or first not in rows or len(result.folds) < 3:
        return ""
    sign = 1 if next(iter(result.objectives.values())) == "max" else -1
    gaps = [sign * (one - other) for one, other in zip(rows[first], rows[second], strict=True)]
    ahead, total = sum(gap > 0 for gap in gaps), sum(gaps)
    said = f"Trial {first} is ahead of trial {second} on {ahead} of {plural(len(gaps), 'fold')}"
    turning = [fold for fold, gap in zip(result.folds, gaps, strict=True) if total > 0 >= total - gap]
    if turning:
        names = " or ".join(map(str, turning))
        return f"{said}; without fold {names} it would not be: a single fold decides."
    return f"{said}; no single fold decides{' that' if total > 0 else ''}."


def why(result: SweepResult) -> str:
    """The reason of the choice as a sentence."""
    text = in_words(result.chosen["why"], result.task)
    return f"{text[:1].upper()}{text[1:]}."


def _of(found: Estimate, noun: str) -> str:
    return f"{score(found.value)} on {plural(found.n, noun)} (95% interval {interval(found)})"


def _ahead(found: Mapping[str, Any]) -> Estimate:
    return Estimate(found["value"], found["low"], found["high"], 0)


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
