"""What a job tells of itself in its own log: lines that begin with a mark, and hold one event each as JSON.

A job that was submitted prints them where RAYSFT_EVENTS is set; whoever reads the log, through whatever connection and
however late, knows from them how far it is. Events have `t`, seconds since 1970, and `kind`:

    stage {name}   progress {done, total, text}   note {text}   warning {text}   error {text, next, exit_code, kept}
    nodes {pools: {pool: nodes}, gpus}             what the cluster has while the job runs: jobs/driver.py
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

MARK = "::raysft:: "
EVENTS = "RAYSFT_EVENTS"
EVERY_S = 2.0  # between two events of progress
Event = dict[str, Any]


class Teller:
    """Writes events, where they are asked for."""

    def __init__(self) -> None:
        self.on = bool(os.environ.get(EVENTS))
        self._began, self._progress = time.monotonic(), 0.0

    def tell(self, kind: str, **facts: Any) -> None:
        """One line on stderr, which cannot mix with another's."""
        if not self.on:
            return
        if kind == "progress":
            now = time.monotonic()
            # Rarer as the job grows older, so that the log of a week is no longer than its reader can bear.
            if now - self._progress < max(EVERY_S, (now - self._began) / 500) and facts["done"] != facts["total"]:
                return
            self._progress = now
        line = json.dumps({"t": round(time.time(), 3), "kind": kind, **facts}, ensure_ascii=False)
        sys.stderr.write(f"{MARK}{line}\n")
        sys.stderr.flush()


def events_in(log: str) -> list[Event]:
    """All events of a log, in their order. What is torn or of another version is left out."""
    return [event for line in lines_of(log) if (event := event_of(line)) is not None]


def event_of(line: str) -> Event | None:
    """The event of a line; None where it holds none, or one that is torn or of another version."""
    if not is_event(line):
        return None
    try:
        event = json.loads(line.removeprefix(MARK), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and _is_whole(event) else None


def is_event(line: str) -> bool:
    """Whether a line of a log is for programs."""
    return line.startswith(MARK)


def without_events(log: str) -> str:
    """The log for people."""
    return "\n".join(line for line in log.split("\n") if not is_event(line))


def lines_of(log: str) -> list[str]:
    """The lines of a log. Only a line feed ends one: Unicode knows other ends of lines, which texts may hold."""
    lines = [line.removesuffix("\r") for line in log.split("\n")]
    return lines if lines[-1] else lines[:-1]


def _is_whole(event: Event) -> bool:
    """Whether it has all that readers take for granted."""
    if not isinstance(event.get("t"), int | float) or not isinstance(event.get("kind"), str):
        return False
    if not all(isinstance(event[key], str) for key in ("text", "name", "next") if key in event):
        return False
    if event["kind"] == "progress":
        return isinstance(event.get("done"), int) and isinstance(event.get("total"), int)
    if event["kind"] == "nodes":
        pools = event.get("pools")
        return isinstance(pools, dict) and all(isinstance(count, int) for count in pools.values())
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are no JSON
