"""The page of a sweep: what was chosen and why, and what a reader needs to judge it. Nothing is loaded."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from markupsafe import Markup

from raysft.report import sweep_axes, sweep_folds, sweep_plots, sweep_verdict, sweep_view
from raysft.report.html import _environment, _style
from raysft.report.sweep_view import in_words, measure_name
from raysft.storage.commit import write_bytes
from raysft.storage.layout import SweepFolder
from raysft.tuning.outcome import SweepResult


def write_sweep_report(result: SweepResult, folder: SweepFolder, created: str, version: str) -> None:
    """report.html; the same result gives the same bytes."""
    write_bytes(folder.report, sweep_page(result, created, version).encode())


def sweep_page(result: SweepResult, created: str, version: str) -> str:
    """The page. created: ISO date."""
    columns, table = sweep_view.scores(result)
    shares, left_out = sweep_view.importance(result)
    first = next(iter(result.objectives))
    page = {
        "result": result,
        "created": created,
        "version": version,
        "css": Markup(_style() + files("raysft.report").joinpath("sweep.css").read_text(encoding="utf-8")),  # noqa: S704
        "searched": bool(result.names),
        "verdict": _verdict(result),
        "verdict_class": sweep_verdict.verdict_class(result),
        "estimates": columns,
        "scores": table,
        "settings": sweep_view.chosen_settings(result),
        "diagnosis": _diagnosis(result),
        "names": list(sweep_view.keys_of(result).values()),
        "measures": [measure_name(name, result.task) for name in result.objectives],
        "first": measure_name(first, result.task),
        "lines": sweep_view.lines(result),
        "fronts": _drawn(sweep_plots.front_plots(result)) if result.names else [],
        "parallel": _drawn([sweep_axes.parallel_plot(result)]),
        "importance": shares,
        "left_out": left_out,
        "curves": _drawn(sweep_plots.learning_curves(result)),
        "fold_lines": sweep_folds.fold_lines(result) if len(result.folds) > 1 else [],
        "folds_of_one": sweep_folds.folds_of_one(result),
        "decided_by": sweep_verdict.decided_by(result),
        "costs": sweep_view.costs(result),
    }
    return _environment().get_template("sweep_page.html").render(page) + "\n"


def _verdict(result: SweepResult) -> dict[str, str]:
    return {
        name: getattr(sweep_verdict, name)(result)
        for name in ("kind", "headline", "standing", "comparison", "tested", "nested", "raced", "caveat", "why")
    }


def _diagnosis(result: SweepResult) -> dict[str, Any]:
    found = result.diagnosis
    return {
        "kind": found.get("kind", ""),
        "findings": [in_words(each, result.task) for each in found.get("findings", [])],
        "advice": found.get("advice", []),
    }


def _drawn(found: list[tuple[str, str]]) -> list[tuple[Markup, str]]:
    # matplotlib escapes the few texts in them.
    return [(Markup(svg), caption) for svg, caption in found if svg]  # noqa: S704
