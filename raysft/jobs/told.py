"""What a job tells of itself in its own log: lines that begin with a mark, and hold one event each as JSON.

A job that was submitted prints them where RAYSFT_EVENTS is set; whoever reads the log, through whatever connection and
however late, knows from them how far it is. Events have `t`, seconds since 1970, and `kind`:

    stage {name}   progress {done, total, text}   note {text}   warning {text}   error {text, next, exit_code}
    nodes {pools: {pool: nodes}, gpus}             what the cluster has while the job runs: jobs/driver.py
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

MARK = "::raysft:: "
EVENTS = "RAYSFT_EVENTS"
EVERY_S = 2.0  # between two events of progress
Event = dict[str, Any]


class Teller:
    """Writes events, where they are asked for."""

    def __init__(self) -> None:
        self.on = bool(os.environ.get(EVENTS))
        self._progress = 0.0

    def tell(self, kind: str, **facts: Any) -> None:
        """One line on stderr, which cannot mix with another's."""
        if not self.on:
            return
        if kind == "progress":
            now = time.monotonic()
            if now - self._progress < EVERY_S and facts["done"] != facts["total"]:
                return
            self._progress = now
        line = json.dumps({"t": round(time.time(), 3), "kind": kind, **facts}, ensure_ascii=False)
        sys.stderr.write(f"{MARK}{line}\n")
        sys.stderr.flush()


def events_in(log: str) -> list[Event]:
    """All events of a log, in their order. What is torn or of another version is left out."""
    return list(_parsed(line for line in log.splitlines() if line.startswith(MARK)))


def without_events(log: str) -> str:
    """The log for people."""
    return "".join(line for line in log.splitlines(keepends=True) if not line.startswith(MARK))


def _parsed(lines: Iterable[str]) -> Iterator[Event]:
    for line in lines:
        try:
            event = json.loads(line.removeprefix(MARK))
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("t"), int | float) and isinstance(event.get("kind"), str):
            yield event
