"""A sweep as tables, while it runs and when it is done. Numbers keep their columns; what is long folds beneath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from raysft.report.sweep_view import ABSENT, path_end, setting
from raysft.tuning.names import short_names
from raysft.tuning.outcome import SweepResult

SHOWN = 20  # configurations on a screen
STYLES = {"finished": "green", "running": "cyan", "waiting": "", "stopped": "dim", "failed": "red"}
GAP = 2  # between columns
WIDEST = 24  # of a setting in a column; longer ones are cut
BESIDE = 10  # lines of a screen that the table leaves to others, and to settings without a column
DETAILED = 3  # configurations of a running sweep whose settings without a column are told beneath


@dataclass(frozen=True)
class Board:
    """The configurations, the best first: as many columns of settings as there is room for, the rest beneath."""

    rows: Sequence[dict[str, Any]]
    text: str
    chosen: int | None = None
    reasons: bool = False  # whether to say beneath why configurations were stopped or failed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows = self.rows[: self._fitting(console)]
        columns = _Columns(rows, _names(self.rows), self.chosen)
        beside = columns.fitting(options.max_width)
        yield Text(self.text, style="bold")
        yield columns.table(beside)
        if len(self.rows) > len(rows):
            yield Text(f"and {len(self.rows) - len(rows)} more", style="dim")
        for row in rows if self.reasons else rows[:DETAILED]:
            said = [*columns.left_out(row, beside), *([_reason(row)] if self.reasons and row["why"] else [])]
            if said:
                yield _hanging(str(row["trial"]), "; ".join(said), columns.trial_width)

    def _fitting(self, console: Console) -> int:
        """While it runs, no more lines than the screen has."""
        if self.reasons or not console.is_terminal:
            return SHOWN
        return max(1, min(SHOWN, console.height - BESIDE))


@dataclass(frozen=True)
class _Columns:
    """What stands in the table of some configurations. names: of the settings by key."""

    rows: Sequence[dict[str, Any]]
    names: Mapping[str, str]
    chosen: int | None

    @property
    def trial_width(self) -> int:
        return max(5, *(len(str(row["trial"])) for row in self.rows)) if self.rows else 5

    @property
    def measures(self) -> list[str]:
        found = (name for row in self.rows for name, value in row.items() if _is_score(value))
        return list(dict.fromkeys(found))

    def fitting(self, width: int) -> list[str]:
        """Keys of the settings for which there is room beside the numbers, in their order."""
        needed = self.trial_width + sum(GAP + _width(cells) for cells in self._others())
        kept = []
        for key in self.names:
            wide = GAP + _width(self._settings(key))
            if needed + wide <= width:
                kept.append(key)
                needed += wide
        return kept

    def left_out(self, row: Mapping[str, Any], beside: Sequence[str]) -> list[str]:
        """`schedule cosine, lora null`: the settings that have no column."""
        said = [
            f"{name} {_cell(row['settings'][key])}"
            for key, name in self.names.items()
            if key not in beside and key in row["settings"]
        ]
        return [", ".join(said)] if said else []

    def table(self, beside: Sequence[str]) -> Table:
        """One line a configuration."""
        table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        columns = [self._trials(), *(self._settings(key) for key in beside), *self._others()]
        for cells in columns:
            left = cells[0] == "state"
            table.add_column(Text(_broken(cells)), justify="left" if left else "right", no_wrap=not left)
        for number, row in enumerate(self.rows, 1):
            style = f"{STYLES[row['status']]} {'bold' if row['trial'] == self.chosen else ''}"
            table.add_row(*(Text(cells[number]) for cells in columns), style=style.strip())
        return table

    def _trials(self) -> list[str]:
        return ["trial", *(str(row["trial"]) for row in self.rows)]

    def _settings(self, key: str) -> list[str]:
        cells = (_cell(row["settings"][key]) if key in row["settings"] else ABSENT for row in self.rows)
        return [self.names[key], *(cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 1]}…" for cell in cells)]

    def _others(self) -> list[list[str]]:
        rows = self.rows
        folds = ["folds", *(f"{row['folds_done']}/{row['folds']}" for row in rows)]
        scores = [[name, *(_score(row.get(name)) for row in rows)] for name in self.measures]
        states = ["state", *("chosen" if row["trial"] == self.chosen else row["status"] for row in rows)]
        return [folds, *scores, states]


def board_table(rows: Sequence[dict[str, Any]], text: str) -> RenderableType:
    """The configurations of a sweep that runs, the best first."""
    return Board(rows, text)


def sweep_tables(result: SweepResult) -> list[RenderableType]:
    """The configurations, then what was chosen and what it is worth."""
    chosen = result.chosen
    what = "configurations" if result.names else "cross-validation"
    title = f"{result.name}: {what}, means over the folds ± standard errors"
    board = Board(result.trials, title, chosen["trial"] if result.names else None, reasons=True)
    return [board, Text(), _headline(result), _estimates(result), Text(), _diagnosis(result)]


def _headline(result: SweepResult) -> RenderableType:
    chosen, names = result.chosen, result.names
    after = f"epoch {chosen['epoch']} of {result.epochs}"
    if not result.names:
        return Text(f"out of fold, {after}", style="bold")
    settings = ", ".join(f"{names.get(key, key)} {setting(value)}" for key, value in chosen["settings"].items())
    title = Text(f"chosen: trial {chosen['trial']}, {after}", style="bold")
    return Group(title, _indented(settings), _indented(chosen["why"], "dim"))


def _estimates(result: SweepResult) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column in ("", "value", "95% interval", "n"):
        table.add_column(column, justify="left" if not column else "right", overflow="fold", no_wrap=bool(column))
    chosen = result.chosen
    seen = "out of fold" if len(result.folds) > 1 else "validation"
    for name in dict.fromkeys((*result.objectives, *chosen["out_of_fold"])):
        if name in chosen["out_of_fold"]:
            _estimate(table, f"{name}, {seen}", chosen["out_of_fold"][name])
    if chosen["ahead"] is not None:
        ahead = chosen["ahead"]
        _estimate(table, f"ahead of trial {chosen['runner_up']} (p = {ahead['p']:.2g})", ahead)
    elif chosen["runner_up"] is not None:
        table.add_row(Text(f"ahead of trial {chosen['runner_up']}"), "not known", "", "")
    for name, estimate in (result.nested or {}).get("metrics", {}).items():
        _estimate(table, f"{name}, nested", estimate)
    for name, estimate in (result.metrics.get("test") or {}).items():
        _estimate(table, f"{name}, test, all folds trained", estimate)
    return table


def _diagnosis(result: SweepResult) -> RenderableType:
    found = result.diagnosis
    said: list[RenderableType] = [Text(found["kind"], style="bold"), *(_item(each) for each in found["findings"])]
    if found["advice"]:
        said += [Text("to try, the most useful first", style="bold"), *(_item(each) for each in found["advice"])]
    if result.chosen["edges"]:
        said += [Text("at the edge of the search", style="bold"), *(_item(each) for each in result.chosen["edges"])]
    return Group(*said)


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return short_names(list(dict.fromkeys(key for row in rows for key in row["settings"])))


def _cell(value: Any) -> str:
    """A setting in a cell."""
    return path_end(setting(value))


def _broken(cells: Sequence[str]) -> str:
    """The head of a column, in lines no longer than its cells where its words allow it."""
    room = max([6, *map(len, cells[1:])])
    lines = [""]
    for piece in _pieces(cells[0]):
        if lines[-1] and len(lines[-1]) + len(piece) > room:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _pieces(name: str) -> list[str]:
    """`learning_`, `rate`."""
    return [each for each in name.replace("_", "_ ").replace(".", ". ").split(" ") if each]


def _width(cells: Sequence[str]) -> int:
    return max(map(cell_len, [*_broken(cells).splitlines(), *cells[1:]]))


def _is_score(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "se"}


def _score(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['value']:.3f}" + (f" ± {found['se']:.3f}" if found["se"] else "")


def _reason(row: Mapping[str, Any]) -> str:
    return f"{row['status']}: {' '.join(str(row['why']).split())}"


def _hanging(head: str, text: str, width: int) -> Table:
    """A dim text beneath, indented behind its trial."""
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(justify="right", width=width)
    grid.add_column(overflow="fold")
    grid.add_row(Text(head, style="dim"), Text(text, style="dim"))
    return grid


def _item(text: str) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=3, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row("-", Text(text))
    return grid


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, 2))


def _estimate(table: Table, name: str, estimate: Mapping[str, Any]) -> None:
    rows = str(estimate["n"]) if "n" in estimate else ""
    interval = f"[{estimate['low']:.3f}, {estimate['high']:.3f}]"
    table.add_row(Text(name), f"{estimate['value']:.3f}", Text(interval), rows)
