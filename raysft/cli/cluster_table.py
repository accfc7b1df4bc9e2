"""What a cluster can do for a job, as a table for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from raysft.cluster.pools.capacity import Fit
from raysft.cluster.pools.forecast import Span
from raysft.cluster.pools.holding import Holding

LEFT, RIGHT = ("pool", "market"), ("nodes", "workers", "$/h", "hours", "$ in all")


def holding_table(holding: Holding) -> Group:
    """The pools, those that hold the job first and the cheapest of them at the top; what is to be known of them
    beneath; and what the numbers rest on."""
    if not holding.pools:
        return Group(f"{escape(holding.name)}: the cluster file names no pools; what there is shows when the job runs.")
    title = f"{escape(holding.name)}: {'workers with a GPU each' if holding.gpu else 'workers on CPUs'}"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for name in LEFT + RIGHT:
        table.add_column(name, justify="left" if name in LEFT else "right", overflow="fold")
    for each in holding.fits:
        table.add_row(*(escape(cell) for cell in _cells(each)), style=None if each.holds else "dim")
    remarks: list[RenderableType] = [escape(line) for line in _remarks(holding)]
    notes: list[RenderableType] = [f"[dim]{escape(line)}[/]" for line in _notes(holding)]
    return Group(table, *remarks, *notes)


def _cells(each: Fit) -> tuple[str, ...]:
    name = " + ".join(each.pools)
    if not each.holds:
        return (name, "", "no", *"----")
    workers = f"{each.workers}, {each.strategy}" if each.workers > 1 else "1"
    nodes = " + ".join(map(str, each.nodes))
    return (name, each.market, nodes, workers, _money(each.hourly), _span(each.hours), _span(each.dollars))


def _remarks(holding: Holding) -> list[str]:
    found = [f"on CPUs, since train.device is auto: {holding.instead}"] if holding.instead else []
    for each in holding.fits:
        name = " + ".join(each.pools)
        if each.behind:
            found.append(f"{name}: where there is none, {each.behind}{_at(each.behind_hourly)}")
        if each.why:
            found.append(f"{name}: {each.why}")
    return found


def _at(hourly: float | None) -> str:
    return "" if hourly is None else f" at {_money(hourly)} $/h"


def _money(dollars: float | None) -> str:
    return "?" if dollars is None else f"{dollars:.2f}"


def _span(span: Span | None) -> str:
    """12.0 (8.5 to 30.1)"""
    if span is None:
        return "?"
    digits = 2 if span.mid < 10 else 0
    return f"{span.mid:,.{digits}f} ({span.low:,.{digits}f} to {span.high:,.{digits}f})"


def _notes(holding: Holding) -> list[str]:
    priced = dict.fromkeys(pool.priced for pool in holding.pools if pool.priced)
    prices = [f"prices: {'; '.join(priced)}. `price:` of a pool overrides them"] if priced else []
    unpriced = [pool.name for pool in holding.pools if pool.price is None]
    unknown = [f"no price is known of {', '.join(unpriced)}; `price:` of the pool tells it"] if unpriced else []
    return [*prices, *unknown, "assumed: " + "; ".join(holding.assumed)]
