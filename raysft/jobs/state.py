"""How a job is, as its events tell: a fold over them.

The job keeps it too, and writes it among its events (kind `state`), so that whoever comes later needs the end of the
log alone, however long that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, reduce
from typing import Any, ClassVar

Event = dict[str, Any]  # t: seconds since 1970, kind, and what belongs to that kind (told.py)
KIND = "state"
WAITING = "waiting for "  # how a note begins that says what is waited for
MOST = 500  # characters of what is kept of a text


@dataclass(frozen=True)
class State:
    """What is known of a job. Times in seconds since 1970."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}  # where it is read

    stage: str = ""  # of the journey
    done: int = 0  # of `total`: the newest progress of the stage
    total: int = 0
    text: str = ""  # of that progress
    done_t: float | None = None  # when it was told; None: nothing yet
    first_done: int = 0  # the first progress in this kind of work, from which the pace is known
    first_t: float = 0.0
    waits: str = ""  # what is waited for; "" once it has gone on
    pools: dict[str, int] = field(default_factory=dict)  # nodes that are there, by pool
    pools_t: float | None = None  # since when; None: not told
    node_s: dict[str, float] = field(default_factory=dict)  # by pool: seconds that its nodes were there until then
    gpus: float = 0.0  # that the job holds
    most_gpus: float = 0.0  # that it has held at most
    error: str = ""  # why it ended
    next: str = ""  # what to do about that
    kept: bool = False  # all was saved that was computed until then

    def to_event(self, t: float) -> Event:
        """The event from which readers go on. What is as in the beginning is left out."""
        plain = asdict(State())
        return {"t": t, "kind": KIND, **{key: value for key, value in asdict(self).items() if value != plain[key]}}

    def after(self, event: Event) -> State:
        """Once this has happened. An event that says nothing of it, or is of another version, changes nothing."""
        happened = HAPPENED.get(event["kind"])
        return self if happened is None else happened(self, event)


def fold(events: Iterable[Event], state: State | None = None) -> State:
    """After all of these events."""
    return reduce(State.after, events, state or State())


def newest(events: Sequence[Event]) -> State | None:
    """From the last state among the events on; None where there is none."""
    for index in range(len(events) - 1, -1, -1):
        if events[index]["kind"] == KIND and (found := _read(events[index])) is not None:
            return fold(events[index + 1 :], found)
    return None


def _read(event: Event) -> State | None:
    """None where it is of another version."""
    try:
        found: State = _adapter().validate_python({k: value for k, value in event.items() if k not in {"t", "kind"}})
    except ValueError:
        return None
    return found


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(State)


def _stage(state: State, event: Event) -> State:
    return replace(
        state, stage=event.get("name", ""), done=0, total=0, text="", done_t=None, first_done=0, first_t=0.0, waits=""
    )


def _progress(state: State, event: Event) -> State:
    now = replace(
        state, done=event["done"], total=event["total"], text=event.get("text", "")[:MOST], done_t=event["t"], waits=""
    )
    if state.done_t is not None and (state.total, state.done <= now.done) == (now.total, True):
        return now
    return replace(now, first_done=now.done, first_t=event["t"])  # another kind of work, or it begins anew


def _note(state: State, event: Event) -> State:
    text = event.get("text", "")
    if text.startswith(WAITING):
        return replace(state, waits=text[:MOST])
    return replace(state, waits="") if event["kind"] == "note" else state


def _nodes(state: State, event: Event) -> State:
    gpus = float(event.get("held_gpus", 0))
    used = node_seconds(state, event["t"])
    most = max(gpus, state.most_gpus)
    return replace(state, pools=event["pools"], pools_t=event["t"], node_s=used, gpus=gpus, most_gpus=most)


def _error(state: State, event: Event) -> State:
    text, following = event.get("text", ""), event.get("next", "")
    return replace(state, error=text[:MOST], next=following[:MOST], kept=bool(event.get("kept")))


HAPPENED: dict[str, Callable[[State, Event], State]] = {
    "stage": _stage,
    "progress": _progress,
    "note": _note,
    "warning": _note,
    "nodes": _nodes,
    "error": _error,
}


def node_seconds(state: State, until: float) -> dict[str, float]:
    """By pool: seconds that its nodes were there, since the job saw them."""
    if state.pools_t is None:
        return {}
    more = max(0.0, until - state.pools_t)
    names = {**state.node_s, **state.pools}
    return {pool: round(state.node_s.get(pool, 0.0) + state.pools.get(pool, 0) * more, 3) for pool in names}
