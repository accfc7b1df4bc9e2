"""What a running job tells whoever watches: a terminal, a log, a notebook, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Listener(Protocol):
    """Receives the journey as it happens."""

    def stage(self, name: str) -> None:
        """A step of the journey begins."""

    def note(self, text: str) -> None:
        """One line worth keeping."""

    def warn(self, text: str) -> None:
        """One line that asks for attention."""

    def table(self, title: str, rows: list[dict[str, Any]]) -> None:
        """A small table: each row holds a value for each column."""

    def board(self, rows: list[dict[str, Any]], text: str, news: str) -> None:
        """A table that changes while a sweep runs: raysft.tuning.rows; `text` says how far it is. news: a line about
        what has changed, or ""."""

    def lessons(self, found: Sequence[Any]) -> None:
        """Some conversations, and what of them is learnt: raysft.report.learnt.Lesson each."""

    def progress(self, done: int, total: int, text: str) -> None:
        """`done` of `total`; `text` begins with what is counted: "steps, loss 0.31"."""


class Silent:
    """Nobody watches."""

    def stage(self, name: str) -> None: ...

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def table(self, title: str, rows: list[dict[str, Any]]) -> None: ...

    def board(self, rows: list[dict[str, Any]], text: str, news: str) -> None: ...

    def lessons(self, found: Sequence[Any]) -> None: ...

    def progress(self, done: int, total: int, text: str) -> None: ...
