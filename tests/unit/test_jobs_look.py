"""How jobs are is read from the ends of their logs; attempts before cost, too, where that is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from raysft.cluster.endpoint import Endpoint
from raysft.jobs.client import Client, Unreachable
from raysft.jobs.look import LAST, look, state_of
from raysft.jobs.state import fold
from raysft.jobs.told import MARK, events_in, lines_of
from raysft.jobs.view import Prices, View
from tests.support.job_api import JobApi, event, serving

RUN = "tiny-train-0a1b2c3d"
BEGAN = 1_700_000_000.0
END = int(BEGAN + 3600) * 1000


@pytest.fixture
def api() -> Iterator[JobApi]:
    with serving(JobApi()) as api:
        yield api


@pytest.fixture
def client(api: JobApi) -> Client:
    return Client(Endpoint(api.address))


def told(*events: str) -> str:
    """As a job writes them: each with what is known then."""
    lines, known = "", ""
    for each in events:
        known += each
        state = fold(events_in(lines_of(known)))
        lines += each + MARK + json.dumps(state.to_event(BEGAN)) + "\n"
    return lines


def read(api: JobApi) -> list[str]:
    """How many lines of logs were asked for."""
    return [path.partition("lines=")[2].partition("&")[0] for _, path in api.asked if "/logs/" in path]


def views(client: Client, prices: Prices | None = None) -> dict[str, View]:
    jobs = client.jobs()
    return {view.id: view for view in look(client, jobs, jobs, BEGAN + 3600, prices)}


TRAINS = (event("stage", BEGAN, name="train"), event("nodes", BEGAN, pools={"spot": 2}, gpus=2, held_gpus=1))
STEP = event("progress", BEGAN + 5, done=7, total=9, text="loss 0.5")


def test_of_a_long_log_the_end_alone_is_read(api: JobApi, client: Client) -> None:
    api.add(f"{RUN}-1", log=told(*TRAINS) + "x\n" * 100_000 + told(*TRAINS, STEP) + "y\n" * 100)
    found = views(client)[f"{RUN}-1"]
    assert (found.stage, found.step, found.loss, found.gpus) == ("train", 7, 0.5, 1)
    assert read(api) == [str(LAST)]


def test_where_much_was_printed_since_more_is_read(api: JobApi, client: Client) -> None:
    api.add(f"{RUN}-1", log=told(*TRAINS, STEP) + "y\n" * 5000)
    assert views(client)[f"{RUN}-1"].step == 7
    assert read(api) == [str(LAST), "20000"]
    api.logs[f"{RUN}-1"] += "y\n" * 50_000
    api.asked.clear()
    assert views(client)[f"{RUN}-1"].step == 7
    assert read(api) == [str(LAST), "20000", "-1"]


def test_a_job_that_told_no_state_is_read_by_its_events(api: JobApi, client: Client) -> None:
    api.add(f"{RUN}-1", log="".join(TRAINS) + STEP)
    assert views(client)[f"{RUN}-1"].step == 7


def test_jobs_of_another_origin_tell_nothing_and_are_not_read(api: JobApi, client: Client) -> None:
    api.add("alien", log=told(*TRAINS, STEP), metadata=None)
    found = views(client)["alien"]
    assert (found.stage, found.step) == ("", None) and read(api) == []


def test_a_run_costs_what_all_of_its_attempts_cost(api: JobApi, client: Client) -> None:
    for number, status in ((1, "FAILED"), (2, "FAILED"), (3, "RUNNING")):
        over: dict[str, Any] = {"end_time": END} if status == "FAILED" else {}
        log = "" if number == 2 else told(*TRAINS)  # the second failed before it saw a node
        api.add(f"{RUN}-{number}", status, log, start_time=int(BEGAN * 1000), **over)
    found = views(client, {"spot": 1.5})
    costs = {id[-1]: (view.cost_dollars, view.run_cost_dollars) for id, view in found.items()}
    assert costs == {"1": (3.0, 3.0), "2": (0.0, 3.0), "3": (3.0, 6.0)}
    del api.jobs[f"{RUN}-2"]
    found = views(client, {"spot": 1.5})
    assert (found[f"{RUN}-3"].cost_dollars, found[f"{RUN}-3"].run_cost_dollars) == (3.0, None)
    assert views(client)[f"{RUN}-3"].run_cost_dollars is None


def test_each_log_is_read_once_however_many_attempts_there_are(api: JobApi, client: Client) -> None:
    for number in range(1, 6):
        api.add(f"{RUN}-{number}", "FAILED", told(*TRAINS), end_time=END)
    views(client, {"spot": 1.0})
    assert len(read(api)) == 5


def test_a_log_that_cannot_be_read_is_nothing_known(api: JobApi, client: Client) -> None:
    api.add(f"{RUN}-1", log=told(*TRAINS), driver_node_id="0dead")
    assert state_of(client, client.job(f"{RUN}-1")) is None
    assert views(client)[f"{RUN}-1"].stage == ""
    job = client.job(f"{RUN}-1")
    with pytest.raises(Unreachable):
        state_of(Client(Endpoint("http://127.0.0.1:1")), job)
