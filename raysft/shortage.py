"""What clouds were asked for and did not give: the record of it, and what of it is told to those who wait."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raysft.duration import span

# What clouds call having no machine; other refusals, such as an unknown image, are a mistake that someone must mend.
NO_CAPACITY = re.compile(
    r"capacity|exhausted|stockout|quota|(limit|count)exceeded|skunotavailable|allocationfail|overconstrained|spotmaxprice",
    re.I,
)
SERIES_S = 300.0  # refusals that follow one another more closely than this, past the quiet time, are one shortage
KEPT = 200  # newest lines that are read, and that jobs can read anywhere in the cluster


@dataclass(frozen=True)
class Asked:
    """One time that a cloud was asked for nodes of a pool."""

    time: float  # seconds since 1970
    pool: str
    wanted: str  # the pool that was wanted; another one than `pool` when that stands in for it
    asked: int  # nodes
    got: int
    why: str = ""  # in the cloud's words, where it gave fewer
    again: float = 0.0  # seconds since 1970, from which the pool is asked again; 0 where it gave all

    @property
    def refused(self) -> bool:
        return self.got < self.asked

    def line(self) -> dict[str, Any]:
        """As it stands in the record."""
        return asdict(self)


def parse(lines: Iterable[str]) -> list[Asked]:
    """Lines as they were asked; what is no line of a record is passed over."""
    return [asked for line in lines if (asked := _asked(line)) is not None]


def dump(record: Iterable[Asked]) -> str:
    """The newest lines as one text, which `parse` reads."""
    return "\n".join(json.dumps(asked.line()) for asked in list(record)[-KEPT:])


def _asked(line: str) -> Asked | None:
    try:
        found: dict[str, Any] = json.loads(line)
        return Asked(**found)
    except (ValueError, TypeError):
        return None


def capacity_words(record: Sequence[Asked], now: float) -> list[str]:
    """What a person who waits is told: a line for each pool that had no machine and is not asked again yet.

    record: in the order of time. now: seconds since 1970.
    """
    last = {asked.pool: asked for asked in record}
    short = {name: asked for name, asked in last.items() if asked.refused and asked.time <= now < asked.again}
    return [_words(asked, record, short, now) for asked in short.values()]


def _words(asked: Asked, record: Sequence[Asked], short: Mapping[str, Asked], now: float) -> str:
    since = _since(asked.pool, record)
    what = "has no capacity" if NO_CAPACITY.search(asked.why) else "cannot be used"
    why = "" if what == "has no capacity" else f" ({asked.why})"
    return f"pool {asked.pool} {what} since {span(now - since)}{why}; {_next(asked, record, short, now)}"


def _next(asked: Asked, record: Sequence[Asked], short: Mapping[str, Asked], now: float) -> str:
    """What happens next for those who want nodes of this pool."""
    others = {each.pool: each for each in record if each.wanted == asked.pool and each.pool != asked.pool}
    gave = [each for each in others.values() if each.got and each.time >= _since(asked.pool, record)]
    if gave:
        nodes = "1 node" if gave[-1].got == 1 else f"{gave[-1].got} nodes"
        return f"{gave[-1].pool} gave {nodes} instead, and {asked.pool} is next in {span(asked.again - now)}"
    waiting = [asked, *(short[name] for name in others if name in short)]
    soonest = min(waiting, key=lambda each: each.again)
    return f"{soonest.pool} next in {span(soonest.again - now)}"


def _since(pool: str, record: Sequence[Asked]) -> float:
    """When the shortage of a pool began that its last line belongs to, in seconds since 1970."""
    began = later = None
    for asked in reversed([each for each in record if each.pool == pool]):
        if later is not None and (not asked.refused or later.time > asked.again + SERIES_S):
            break
        began = later = asked
    assert began is not None, "only pools of the record are asked for"
    return began.time
