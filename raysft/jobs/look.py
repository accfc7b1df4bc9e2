"""How jobs are, from the end of their logs: what is read does not grow with a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raysft.errors import NotFound
from raysft.jobs.client import Client, Failing, Job, Unreachable
from raysft.jobs.runs import attempt_of, is_ours, run_of
from raysft.jobs.state import State, fold, newest
from raysft.jobs.told import events_in, lines_of
from raysft.jobs.view import Prices, View, attempt_cost, view_of, with_attempts_before

LAST = 500  # lines, in which a state of a job of ours nearly always is
MORE = 20_000


def look(client: Client, shown: Sequence[Job], known: Iterable[Job], now: float, prices: Prices | None) -> list[View]:
    """One view each. known: all jobs of the cluster, of which the attempts before at the same runs cost, too.

    now: seconds since 1970. prices: None where the cluster has no pools. Raises Unreachable.
    """
    attempts: dict[str, dict[int, Job]] = {}
    for job in known:
        attempts.setdefault(run_of(job), {})[attempt_of(job)] = job
    read: dict[str, State | None] = {}

    def state(job: Job) -> State | None:
        if job.id not in read:
            read[job.id] = state_of(client, job)
        return read[job.id]

    def before(job: Job) -> list[float | None]:
        """Dollars of the attempts before; None of one that the cluster does not know any more."""
        others = attempts.get(run_of(job), {})
        found = [others.get(number) for number in range(1, attempt_of(job))] if prices is not None else []
        return [None if each is None else attempt_cost(each, state(each), now, prices) for each in found]

    return [with_attempts_before(view_of(job, state(job), now, prices), before(job)) for job in shown]


def state_of(client: Client, job: Job) -> State | None:
    """What the job told; None where its log cannot be read, or it is of another origin. Raises Unreachable."""
    if not is_ours(job):
        return None
    try:
        for last in (LAST, MORE):
            lines = lines_of(client.log(job, last))
            if (found := newest(events_in(lines))) is not None:
                return found
            if len(lines) < last:
                return fold(events_in(lines))
        events = events_in(lines_of(client.log(job)))
    except Unreachable:
        raise
    except (NotFound, Failing):  # the node that had it is gone; what else is known of the job still stands
        return None
    return newest(events) or fold(events)
