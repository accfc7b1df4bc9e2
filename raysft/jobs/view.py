"""How far a job is, what it costs and why it waits or failed, from what the cluster knows and what the job told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from raysft.jobs.client import Job
from raysft.jobs.state import Event, State, node_seconds
from raysft.jobs.told import lines_of, parted

LOSS = re.compile(r"(?<![a-z_])loss (\d+(?:\.\d+)?(?:e-?\d+)?)")
RATE = re.compile(r"(\d[\d,]*(?:\.\d+)?) rows/s")
LOG_FOLLOWS = ", last available logs"  # in a message of Ray's
Prices = Mapping[str, float | None]  # dollars an hour of a node of each pool; None: not known


@dataclass(frozen=True)
class View:
    """One job for people. None: not known."""

    id: str
    status: str  # as Ray has it; WAITING while it runs and waits for nodes
    stage: str  # of the journey
    percent: float | None  # of the stage, 0 to 100
    step: int | None
    total: int | None
    loss: float | None
    rows_per_s: float | None  # that it trains on
    left_s: float | None  # of the stage
    gpus: float | None  # that it holds; once it is over, those that it held at most
    cost_dollars: float | None  # so far, of the nodes of the cluster while the job ran
    run_cost_dollars: float | None  # with that of the attempts before
    age_s: float | None  # since it was submitted
    ran_s: float | None
    reason: str  # why it waits, or failed; ""
    next: str  # what to do about that; ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def view_of(job: Job, state: State | None, now: float, prices: Prices | None = None) -> View:
    """One attempt by itself. state: None where nothing is known of it. now: seconds since 1970."""
    known = state or State()
    until = job.ended or now
    told = known.done_t is not None
    waits = "" if job.over else known.waits
    reason, following = _failure(job, known)
    cost = attempt_cost(job, state, now, prices)
    return View(
        id=job.id,
        status="WAITING" if waits and job.status == "RUNNING" else job.status,
        stage=known.stage,
        percent=round(100 * known.done / known.total, 1) if told and known.total else None,
        step=known.done if told else None,
        total=known.total if told else None,
        loss=_number(LOSS, known.text),
        rows_per_s=_number(RATE, known.text),
        left_s=None if job.over else _left(known, now),
        gpus=None if known.pools_t is None else known.most_gpus if job.over else known.gpus,
        cost_dollars=cost,
        run_cost_dollars=cost,
        # Clocks of two machines differ a little.
        age_s=None if job.started is None else max(0.0, round(now - job.started, 1)),
        ran_s=None if job.started is None else max(0.0, round(until - job.started, 1)),
        reason=waits or reason,
        next=following,
    )


def with_attempts_before(view: View, costs: list[float | None]) -> View:
    """With the dollars of all attempts before; None where those of one are not known."""
    known = [cost for cost in [view.cost_dollars, *costs] if cost is not None]
    return replace(view, run_cost_dollars=round(sum(known), 4) if len(known) == len(costs) + 1 else None)


def attempt_cost(job: Job, state: State | None, now: float, prices: Prices | None) -> float | None:
    """Dollars of one attempt so far; None where that is not known. One that ended before it saw a node cost nothing."""
    if state is None or prices is None:
        return None
    if job.over and state.pools_t is None:
        return 0.0
    return cost_of(state, job.ended or now, prices)


def cost_of(state: State, until: float, prices: Prices) -> float | None:
    """Dollars of all nodes with a price, from when the job saw them; None where it saw none, or no price is known."""
    if state.pools_t is None:
        return None
    dollars = 0.0
    for pool, seconds in node_seconds(state, until).items():
        if pool not in prices:  # the head, or a node that was there before
            continue
        price = prices[pool]
        if price is None:
            return None
        dollars += price * seconds / 3600
    return round(dollars, 4)


def reason_of(job: Job, state: State | None) -> str:
    """Why it has not begun, or failed; ""."""
    return _failure(job, state or State())[0]


def for_people(events: Iterable[Event]) -> Iterator[Event]:
    """Without what is told again and again: progress on the way, and the same nodes of which the job holds others."""
    pools: object = None
    for event in events:
        if event["kind"] == "nodes":
            pools, before = event["pools"], pools
            if pools == before:
                continue
        if event["kind"] != "progress" or event["done"] == event["total"]:
            yield event


def words(event: Event) -> str:
    """An event in a line."""
    kind = event["kind"]
    if kind == "progress":
        return f"{event['done']:,}/{event['total']:,} {event.get('text', '')}".rstrip()
    if kind == "nodes":
        pools = ", ".join(f"{count} x {pool or 'a node'}" for pool, count in event["pools"].items())
        held = f", of which the job holds {event['held_gpus']:g}" if event.get("held_gpus") else ""
        return f"nodes: {pools or 'none'}; {event.get('gpus', 0)} GPU(s){held}"
    if kind == "error":
        return f"error: {event.get('text', '')}" + (f" ({event['next']})" if event.get("next") else "")
    return f"{kind}: {event.get('text', event.get('name', ''))}"


def _failure(job: Job, state: State) -> tuple[str, str]:
    """(why it has not begun, or failed, what to do about that)"""
    if job.status in {"RUNNING", "SUCCEEDED"}:
        return "", ""
    if state.error:
        return state.error.splitlines()[0], state.next
    return _said(job.message), ""


def _said(message: str) -> str:
    """What Ray says of a job that said nothing. Of one that ended it repeats the last lines of the log."""
    why, ended, log = message.partition(LOG_FOLLOWS)
    lines = [text.strip() for line in lines_of(log if ended else message) if (text := parted(line)[0]) is not None]
    last = next((line[:300] for line in reversed(lines[1:] if ended else lines) if line), "")
    return "; its last line: ".join(filter(None, (why, last))) if ended else last


def _left(state: State, now: float) -> float | None:
    """Seconds to the end of the stage at the pace of its progress so far."""
    if state.done_t is None or state.done <= state.first_done:
        return None
    pace = (state.done_t - state.first_t) / (state.done - state.first_done)
    return max(0.0, round(pace * (state.total - state.done) - (now - state.done_t), 1))


def _number(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return None if found is None else float(found.group(1).replace(",", ""))
