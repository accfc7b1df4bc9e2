"""A sweep as the page shows it: lines of configurations, of folds and of costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysft.corpus.cells import shown
from raysft.metrics.interval import Estimate
from raysft.report.numbers import clip, count, percent, rate, seconds
from raysft.report.sweep_folds import Score, folds_trained, score_of
from raysft.tuning.outcome import SweepResult
from raysft.tuning.parameter import canonical

ABSENT = "–"  # of a setting whose condition does not hold
MEASURES = {
    "f1_macro": "macro-F1",
    "f1_micro": "micro-F1",
    "f1_weighted": "weighted F1",
    "ece": "calibration error",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "prediction_ms": "prediction time in ms",
}
OF_TAGS = {"f1_micro": "entity F1", "accuracy": "exact match"}
LONGEST = 60  # characters of a setting in a cell
LONG_PATH = 20
PATH = re.compile(r"\S*/[^\s/]+/?")
STAGES = {
    "data_s": "Preparing the data",
    "search_s": "Search",
    "nested_s": "Nested searches",
    "refit_s": "Training on all folds, and scores",
}


class Line(NamedTuple):
    """One configuration. settings: (short name, value, whole value where it is cut) of every key."""

    trial: int
    chosen: bool
    marks: list[str]
    settings: list[tuple[str, str, str]]
    folds_done: int
    folds: int
    scores: list[Score | None]
    epoch: int | None
    seconds: float | None
    status: str
    why: str


class Setting(NamedTuple):
    """A key that was searched: what was chosen, and what was tried."""

    key: str
    value: str
    tried: str


class Compared(NamedTuple):
    """One measure of the chosen configuration, by each of the ways in which it was estimated."""

    measure: str
    estimates: list[Estimate | None]


def measure_name(name: str, task: str) -> str:
    """What people call a measure within a sentence."""
    tagged = OF_TAGS.get(name) if task == "token-classification" else None
    return tagged or MEASURES.get(name, name.replace("_", " "))


def in_words(text: str, task: str) -> str:
    """A sentence with measures as people call them."""
    return re.sub(r"\b\w+\b", lambda word: measure_name(word[0], task) if word[0] in MEASURES else word[0], text)


def setting(value: Any) -> str:
    """`2e-4`, `null`, `{r: 8, alpha: 16}`; one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and math.isfinite(value):
        return rate(float(f"{value:.3g}"))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{shown(str(key))}: {setting(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    return " ".join(shown(str(value)).split())


def path_end(text: str) -> str:
    """`…/all-MiniLM-L6-v2` of a long path: models are told apart by their last name."""
    last = text.rstrip("/").rpartition("/")[2]
    return f"…/{last}" if len(text) > LONG_PATH and PATH.fullmatch(text) else text


def keys_of(result: SweepResult) -> dict[str, str]:
    """Key that was searched -> its short name."""
    known = dict(result.names)
    for row in result.trials:
        known.update({key: key for key in row["settings"] if key not in known})
    return known


def lines(result: SweepResult) -> list[Line]:
    """Every configuration, the best first."""
    keys, chosen = keys_of(result), result.chosen["trial"]
    return [
        Line(
            trial=row["trial"],
            chosen=row["trial"] == chosen,
            marks=_marks(row["trial"], result),
            settings=[_cell(name, row["settings"], key) for key, name in keys.items()],
            folds_done=row["folds_done"],
            folds=row["folds"],
            scores=[score_of(row, measure) for measure in result.objectives],
            epoch=row.get("epoch"),
            seconds=row.get("seconds"),
            status=row["status"],
            why=in_words(row["why"] or "", result.task),
        )
        for row in result.trials
    ]


def _marks(trial: int, result: SweepResult) -> list[str]:
    chosen = result.chosen
    found = {
        "chosen": trial == chosen["trial"],
        "best mean": trial == chosen["best"] != chosen["trial"],
        "front": len(result.objectives) > 1 and trial in result.front,
    }
    return [name for name, holds in found.items() if holds]


def _cell(name: str, settings: Mapping[str, Any], key: str) -> tuple[str, str, str]:
    whole = setting(settings[key]) if key in settings else ABSENT
    cut = clip(path_end(whole), LONGEST)
    return name, cut, whole if cut != whole else ""


def chosen_settings(result: SweepResult) -> list[Setting]:
    """What was chosen beside all that was tried."""
    chosen, found = result.chosen["settings"], []
    for key in keys_of(result):
        values = [row["settings"][key] for row in result.trials if key in row["settings"]]
        value = setting(chosen[key]) if key in chosen else f"{ABSENT} (it matters under other settings only)"
        found.append(Setting(key, clip(value, 300), clip(_tried(values), 300)))
    return found


def _tried(values: Sequence[Any]) -> str:
    distinct = list({canonical(value): value for value in values}.values())
    if len(distinct) > 4 and all(is_number(value) for value in distinct):
        return f"{setting(min(distinct))} to {setting(max(distinct))}, {len(distinct)} values"
    if all(is_number(value) for value in distinct):
        distinct.sort()
    return ", ".join(setting(value) for value in distinct)


def is_number(value: Any) -> bool:
    """Whether it stands on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def scores(result: SweepResult) -> tuple[list[str], list[Compared]]:
    """(ways of estimating, the measures of the chosen configuration by each of them)."""
    found = {
        "out of fold" if len(result.folds) > 1 else "validation": result.chosen["out_of_fold"],
        "nested": (result.nested or {}).get("metrics") or {},
        "test": result.metrics.get("test") or {},
    }
    found = {name: metrics for name, metrics in found.items() if metrics}
    measures = dict.fromkeys([*result.objectives, *(each for metrics in found.values() for each in metrics)])
    table = [
        Compared(measure_name(measure, result.task), [estimate_of(metrics.get(measure)) for metrics in found.values()])
        for measure in measures
        if any(measure in metrics for metrics in found.values())
    ]
    return list(found), table


def estimate_of(found: Mapping[str, Any] | None) -> Estimate | None:
    """As result.json holds it."""
    return None if not found else Estimate(found["value"], found["low"], found["high"], int(found.get("n", 0)))


def importance(result: SweepResult) -> tuple[list[tuple[str, float]], list[str]]:
    """(keys with their shares, the largest first; keys that were left out because they have a condition)."""
    keys = keys_of(result)
    ranked = sorted(result.importance.items(), key=lambda each: -each[1])
    left = [name for key, name in keys.items() if key not in result.importance] if ranked else []
    return [(keys.get(key, key), min(1.0, max(0.0, share))) for key, share in ranked], left


def costs(result: SweepResult) -> list[tuple[str, str]]:
    """(name, value) pairs; what is not known is left out."""
    timing, (trained, possible) = result.timing, folds_trained(result)
    spent, slots, busy = timing.get("search_s", 0.0), timing.get("slots", 0), timing.get("busy_s", 0.0)
    # Of a search that was gone on with, the seconds of earlier commands too, which the total of the last one has not.
    total = timing.get("total_s", 0.0) + max(0.0, spent - timing.get("train_s", spent))
    share = busy / (slots * spent) if slots and spent else math.inf
    pairs = [(name, seconds(timing[key]) if timing.get(key) else "") for key, name in STAGES.items()]
    return [
        (name, value)
        for name, value in [
            ("Wall time", seconds(total) if total else ""),
            *pairs,
            ("Folds trained", f"{count(trained)} of {count(possible)}"),
            ("Training them took, one by one", seconds(busy) if busy else ""),
            ("Folds at a time", count(slots) if slots else ""),
            ("Busy share of the slots", percent(share) if share <= 1.01 else ""),
        ]
        if value
    ]
