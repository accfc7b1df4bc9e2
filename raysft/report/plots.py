"""Curves of a run as inline SVG. Colours are CSS variables, so that the page decides between light and dark.

Figures are made through the object API and never touch pyplot's state. The same history gives the same bytes.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from raysft.report.facts import series
from raysft.report.numbers import rate

# Colours as matplotlib writes them -> what stands in the page instead.
INK, GRID, FIRST, SECOND = "#5b6470", "#dddddd", "#2a62b0", "#c4611a"
VARIABLES = {INK: "var(--plot-ink)", GRID: "var(--plot-grid)", FIRST: "var(--first)", SECOND: "var(--second)"}
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and in the page's own font
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
}
SIZE, SMALL = (5.0, 3.0), (5.0, 1.9)  # inches; the page scales them
TICKS = [1, 2, 2.5, 5, 10]  # distances of the marks on an axis, times a power of ten
MOST_POINTS = 240  # of one line; more cannot be seen
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
BESIDE = {"accuracy": "validation_accuracy", **dict.fromkeys(("micro-F1", "entity F1"), "validation_f1_micro")}
Curve = tuple[list[float], list[float]]


def loss_curves(history: list[dict[str, Any]]) -> str:
    """Training loss (each step faint, smoothed strong) and validation loss; "" without a step."""
    steps, losses = series(history, "loss")
    if not steps:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(SIZE)
        axes.plot(*_thin(steps, losses), color=FIRST, linewidth=0.8, alpha=0.3)
        axes.plot(*_thin(steps, _smooth(losses)), color=FIRST, linewidth=1.6, label="training, smoothed")
        found = series(history, "validation_loss")
        if found[0]:
            axes.plot(*found, color=SECOND, linewidth=1.6, marker="o", markersize=3.5, label="validation")
        axes.set_ylim(bottom=0)
        _finish(axes, "loss")
        return _svg(figure, "loss")


def score_curves(history: list[dict[str, Any]], best_step: int | None, beside: str = "accuracy") -> str:
    """A validation score (a key of BESIDE) and macro-F1 after each epoch, the kept checkpoint marked; "" without."""
    first, f1 = series(history, BESIDE[beside]), series(history, "validation_f1_macro")
    if not first[0]:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(SIZE)
        axes.plot(*first, color=FIRST, linewidth=1.6, marker="o", markersize=3.5, label=beside)
        axes.plot(*f1, color=SECOND, linewidth=1.6, marker="s", markersize=3.2, label="macro-F1")
        if best_step is not None:
            axes.axvline(best_step, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label=f"kept: step {best_step:,}")
        _finish(axes, "validation score")
        return _svg(figure, "scores")


def learning_rate(history: list[dict[str, Any]]) -> str:
    """The body's rate at each step; "" without a step."""
    return _small_curve(history, "rate", "learning rate", FIRST)


def gradient_norm(history: list[dict[str, Any]]) -> str:
    """The norm of each step's gradient; "" without a step."""
    return _small_curve(history, "grad_norm", "gradient norm", SECOND)


def _small_curve(history: list[dict[str, Any]], name: str, title: str, colour: str) -> str:
    steps, values = series(history, name)
    if not steps:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(SMALL)
        axes.plot(*_thin(steps, values), color=colour, linewidth=1.2)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rate(value)))
        _finish(axes, title)
        return _svg(figure, name)


def _figure(size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _finish(axes: Any, title: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(title)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=TICKS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICKS))
    axes.spines["left"].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.6, columnspacing=1.4)


def _smooth(values: list[float]) -> list[float]:
    """Mean over a centred window of about a twentieth of the run; shorter windows at both ends."""
    width = 2 * (len(values) // 40) + 1
    window = np.ones(width)
    total = np.convolve(values, window, "full")[width // 2 : width // 2 + len(values)]
    terms = np.convolve(np.ones(len(values)), window, "full")[width // 2 : width // 2 + len(values)]
    return [float(each) for each in total / terms]


def _thin(steps: list[float], values: list[float]) -> Curve:
    """Means of neighbours, at most MOST_POINTS of them."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    bins = np.array_split(np.arange(len(steps)), MOST_POINTS)
    return [float(np.mean(np.take(steps, b))) for b in bins], [float(np.mean(np.take(values, b))) for b in bins]


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an element for the page."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": f"raysft-{salt}"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    return _slim(buffer.getvalue())


def _slim(svg: str) -> str:
    """No prolog, styles, fonts or fixed size; ids only where they are referred to; coordinates to a hundredth."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"| (?:width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", _hundredth, tag[0]), svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return re.sub(r"<g ?/>|<defs> ?</defs>|(?<=>) (?=<)", "", svg)


def _hundredth(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
