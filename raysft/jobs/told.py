"""What a job tells of itself in its own log: lines that begin with a mark, and hold one event each as JSON.

A job that was submitted prints them where RAYSFT_EVENTS is set; whoever reads the log, through whatever connection and
however late, knows from them how far it is. Events have `t`, seconds since 1970, and `kind`:

    stage {name}   progress {done, total, text}   note {text}   warning {text}   error {text, next, exit_code, kept}
    nodes {pools: {pool: nodes}, gpus, held_gpus}  what the cluster has, and the job of it: jobs/driver.py
    state {...}                                    what all of these come to (state.py), behind each of them
    probe {...}                                    what `raysft cluster doctor` found there: jobs/probe.py
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, ClassVar

from raysft.jobs.state import KIND, Event, State

MARK = "::raysft:: "
EVENTS = "RAYSFT_EVENTS"
PROBE = "probe"
EVERY_S = 2.0  # between two events of progress
LARGEST = 2**53  # of a number that is a time or a count


class Teller:
    """Writes events, where they are asked for."""

    _state: ClassVar[State] = State()  # what all tellers of this process have told
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self.on = bool(os.environ.get(EVENTS))
        self._began, self._progress = time.monotonic(), 0.0

    def tell(self, kind: str, **facts: Any) -> None:
        """Two lines on stderr, which cannot mix with another's: the event, and what is known with it."""
        if not self.on:
            return
        if kind == "progress":
            now = time.monotonic()
            # Rarer as the job grows older, so that the log of a week is no longer than its reader can bear.
            if now - self._progress < max(EVERY_S, (now - self._began) / 500) and facts["done"] != facts["total"]:
                return
            self._progress = now
        with Teller._lock:
            event = {"t": round(time.time(), 3), "kind": kind, **facts}
            Teller._state = Teller._state.after(event)
            sys.stderr.write(_line(event) + _line(Teller._state.to_event(event["t"])))
            sys.stderr.flush()


def _line(event: Event) -> str:
    return f"{MARK}{json.dumps(event, ensure_ascii=False)}\n"


def events_in(lines: Iterable[str]) -> list[Event]:
    """All events of a log, in their order. What is torn or of another version is left out."""
    return [event for line in lines if (event := parted(line)[1]) is not None]


def history(events: Iterable[Event]) -> list[Event]:
    """What happened, without what the job wrote for readers that come later."""
    return [event for event in events if event["kind"] != KIND]


def parted(line: str) -> tuple[str | None, Event | None]:
    """(what of a line is for people, the event in it). Either may be None.

    An event stands behind other text where a program that shares the terminal has not ended its line yet, as progress
    bars do. One that is torn, or of another version, is for nobody.
    """
    text, mark, rest = line.partition(MARK)
    return text if text or not mark else None, _event(rest) if mark else None


def _event(text: str) -> Event | None:
    try:
        event = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return _clean(event) if isinstance(event, dict) and _is_whole(event) else None


def lines_of(log: str) -> list[str]:
    """The lines of a log. Only a line feed ends one: Unicode knows other ends of lines, which texts may hold."""
    lines = log.split("\n")
    return lines if lines[-1] else lines[:-1]


def _is_whole(event: Event) -> bool:
    """Whether it has all that readers take for granted."""
    if not _is_number(event.get("t")) or not isinstance(event.get("kind"), str):
        return False
    if not all(isinstance(event[key], str) for key in ("text", "name", "next") if key in event):
        return False
    if event["kind"] == "progress":
        return all(isinstance(event.get(key), int) and _is_number(event[key]) for key in ("done", "total"))
    if event["kind"] == "nodes":
        pools = event.get("pools")
        counted = isinstance(pools, dict) and all(isinstance(count, int) for count in pools.values())
        return counted and _is_number(event.get("held_gpus", 0))
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _clean(value: Any) -> Any:
    """Without halves of characters, which names of files may hold and no terminal takes."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return {_clean(key): _clean(each) for key, each in value.items()} if isinstance(value, dict) else value


def _finite(number: str) -> float:
    """Raises ValueError for NaN and Infinity, which are no JSON, and for 1e999, which comes to the same."""
    found = float(number)
    if not math.isfinite(found):
        raise ValueError(number)
    return found
