"""How far a job is, what it costs and why it waits or failed, from what the cluster knows and what the job told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raysft.jobs.client import Job
from raysft.jobs.told import Event

WAITING = "waiting for "  # how a note begins that says what is waited for
LOSS = re.compile(r"(?<![a-z_])loss (\d+(?:\.\d+)?(?:e-?\d+)?)")
RATE = re.compile(r"(\d[\d,]*(?:\.\d+)?) rows/s")


@dataclass(frozen=True)
class View:
    """One job for people. None: not known. Times in seconds."""

    id: str
    status: str  # as Ray has it; WAITING while it runs and waits for nodes
    stage: str  # of the journey
    percent: float | None  # of the stage, 0 to 100
    step: int | None
    total: int | None
    loss: float | None
    rate: float | None  # training rows a second
    left_s: float | None
    gpus: int | None  # of the cluster, at the moment
    cost: float | None  # dollars so far, of the nodes of the cluster while the job ran
    age_s: float | None  # since it was submitted
    seconds: float | None  # that it ran
    reason: str  # why it waits, or failed; ""
    next: str  # what to do about that; ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def view_of(job: Job, events: Sequence[Event], now: float, prices: Mapping[str, float | None] | None = None) -> View:
    """prices: of a node of each pool, dollars an hour; None: of no pool is one known. now: seconds since 1970."""
    until = job.ended or now
    progress = _last(events, "progress", since=_began(events))
    waits = "" if job.over else _waits(events)
    reason, following = _failure(job, events)
    done, total = (progress["done"], progress["total"]) if progress else (None, None)
    text = str(progress.get("text", "")) if progress else ""
    return View(
        id=job.id,
        status="WAITING" if waits and job.status == "RUNNING" else job.status,
        stage=str((_last(events, "stage") or {}).get("name", "")),
        percent=round(100 * done / total, 1) if done is not None and total else None,
        step=done,
        total=total,
        loss=_number(LOSS, text),
        rate=_number(RATE, text),
        left_s=None if job.over else _left(events, now),
        gpus=(_last(events, "nodes") or {}).get("gpus"),
        cost=None if prices is None else cost_of(events, until, prices),
        age_s=None if job.started is None else now - job.started,
        seconds=None if job.started is None else until - job.started,
        reason=waits or reason,
        next=following,
    )


def cost_of(events: Sequence[Event], until: float, prices: Mapping[str, float | None]) -> float | None:
    """Dollars of all nodes with a price, from when the job saw them; None where a pool has none."""
    seen = [event for event in events if event["kind"] == "nodes"]
    if not seen:
        return None
    dollars = 0.0
    for event, following in zip(seen, [*seen[1:], {"t": until}], strict=True):
        for pool, nodes in event["pools"].items():
            if pool not in prices:  # the head, or a node that was there before
                continue
            price = prices[pool]
            if price is None:
                return None
            dollars += nodes * price * max(0.0, float(following["t"]) - float(event["t"])) / 3600
    return round(dollars, 4)


def words(event: Event) -> str:
    """An event in a line."""
    kind = event["kind"]
    if kind == "progress":
        return f"{event['done']:,}/{event['total']:,} {event.get('text', '')}".rstrip()
    if kind == "nodes":
        pools = ", ".join(f"{count} x {pool or 'a node'}" for pool, count in event["pools"].items())
        return f"nodes: {pools or 'none'}; {event.get('gpus', 0)} GPU(s)"
    if kind == "error":
        return f"error: {event.get('text', '')}" + (f" ({event['next']})" if event.get("next") else "")
    return f"{kind}: {event.get('text', event.get('name', ''))}"


def _last(events: Sequence[Event], kind: str, since: float = 0.0) -> Event | None:
    return next((event for event in reversed(events) if event["kind"] == kind and event["t"] >= since), None)


def _began(events: Sequence[Event]) -> float:
    """When the stage at hand began."""
    return float((_last(events, "stage") or {"t": 0.0})["t"])


def _waits(events: Sequence[Event]) -> str:
    """What the job waits for; "" once it has gone on."""
    for event in reversed(events):
        text = str(event.get("text", ""))
        if event["kind"] in {"note", "warning"} and text.startswith(WAITING):
            return text
        if event["kind"] in {"progress", "stage", "note"}:
            return ""
    return ""


def _failure(job: Job, events: Sequence[Event]) -> tuple[str, str]:
    """(why it has not begun, or failed, what to do about that)"""
    if job.status in {"RUNNING", "SUCCEEDED"}:
        return "", ""
    error = _last(events, "error")
    if error is not None and error.get("text"):
        return str(error["text"]).splitlines()[0], str(error.get("next", ""))
    said = [line for line in job.message.strip().splitlines() if line.strip()]
    return (said[-1][:300] if said else ""), ""


def _left(events: Sequence[Event], now: float) -> float | None:
    """Seconds to the end of the stage at the pace of its progress so far."""
    told = [event for event in events if event["kind"] == "progress" and event["t"] >= _began(events)]
    if len(told) < 2 or told[0]["total"] != told[-1]["total"]:
        return None
    first, last = told[0], told[-1]
    done = float(last["done"] - first["done"])
    if done <= 0:
        return None
    pace = float(last["t"] - first["t"]) / done
    return max(0.0, pace * float(last["total"] - last["done"]) - (now - float(last["t"])))


def _number(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return None if found is None else float(found.group(1).replace(",", ""))
