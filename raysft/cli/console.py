"""What people see: colour, a progress bar with the time left on a terminal, plain lines in a pipe. All on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from raysft.jobs.told import Teller

LINE_EVERY_S = 10.0  # between progress lines in a pipe


class Terminal(Console):
    """Rich ends the process with code 1 where the reader has left; main.py knows what that means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stderr() -> Console:
    """Where everything but the answer goes."""
    return Terminal(stderr=True)


def stdout(wide: int = 120) -> Console:
    """Where answers for people go; never wrapped into a narrow pipe. wide: columns of a pipe."""
    return Terminal(width=None if sys.stdout.isatty() else wide)


def print_json(value: Any) -> None:
    """The one JSON document of `--json`."""
    sys.stdout.write(as_json(value, sys.stdout, indent=2) + "\n")


def as_json(value: Any, to: TextIO, indent: int | None = None) -> str:
    """A value as JSON; letters that `to` cannot write are escaped."""
    narrow = (to.encoding or "utf-8").lower().replace("-", "") != "utf8"
    return json.dumps(value, indent=indent, ensure_ascii=narrow, allow_nan=False)


class Watch:
    """Shows a job as it happens (raysft.events.Listener)."""

    def __init__(self, tells: bool = True) -> None:
        """tells: also write events, where the job was submitted (raysft/jobs/told.py)."""
        self._console = stderr()
        self._started = time.monotonic()
        self._bar: Progress | None = None
        self._live: Live | None = None
        self._task: TaskID | None = None
        self._said = 0.0
        self._total = 0
        self._first: tuple[int, int, float] | None = None  # total, done and time when this progress was first told
        self._teller = Teller()
        self._teller.on &= tells

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()
        self._end_board()

    def stage(self, name: str) -> None:
        self._teller.tell("stage", name=name)
        self._end_bar()
        self._end_board()
        self._first = None
        self._console.print(f"[bold cyan]{name}[/] [dim]{self._clock()}[/]", highlight=False)

    def note(self, text: str) -> None:
        self._teller.tell("note", text=text)
        self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self._teller.tell("warning", text=text)
        self._console.print("  [yellow]warning:[/]", end=" ")
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, rows: list[dict[str, Any]]) -> None:
        from raysft.cli.tables import rows_table

        self._end_bar()
        self._console.print(rows_table(title, rows))

    def board(self, rows: list[dict[str, Any]], text: str, news: str) -> None:
        from raysft.cli.sweep_table import board_table

        if not self._console.is_terminal:
            if news:
                self.note(f"{news}  ({text})")
            return
        self._end_bar()
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        if news:
            self._live.console.print(f"  {news}", markup=False, highlight=False, soft_wrap=True)
        self._live.update(board_table(rows, text), refresh=True)

    def lessons(self, found: Sequence[Any]) -> None:
        from raysft.cli.learnt import lessons_text

        self._end_bar()
        coloured = self._console.color_system is not None and not self._console.no_color
        self._console.print(lessons_text(found, coloured), highlight=False, soft_wrap=True)

    def progress(self, done: int, total: int, text: str) -> None:
        self._teller.tell("progress", done=done, total=total, text=text)
        if self._console.is_terminal:
            self._advance(done, total, text)
            return
        if self._first is None or self._first[0] != total:
            self._first = (total, done, time.monotonic())
        if time.monotonic() - self._said > LINE_EVERY_S or done == total:
            self._said = time.monotonic()
            self._say("  ".join(filter(None, (f"{done:,}/{total:,} {text}", self._left(done)))))

    def _left(self, done: int) -> str:
        """Time left at the pace so far, where there is one."""
        assert self._first is not None
        total, begun, since = self._first
        if not begun < done < total:
            return ""
        return f"{_minutes((time.monotonic() - since) / (done - begun) * (total - done))} left"

    def _advance(self, done: int, total: int, text: str) -> None:
        if self._bar is not None and self._total != total:
            self._end_bar()  # another kind of work within the same stage
        if self._bar is None:
            self._total = total
            columns = (
                TextColumn(" "),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=self._console, transient=False)
            self._task = self._bar.add_task(text, total=total, completed=done)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, description=text)

    def _end_board(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _clock(self) -> str:
        return _minutes(time.monotonic() - self._started)


def _minutes(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
