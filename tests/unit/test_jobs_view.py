"""How far a job is, what it costs and why it waits or failed, from what it told."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from raysft.cli.jobs_table import job_table, jobs_table
from raysft.jobs.client import Job
from raysft.jobs.state import Event, State, fold, newest
from raysft.jobs.told import MARK
from raysft.jobs.view import View, cost_of, for_people, view_of, with_attempts_before, words

BEGAN = 1000.0


def job(status: str = "RUNNING", message: str = "", ended: float | None = None) -> Job:
    return Job("tiny-train-0a1b2c3d-1", status, "exec raysft", message, {}, {}, BEGAN, ended, None)


def at(t: float, kind: str, **facts: Any) -> Event:
    return {"t": BEGAN + t, "kind": kind, **facts}


def progress(t: float, done: int, total: int = 100, text: str = "") -> Event:
    return at(t, "progress", done=done, total=total, text=text)


def seen(t: float, **pools: int) -> Event:
    return at(
        t, "nodes", pools={name.replace("_", "-"): count for name, count in pools.items()}, gpus=sum(pools.values())
    )


def view(*events: Event, now: float = 100, **more: Any) -> View:
    return view_of(job(**more), fold(events), BEGAN + now)


# --- progress


def test_progress_is_that_of_the_stage_at_hand() -> None:
    text = "epoch 1/3  loss 0.482  val_loss 9.9  1,234.5 rows/s"
    found = view(
        at(0, "stage", name="data"), progress(1, 7, 7), at(2, "stage", name="train"), progress(3, 25, 100, text)
    )
    assert (found.stage, found.percent, found.step, found.total) == ("train", 25.0, 25, 100)
    assert (found.loss, found.rows_per_s, found.status, found.age_s, found.ran_s) == (
        0.482,
        1234.5,
        "RUNNING",
        100,
        100,
    )
    anew = view(at(0, "stage", name="data"), progress(1, 7, 7), at(2, "stage", name="train"))
    assert (anew.stage, anew.percent, anew.step) == ("train", None, None)


def test_nothing_told_is_nothing_known() -> None:
    found = view()
    assert found.stage == found.reason == found.next == ""
    known = {found.percent, found.step, found.loss, found.rows_per_s, found.left_s, found.gpus, found.cost_dollars}
    assert known == {None}
    assert view_of(job(), None, BEGAN + 100) == found
    assert view(progress(1, 0, 0)).percent is None


@pytest.mark.parametrize(
    ("text", "loss"), [("loss 1e-05", 1e-05), ("loss 2", 2.0), ("eval_loss 3", None), ("loss nan", None)]
)
def test_losses_are_read_as_they_are_written(text: str, loss: float | None) -> None:
    assert view(progress(1, 1, 2, text)).loss == loss


def test_time_left_is_told_from_the_pace() -> None:
    assert view(progress(0, 0), progress(50, 25), now=60).left_s == pytest.approx(140)
    assert view(progress(0, 50), progress(10, 60), now=10).left_s == pytest.approx(40)  # begun from a checkpoint
    assert view(progress(0, 0), progress(50, 99), now=5000).left_s == 0
    assert view(progress(0, 5)).left_s is None
    assert view(progress(0, 5), progress(9, 5)).left_s is None
    assert view(progress(0, 5, 10), progress(9, 7, 20)).left_s is None  # another kind of work
    assert view(progress(0, 9), at(1, "stage", name="x"), progress(2, 1)).left_s is None
    assert view(progress(0, 0), progress(50, 25), status="FAILED", ended=BEGAN + 60).left_s is None


# --- cost


def test_cost_is_that_of_the_nodes_while_they_were_there() -> None:
    prices = {"spot": 1.0, "on-demand": 3.6}
    events = [seen(0, head=1), seen(100, spot=2, head=1), seen(1900, spot=1, on_demand=1), seen(3700, head=1)]
    assert cost_of(fold(events), BEGAN + 9999, prices) == pytest.approx(2 * 0.5 + 0.5 + 1.8)
    assert cost_of(fold(events[:2]), BEGAN + 100 + 3600, prices) == pytest.approx(2.0)


def test_cost_ends_with_the_job() -> None:
    state = fold([seen(0, spot=1)])
    running = view_of(job(), state, BEGAN + 3600, {"spot": 2.0})
    over = view_of(job("SUCCEEDED", ended=BEGAN + 1800), state, BEGAN + 99999, {"spot": 2.0})
    assert (running.cost_dollars, over.cost_dollars, over.ran_s) == (2.0, 1.0, 1800)


def test_the_attempts_before_cost_too_where_that_is_known() -> None:
    last = view_of(job(), fold([seen(0, spot=1)]), BEGAN + 3600, {"spot": 2.0})
    assert with_attempts_before(last, []).run_cost_dollars == 2.0
    assert with_attempts_before(last, [1.5, 0.0]).run_cost_dollars == 3.5
    gone = with_attempts_before(last, [1.5, None])
    assert (gone.cost_dollars, gone.run_cost_dollars) == (2.0, None)
    assert "≥ $2.00" in shown(jobs_table([gone]))
    assert "$3.50" in shown(jobs_table([with_attempts_before(last, [1.5])]))


def test_gpus_are_those_that_the_job_holds_and_afterwards_those_that_it_held() -> None:
    events = [{**seen(0, spot=8), "held_gpus": 0}, {**seen(5, spot=8), "held_gpus": 4}, {**seen(9), "held_gpus": 0.5}]
    assert view(*events[:2]).gpus == 4 and view(*events).gpus == 0.5
    assert view(*events, status="SUCCEEDED", ended=BEGAN + 50).gpus == 4
    assert words(events[1]) == "nodes: 8 x spot; 8 GPU(s), of which the job holds 4"


def test_a_clock_that_goes_a_little_behind_makes_no_negative_time() -> None:
    found = view(now=-3)
    assert (found.age_s, found.ran_s) == (0, 0)


def test_a_cost_that_is_not_known_is_not_made_up() -> None:
    events = [seen(0, spot=1, dear=1)]
    assert cost_of(fold(events), BEGAN + 10, {"spot": 1.0, "dear": None}) is None
    assert cost_of(State(), BEGAN + 10, {"spot": 1.0}) is None
    assert view_of(job(), fold(events), BEGAN + 10, None).cost_dollars is None
    assert cost_of(fold([seen(0, head=4)]), BEGAN + 3600, {"spot": 1.0}) == 0


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 9)), min_size=1, max_size=6), st.floats(0, 2e4))
def test_cost_never_falls_and_is_never_negative(steps: list[tuple[float, int]], until: float) -> None:
    state = fold([seen(t, spot=count) for t, count in sorted(steps)])
    first = cost_of(state, BEGAN + until, {"spot": 1.0})
    later = cost_of(state, BEGAN + until + 500, {"spot": 1.0})
    assert first is not None and later is not None and 0 <= first <= later


# --- reasons

WAITS = "waiting for 8 x A100: pool gpu-spot has no capacity since 12 min"


def test_a_job_that_waits_says_for_what_until_it_goes_on() -> None:
    waiting = view(at(0, "stage", name="train"), at(1, "warning", text=WAITS), seen(2, head=1))
    assert (waiting.status, waiting.reason) == ("WAITING", WAITS)
    for after in (progress(3, 1), at(3, "note", text="8 GPUs are there"), at(3, "stage", name="report")):
        gone_on = view(at(1, "note", text=WAITS), after)
        assert (gone_on.status, gone_on.reason) == ("RUNNING", "")
    again = view(at(1, "note", text=WAITS), progress(2, 1), at(3, "note", text=WAITS))
    assert again.status == "WAITING"
    over = view(at(1, "note", text=WAITS), status="STOPPED", ended=BEGAN + 5)
    assert (over.status, over.reason) == ("STOPPED", "")


def test_why_a_job_failed_is_what_it_said_last() -> None:
    error = at(5, "error", text="loss is nan at step 7\nmore", next="lower the learning rate", exit_code=100)
    failed = view(at(1, "error", text="x", next=""), error, status="FAILED", message="Job failed, exit code 100")
    assert (failed.reason, failed.next) == ("loss is nan at step 7", "lower the learning rate")
    assert view(at(1, "error", text="x"), status="SUCCEEDED").reason == ""


def test_why_a_job_failed_that_said_nothing_is_what_ray_says() -> None:
    message = "Traceback\n\nValueError: runtime_env cannot be set up\n\n"
    assert view(status="FAILED", message=message).reason == "ValueError: runtime_env cannot be set up"
    assert view(at(1, "error", text=""), status="FAILED", message="killed").reason == "killed"
    assert view(status="FAILED").reason == ""
    ended = "Job entrypoint command failed with exit code 137, last available logs (truncated to 20,000 chars):\n"
    killed = view(status="FAILED", message=f"{ended}epoch 1\nstep 5\n{MARK}{{}}\n{MARK}torn")
    assert killed.reason == "Job entrypoint command failed with exit code 137; its last line: step 5"
    assert view(status="FAILED", message=f"{ended}{MARK}torn").reason == (
        "Job entrypoint command failed with exit code 137"
    )
    assert view(status="PENDING", message="It waits for its environment.").reason == "It waits for its environment."


# --- words and tables


def test_people_are_told_of_nodes_that_come_and_go_and_of_work_that_is_done() -> None:
    one, two = seen(0, spot=1), seen(2, spot=2)
    events = [one, {**one, "held_gpus": 1}, progress(1, 1), two, {**two, "held_gpus": 2}, progress(3, 100), one]
    assert list(for_people(events)) == [one, two, progress(3, 100), one]


def test_events_in_words() -> None:
    assert words(at(0, "stage", name="train")) == "stage: train"
    assert words(progress(0, 1000, 2000, "loss 1")) == "1,000/2,000 loss 1"
    assert words({"t": 0, "kind": "progress", "done": 1, "total": 2}) == "1/2"
    assert words(at(0, "nodes", pools={"spot": 2, "": 1}, gpus=2)) == "nodes: 2 x spot, 1 x a node; 2 GPU(s)"
    assert words(at(0, "nodes", pools={})) == "nodes: none; 0 GPU(s)"
    assert words(at(0, "error", text="no", next="do")) == "error: no (do)"
    assert words(at(0, "error")) == "error: " and words(at(0, "later")) == "later: "


def shown(table: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_tables_show_what_is_known_and_take_no_text_for_markup() -> None:
    full = view_of(
        job(),
        fold([{**seen(0, spot=1), "held_gpus": 1}, progress(0, 0), progress(50, 25, 100, "loss 0.25 10 rows/s")]),
        BEGAN + 60,
        {"spot": 3.6},
    )
    line = " ".join(shown(jobs_table([full])).splitlines()[1].split())
    assert line == "tiny-train-0a1b2c3d-1 RUNNING 25% 0.250 10 2 min 20 s 1 $0.06 1 min"
    failed = view(at(1, "error", text="no [/mnt/x] and [red]y[/]", next="[/]"), status="FAILED")
    text = shown(job_table(failed, {"verb": "train", "output": "/a/[b]/[/c]"}))
    assert "no [/mnt/x] and [red]y[/]" in text and "/a/[b]/[/c]" in text


def test_no_id_is_cut_however_narrow_the_terminal() -> None:
    found = replace(view(), id="a" * 63)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(jobs_table([found]))
    assert "".join(line[:63].split()[0] for line in console.export_text().splitlines()[1:]).count("a") == 63


# --- what the job writes of itself


EVENTS = st.one_of(
    st.builds(lambda name: at(0, "stage", name=name), st.text(max_size=5)),
    st.builds(lambda done, total: progress(0, done, total, "x"), st.integers(0, 9), st.sampled_from([9, 99])),
    st.builds(
        lambda kind, text: at(0, kind, text=text), st.sampled_from(["note", "warning"]), st.sampled_from([WAITS, "x"])
    ),
    st.builds(lambda count, held: {**seen(0, spot=count), "held_gpus": held}, st.integers(0, 9), st.floats(0, 8)),
    st.builds(lambda kept: at(0, "error", text="no", next="do", kept=kept), st.booleans()),
    st.just(at(0, "later", x=1)),
)


@given(st.lists(EVENTS, max_size=12), st.integers(0, 12))
def test_whoever_begins_with_a_state_comes_to_what_all_events_tell(events: list[Event], cut: int) -> None:
    events = [{**event, "t": BEGAN + index} for index, event in enumerate(events)]
    before = fold(events[:cut])
    written = json.loads(json.dumps(before.to_event(BEGAN)))
    assert newest([written, *events[cut:]]) == fold(events)
    assert newest([at(0, "note", text="x"), before.to_event(BEGAN), written, *events[cut:]]) == fold(events)


@pytest.mark.parametrize("more", [{"stage": 5}, {"unknown": 1}, {"pools": {"a": "b"}}, {"node_s": [1]}])
def test_a_state_of_another_version_is_passed_over(more: dict[str, Any]) -> None:
    assert newest([at(0, "state", **more)]) is None
    assert newest([at(0, "state", stage="train"), at(1, "state", **more)]) == State(stage="train")
    assert newest([]) is None
