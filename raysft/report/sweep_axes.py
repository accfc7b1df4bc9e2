"""Parallel coordinates: an axis for each setting, a line for each configuration, the score last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from raysft.report import plots, sweep_plots
from raysft.report.numbers import score
from raysft.report.sweep_folds import score_of
from raysft.report.sweep_view import ABSENT, is_number, keys_of, measure_name, path_end, setting
from raysft.tuning.outcome import SweepResult
from raysft.tuning.parameter import canonical

MOST_AXES = 9
FEW_AXES = 4  # up to which the plot fits a narrow screen
LOGARITHMIC = 20  # from which factor between the ends
BELOW = -0.16  # where a line without this setting runs
APART = 0.075  # nearer ticks are left out
SHADES = 9
OUTLIER = 4.0  # distances of the median from the best, beyond which a score stands at the end of its axis
MIX = {
    f"#fd00{step:02x}": f"color-mix(in oklab, var(--first) {round(100 * step / (SHADES - 1))}%, var(--second))"
    for step in range(SHADES)
}
Ticks = list[tuple[float, str]]


class Axis(NamedTuple):
    """places: of each configuration, 0 to 1, BELOW where it has no value; ticks: place and text."""

    title: str
    places: list[float]
    ticks: Ticks


def parallel_plot(result: SweepResult) -> tuple[str, str]:
    """(svg, caption); both "" with fewer than two scored configurations, or where they differ in nothing."""
    measure, way = next(iter(result.objectives.items()))
    rows = [row for row in result.trials if score_of(row, measure) is not None]
    keys = _varying(result, rows)
    if len(rows) < 2 or not keys:
        return "", ""
    names = keys_of(result)
    axes = [setting_axis(names[key], [row["settings"].get(key, ABSENT) for row in rows]) for key in keys[:MOST_AXES]]
    values = [found.value for row in rows if (found := score_of(row, measure)) is not None]
    last, beyond = score_axis(measure_name(measure, result.task), values, way)
    return _drawn(result, rows, [*axes, last]), _caption(keys, names, beyond, last.title)


def _varying(result: SweepResult, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Keys in which configurations differ, in their order; of many the most important ones."""
    found = [key for key in keys_of(result) if len({canonical(row["settings"].get(key, ABSENT)) for row in rows}) > 1]
    if len(found) > MOST_AXES:
        found.sort(key=lambda key: -result.importance.get(key, 0.0))
    return found


def _caption(keys: Sequence[str], names: dict[str, str], beyond: int, measure: str) -> str:
    said = [
        f"Each line is a configuration: its settings, then its mean {measure} on the last axis, the better the higher. "
        "Colour follows the rank, from orange (worst) to blue (best); the chosen one is bold, those not trained on all "
        "folds are dashed. Where lines of one colour meet on an axis, that value matters."
    ]
    if beyond:
        said.append(f"{beyond} far worse {'one ends' if beyond == 1 else 'ones end'} at the foot of the last axis.")
    left = [names[key] for key in keys[MOST_AXES:]]
    said += [f"Left out, for the room: {', '.join(left)}."] if left else []
    return " ".join(said)


def setting_axis(title: str, values: Sequence[Any]) -> Axis:
    """Numbers by size, on a log scale where they span more than LOGARITHMIC; all else evenly, in order of appearance.

    ABSENT, and null among numbers, lie below.
    """
    missing = [value is None or value == ABSENT for value in values]
    numbers = [value for value, gone in zip(values, missing, strict=True) if not gone]
    if not numbers or not all(is_number(value) for value in numbers):
        return _categories(title, values)
    scale = _log if min(numbers) > 0 and max(numbers) / min(numbers) > LOGARITHMIC else float
    place = _placing(scale, min(numbers), max(numbers))
    places = [BELOW if gone else place(value) for value, gone in zip(values, missing, strict=True)]
    below = dict.fromkeys(setting(value) for value, gone in zip(values, missing, strict=True) if gone)
    ticks = [(BELOW, ", ".join(below))] if below else []
    return Axis(title, places, [*ticks, *_spread([(place(each), setting(each)) for each in _marks(numbers, scale)])])


def score_axis(title: str, values: Sequence[float], way: str) -> tuple[Axis, int]:
    """(the better the higher; how many are so much worse that they stand at its foot)."""
    sign = 1 if way == "max" else -1
    signed = [sign * value for value in values]
    best, worst = max(signed), min(signed)
    foot = best - OUTLIER * (best - median(signed))
    beyond = [value for value in signed if value < foot] if foot < best else []
    low = foot if beyond else worst
    place = _placing(float, low, best)
    places = [max(0.0, place(value)) for value in signed]
    ends = [low, best] if best > low else [best]
    inner = [each for each in MaxNLocator(4, steps=plots.TICKS).tick_values(low, best) if low < each < best]
    ticks = [(place(each), score(sign * each)) for each in [*ends, *inner]]
    if beyond:
        ticks[0] = (0.0, f"{'≤' if way == 'max' else '≥'} {score(sign * low)}")
    return Axis(title, places, _spread(ticks)), len(beyond)


def _categories(title: str, values: Sequence[Any]) -> Axis:
    known = {canonical(value): value for value in values if value != ABSENT}
    step = 1 / max(1, len(known) - 1)
    at = {text: number * step if len(known) > 1 else 0.5 for number, text in enumerate(known)}
    places = [BELOW if value == ABSENT else at[canonical(value)] for value in values]
    ticks = [(BELOW, ABSENT)] if BELOW in places else []
    written = [(at[text], _cut(setting(value), 18)) for text, value in known.items()]
    return Axis(title, places, [*ticks, *_spread(written)])


def _marks(numbers: Sequence[float], scale: Callable[[float], float]) -> list[float]:
    """Values that are written on an axis: both ends first."""
    distinct = sorted(set(numbers))
    if len(distinct) <= 5:
        return [distinct[0], distinct[-1], *distinct[1:-1]]
    low, high = distinct[0], distinct[-1]
    if scale is _log:
        inner = [10.0**power for power in range(math.ceil(_log(low)), math.floor(_log(high)) + 1)]
    else:
        inner = [float(each) for each in MaxNLocator(4, steps=plots.TICKS).tick_values(low, high)]
    return [low, high, *(each for each in inner if low < each < high)]


def _placing(scale: Callable[[float], float], low: float, high: float) -> Callable[[float], float]:
    span = scale(high) - scale(low)
    return lambda value: (scale(value) - scale(low)) / span if span else 0.5


def _spread(ticks: Ticks) -> Ticks:
    """Those that have room; the first ones go before."""
    kept: Ticks = []
    for place, text in ticks:
        if all(abs(place - other) >= APART for other, _ in kept):
            kept.append((place, text))
    return kept


def _log(value: float) -> float:
    return math.log10(value)


def _cut(text: str, limit: int) -> str:
    text = path_end(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _drawn(result: SweepResult, rows: Sequence[dict[str, Any]], axes: Sequence[Axis]) -> str:
    with mpl.rc_context(plots.STYLE):
        figure, area = plots._figure((10.0, 3.9) if len(axes) > FEW_AXES else (5.6, 3.2))
        area.set_axis_off()
        for number, axis in enumerate(axes):
            _draw_axis(area, axis, number, len(axes))
        ranked = sorted(range(len(rows)), key=lambda at: axes[-1].places[at])
        for rank, at in enumerate(ranked):
            shade = list(MIX)[round(rank / max(1, len(ranked) - 1) * (SHADES - 1))]
            chosen = rows[at]["trial"] == result.chosen["trial"]
            done = rows[at]["status"] == "finished"
            area.plot(
                range(len(axes)),
                [axis.places[at] for axis in axes],
                color=shade,
                linewidth=3.4 if chosen else 1.2,
                linestyle="-" if done else (0, (3, 2)),
                alpha=1.0 if chosen else 0.8 if done else 0.5,
                marker="o",
                markersize=6 if chosen else 2.5,
                zorder=4 if chosen else 2,
            )
        area.set_xlim(-0.1, len(axes) - 0.9)
        area.set_ylim(min(min(axis.places) for axis in axes) - 0.05, 1.05)
        return sweep_plots.svg(figure, "parallel", {**sweep_plots.VARIABLES, **MIX})


def _draw_axis(area: Any, axis: Axis, number: int, count: int) -> None:
    last = number == count - 1
    area.plot([number, number], [0, 1], color=plots.INK, linewidth=0.8, zorder=1)
    title = _cut(axis.title, 22)
    level = 1.1 + (0.09 if count > 5 and number % 2 else 0)
    style = {"parse_math": False, "clip_on": False}
    area.text(number, level, title, ha="center", va="bottom", color=sweep_plots.STRONG, zorder=6, **style)
    for place, text in axis.ticks:
        area.text(
            number + (0.03 if last else -0.03),
            place,
            text,
            ha="left" if last else "right",
            va="center",
            fontsize=8,
            zorder=5,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": sweep_plots.PAPER, "edgecolor": "none", "alpha": 0.9},
            **style,
        )
