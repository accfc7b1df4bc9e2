"""Plots of a sweep as inline SVG: the front of two objectives, learning curves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raysft.report import plots
from raysft.report.sweep_folds import Score, finished, score_of
from raysft.report.sweep_view import measure_name
from raysft.tuning.outcome import SweepResult

PAPER, GOOD, THIRD, FOURTH, STRONG = "#fefefe", "#1d6b45", "#8e44ad", "#8a6d00", "#1c222b"
VARIABLES = {
    PAPER: "var(--paper)",
    GOOD: "var(--good)",
    THIRD: "var(--third)",
    FOURTH: "var(--fourth)",
    STRONG: "var(--ink)",
}
COLOURS = (plots.FIRST, plots.SECOND, GOOD, THIRD, FOURTH)
ROOM = 0.6  # around the finished configurations, in what they span; stopped ones beyond it are not drawn
FEWEST = 3  # finished configurations, from which these alone say what is drawn


class Point(NamedTuple):
    """One configuration by two objectives."""

    trial: int
    x: Score
    y: Score
    finished: bool
    front: bool
    chosen: bool


def svg(figure: Figure, salt: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """The figure as an element for the page, in the page's colours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's own font draws them
        found = plots._svg(figure, salt)
    for colour, variable in variables.items():
        found = found.replace(colour, variable)
    return found


def front_plots(result: SweepResult) -> list[tuple[str, str]]:
    """(svg, caption) of the first objective against each other one."""
    first, *others = result.objectives
    found = []
    for other in others:
        points = points_of(result, other, first)
        if len(points) > 1 and any(point.finished for point in points):
            found.append(_front_plot(result, points, other, first))
    return found


def points_of(result: SweepResult, x: str, y: str) -> list[Point]:
    """The configurations whose values of both measures are known."""
    found = []
    for row in result.trials:
        one, other = score_of(row, x), score_of(row, y)
        if one is not None and other is not None:
            number = row["trial"]
            done, chosen = row["status"] == "finished", number == result.chosen["trial"]
            found.append(Point(number, one, other, done, done and number in result.front, chosen))
    return found


def _front_plot(result: SweepResult, points: Sequence[Point], x: str, y: str) -> tuple[str, str]:
    limits = [_limits([(axis(point), point.finished) for point in points]) for axis in (_x, _y)]
    inside = [
        point
        for point in points
        if all(low <= score.value <= high for score, (low, high) in zip(point[1:3], limits, strict=True))
    ]
    joined = len(result.objectives) == 2 and sum(point.front for point in points) > 1
    with mpl.rc_context(plots.STYLE):
        figure, axes = plots._figure((5.6, 3.5))
        if joined:
            _join(axes, [point for point in points if point.front], result.objectives[x])
        for point in inside:
            _draw(axes, point)
        _number(axes, [point for point in inside if point.front or point.chosen], limits)
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        _label(axes, *(f"{measure_name(name, result.task)}, {_better(result.objectives[name])}" for name in (x, y)))
        drawn = svg(figure, f"front-{x}")
    return drawn, _front_caption(points, len(points) - len(inside), joined)


def _front_caption(points: Sequence[Point], beyond: int, joined: bool) -> str:
    said = [
        "Each point is a configuration with the standard errors of its means over the folds; blue ones, numbered "
        "where there is room, are those that no other beats in every objective; the large diamond is the chosen one."
    ]
    said += ["The line is the front: what can be had of one objective for a value of the other."] if joined else []
    stopped = sum(not point.finished for point in points)
    said += ["Faint ones were not trained on all folds, so that their means rest on fewer rows."] if stopped else []
    said += [f"{beyond} of them {'lies' if beyond == 1 else 'lie'} beyond the plot."] if beyond else []
    return " ".join(said)


def _x(point: Point) -> Score:
    return point.x


def _y(point: Point) -> Score:
    return point.y


def _limits(values: Sequence[tuple[Score, bool]]) -> tuple[float, float]:
    """Around the finished ones, with the others as far as these are near."""
    done = [score for score, finished in values if finished]
    done = done if len(done) >= FEWEST else [score for score, _ in values]
    low, high = min(each.value - each.se for each in done), max(each.value + each.se for each in done)
    span = (high - low) or abs(high) * 0.1 or 1.0
    near = [s.value for s, _ in values if low - ROOM * span <= s.value <= high + ROOM * span]
    return min([low, *near]) - 0.1 * span, max([high, *near]) + 0.1 * span


def _join(axes: Any, front: Sequence[Point], way_of_x: str) -> None:
    ordered = sorted(front, key=lambda point: point.x.value)
    where = "post" if way_of_x == "min" else "pre"
    axes.step([p.x.value for p in ordered], [p.y.value for p in ordered], where=where, color=plots.FIRST, linewidth=1.0)


def _draw(axes: Any, point: Point) -> None:
    colour = plots.FIRST if point.front or point.chosen else plots.INK
    alpha = 1.0 if point.finished else 0.3
    marker, size = ("D", 8.0) if point.chosen else ("o", 5.0 if point.front else 4.0)
    axes.errorbar(
        point.x.value,
        point.y.value,
        xerr=point.x.se or None,
        yerr=point.y.se or None,
        fmt=marker,
        color=colour,
        markersize=size,
        elinewidth=0.8,
        alpha=alpha,
        zorder=4 if point.chosen else 3 if point.front else 2,
    )


def _number(axes: Any, points: Sequence[Point], limits: Sequence[tuple[float, float]]) -> None:
    """Write the trial beside each point that is not next to one with its number; the chosen one first."""
    written: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: not point.chosen):
        at = [(score.value - low) / (high - low) for score, (low, high) in zip(point[1:3], limits, strict=True)]
        if all(abs(at[0] - x) > 0.14 or abs(at[1] - y) > 0.07 for x, y in written):
            written.append((at[0], at[1]))
            text = f"{point.trial} chosen" if point.chosen else str(point.trial)
            axes.annotate(
                text, (point.x.value, point.y.value), (7, 6), textcoords="offset points", color=plots.FIRST, zorder=5
            )


def learning_curves(result: SweepResult) -> list[tuple[str, str]]:
    """(svg, caption): losses, and the first objective where it is another measure."""
    rows = shown_rows(result)
    first = next(iter(result.objectives))
    several = " of the chosen configuration and the next best" if len(rows) > 1 else ""
    ring = "The ring marks the epoch that is taken."
    found = []
    if any("loss" in row["curves"] for row in rows):
        caption = f"Validation loss{several} after each epoch, means over the folds; dashed: training loss. {ring}"
        found.append((_curves(result, rows, "loss"), caption))
    if first != "loss" and any(first in row["curves"] for row in rows):
        name = measure_name(first, result.task)
        caption = f"{name[:1].upper()}{name[1:]}{several} on the validation folds after each epoch. {ring}"
        found.append((_curves(result, rows, first), caption))
    return found


def shown_rows(result: SweepResult) -> list[dict[str, Any]]:
    """The chosen configuration and the next best, as many as there are colours; stopped ones where there is room."""
    done = finished(result)
    others = [row for row in result.trials if row not in done]
    return [row for row in [*done, *others] if row.get("curves")][: len(COLOURS)]


def _curves(result: SweepResult, rows: Sequence[dict[str, Any]], measure: str) -> str:
    with mpl.rc_context(plots.STYLE):
        figure, axes = plots._figure((5.0, 3.4))
        for colour, row in reversed(list(zip(COLOURS, rows, strict=False))):
            _curve(axes, row, measure, colour, row["trial"] == result.chosen["trial"])
        if measure == "loss":
            axes.set_ylim(bottom=0)
        longest = max(len(row["curves"].get(measure, [])) for row in rows)
        axes.set_xlim(0.8 if longest > 1 else 0.5, longest + (0.2 if longest > 1 else 0.5))
        _label(axes, "epoch", measure_name(measure, result.task))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=plots.TICKS))
        if len(rows) > 1:
            _legend(axes)
        return svg(figure, f"curves-{measure}")


def _curve(axes: Any, row: Mapping[str, Any], measure: str, colour: str, chosen: bool) -> None:
    values, train = row["curves"].get(measure), row["curves"].get("train_loss")
    if not values:
        return
    partly = "" if row["status"] == "finished" else f", {row['folds_done']} of {row['folds']} folds"
    name = f"trial {row['trial']}{partly}"
    wide = 2.2 if chosen else 1.2
    small = 3.5 if len(values) < 20 else 0
    axes.plot(
        np.arange(1, len(values) + 1), values, color=colour, linewidth=wide, label=name, marker="o", markersize=small
    )
    if measure == "loss" and train:
        axes.plot(np.arange(1, len(train) + 1), train, color=colour, linewidth=wide / 2, linestyle=(0, (4, 3)))
    at = row.get("epoch")
    if at and at <= len(values):
        axes.plot([at], [values[at - 1]], "o", markersize=9, markerfacecolor="none", markeredgecolor=colour)


def _label(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=plots.TICKS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=plots.TICKS))
    axes.spines["left"].set_visible(False)


def _legend(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        labels[::-1],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3 if all(len(label) < 16 for label in labels) else 2,
        handlelength=1.6,
        columnspacing=1.4,
    )


def _better(way: str) -> str:
    return "the higher the better" if way == "max" else "the lower the better"
