"""A sweep in the terminal: numbers keep their columns in 80, reasons and further settings fold beneath them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from raysft.cli.sweep_table import board_table, sweep_tables
from raysft.tuning.names import short_names
from raysft.tuning.outcome import SweepResult
from tests.unit.test_report_audit_page import HOSTILE
from tests.unit.test_report_sweep import cv_of, row_of, sweep_of


def printed(found: list[RenderableType], width: int = 80, height: int = 50, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=terminal, color_system=None)
    for each in found:
        console.print(each)
    return out.getvalue()


def table_of(result: SweepResult, width: int = 80) -> str:
    return printed(sweep_tables(result), width)


def line_of(text: str, trial: int) -> str:
    """The line of the table: the first that begins with this trial."""
    return next(line for line in text.splitlines() if line.split()[:1] == [str(trial)])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_numbers_stay_on_one_line(width: int) -> None:
    text = table_of(sweep_of(14), width)
    assert max(map(len, text.splitlines())) <= width
    for trial, score, state in ((1, "0.790 ± 0.012", "chosen"), (2, "0.780 ± 0.012", "finished")):
        assert score in line_of(text, trial) and line_of(text, trial).split()[-1] == state
    assert "…" not in line_of(text, 7).replace("…/", "") and line_of(text, 7).split()[-1] == "stopped"


def test_reasons_stand_beneath() -> None:
    text = " ".join(table_of(sweep_of(14)).split())
    assert "stopped: f1_macro 0.493 is behind trial 1 by 0.026 ± 0.010 on 2 folds" in text
    assert "failed: the loss is not a number" in text


def test_as_many_settings_as_there_is_room_for() -> None:
    narrow, wide = table_of(sweep_of(4)), table_of(sweep_of(4), 200)
    assert "cosine" not in line_of(narrow, 1) and "schedule cosine, lora {r: 8, alpha: 16}" in narrow
    assert "cosine" in line_of(wide, 1) and "…/all-MiniLM-L6-v2" in line_of(wide, 1)
    assert "base /data/pretrained/all-MiniLM-L6-v2" in wide  # whole where it is chosen


def test_what_was_chosen_and_what_it_is_worth() -> None:
    text = table_of(sweep_of(), 120)
    assert "chosen: trial 1, epoch 3 of 4" in text
    assert "f1_macro, out of fold" in text and "[0.760, 0.820]" in text
    assert "ahead of trial 2 (p = 0.16)" in text and "[-0.004, 0.024]" in text
    assert "f1_macro, nested" in text and "f1_macro, test, all folds trained" in text
    for word in ("overfitting", "to try, the most useful first", "at the edge of the search"):
        assert word in text.splitlines()


def test_how_far_it_is_ahead_may_not_be_known() -> None:
    result = sweep_of()
    lines = table_of(replace(result, chosen=result.chosen | {"ahead": None}), 120).splitlines()
    (line,) = [each for each in lines if each.startswith("ahead of trial 2")]
    assert line.split()[-2:] == ["not", "known"]


def test_cross_validation_chooses_nothing() -> None:
    text = table_of(cv_of())
    assert "cross-validation" in text and "chosen" not in text and "runner" not in text
    assert "out of fold, epoch 3 of 4" in text and "edge" not in text


def test_a_single_fold_has_no_standard_error() -> None:
    text = table_of(sweep_of(3, folds=1))
    assert "0.790 ±" not in line_of(text, 1) and "f1_macro, validation" in text


def test_while_it_runs_no_more_than_the_screen_holds() -> None:
    rows = sweep_of(40).trials
    board = printed([board_table(rows, "12 folds done, 2 running")], 80, 24, terminal=True)
    assert len(board.splitlines()) <= 23 and "and 26 more" in board and "behind" not in board
    assert board.startswith("12 folds done, 2 running")
    assert "and 20 more" in printed([board_table(rows, "x")])
    assert "trial" in printed([board_table([], "nothing yet")])


def test_before_any_fold_is_done() -> None:
    waiting: list[dict[str, Any]] = [row_of(1, 0.0, {"train.epochs": 3}, [], 5, status="waiting")]
    waiting.append(row_of(2, 0.0, {"train.epochs": None}, [], 5, status="running"))
    text = printed([board_table(waiting, "0 folds done")])
    assert line_of(text, 1).split() == ["1", "3", "0/5", "waiting"]
    assert line_of(text, 2).split() == ["2", "null", "0/5", "running"]


def test_texts_are_no_markup() -> None:
    text = " ".join(table_of(sweep_of(12, text="[red]stop[/] [/bold] " + HOSTILE), 100).split())
    assert "[red]stop[/] [/bold] <script>alert(1)</script>" in text


def test_names_are_as_short_as_they_may_be() -> None:
    keys = ["train.learning_rate", "model.lora.dropout", "model.dropout", "dropout"]
    assert short_names(keys) == {
        "train.learning_rate": "learning_rate",
        "model.lora.dropout": "lora.dropout",
        "model.dropout": "model.dropout",
        "dropout": "dropout",
    }
