"""TensorBoard and MLflow get the numbers of metrics.jsonl; what fails there neither ends nor delays a run."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from raysft.storage.layout import RunFolder
from raysft.training.tracking import Line, Tracking, numbers, open_tracking

LINES: list[Line] = [
    {"step": 1, "epoch": 0.5, "rate": 1e-3, "loss": 2.0, "grad_norm": 3.0},
    {"step": 2, "epoch": 1.0, "rate": 5e-4, "loss": 1.0, "grad_norm": 1.5, "spike": True},
    {"step": 2, "epoch": 1, "validation_f1_macro": 0.25},
    {"step": 2, "ended": "all epochs are done"},
]
NEEDS_MLFLOW = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="MLflow, the extra `mlflow`, is not installed"
)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would draw."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    tracking = open_tracking(["tensorboard"], run, "tiny")
    tracking.open(0)
    tracking.write(LINES)
    tracking.close()
    assert tracking.news() == {}
    found = scalars(run.tensorboard)
    assert found["training/loss"] == [(1, 2.0), (2, 1.0)]
    assert found["training/grad_norm"] == [(1, 3.0), (2, 1.5)]
    assert found["validation/f1_macro"] == [(2, 0.25)]
    assert set(found) == {
        "training/loss",
        "training/grad_norm",
        "training/rate",
        "training/epoch",
        "validation/f1_macro",
    }


def test_tensorboard_forgets_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for resumed, loss in ((0, 2.0), (2, 1.0)):
        tracking = open_tracking(["tensorboard"], run, "tiny")
        tracking.open(resumed)
        tracking.write([{"step": step, "loss": loss} for step in range(resumed + 1, 5)])
        tracking.close()
    assert scalars(run.tensorboard)["training/loss"] == [(1, 2.0), (2, 2.0), (3, 1.0), (4, 1.0)]


def test_tensorboard_forgets_a_run_that_was_interrupted_before_its_first_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for loss in (2.0, 1.0):
        tracking = open_tracking(["tensorboard"], run, "tiny")
        tracking.open(0)
        tracking.write([{"step": step, "loss": loss} for step in range(1, 4 if loss == 2.0 else 3)])
        tracking.close()
    assert scalars(run.tensorboard)["training/loss"] == [(1, 1.0), (2, 1.0)]


@NEEDS_MLFLOW
def test_mlflow_keeps_files_below_the_run_and_a_resumed_run_goes_on_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    run = RunFolder(tmp_path)
    for resumed, lines in ((0, LINES), (2, [{"step": 3, "loss": 0.5}])):
        tracking = open_tracking(["mlflow"], run, "tiny")
        tracking.open(resumed)
        tracking.write(lines)
        tracking.close()
        assert tracking.news() == {}
    client = MlflowClient(run.mlruns.as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("raysft").experiment_id])
    assert (found.info.run_name, found.info.status) == ("tiny", "FINISHED")
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(each.step, each.value) for each in history] == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert found.data.metrics["validation_f1_macro"] == 0.25


@NEEDS_MLFLOW
def test_an_mlflow_server_that_is_not_there_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = open_tracking(["mlflow"], RunFolder(tmp_path), "tiny")
    tracking.open(0)
    tracking.write(LINES)
    tracking.close()
    assert tracking.news()["untracked"].startswith("mlflow: ")
    assert tracking.news() == {}


class Tool:
    """Waits, or fails, as a server may."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate, self.got, self.closed = gate, [], False  # type: ignore[var-annotated]

    def open(self, step: int) -> None: ...

    def write(self, lines: Sequence[Line]) -> None:
        if self.gate is None:
            raise ConnectionError("no route\nto host")
        assert self.gate.wait(10)
        self.got += lines

    def close(self) -> None:
        self.closed = True


def test_a_slow_tool_delays_nothing_and_gets_everything_in_order() -> None:
    gate = threading.Event()
    tool = Tool(gate)
    tracking = Tracking({"slow": tool})
    line: Line = {"step": 1}
    started = time.perf_counter()
    for step in range(1, 51):
        line["step"] = step
        tracking.write([line])  # the journal may go on writing into its own line
    assert time.perf_counter() - started < 5 and tool.got == []  # one write that waits takes 10
    gate.set()
    tracking.close()
    assert [each["step"] for each in tool.got] == list(range(1, 51)) and tool.closed


def test_a_tool_that_fails_gets_no_more_and_the_others_do() -> None:
    gate = threading.Event()
    gate.set()
    good, bad = Tool(gate), Tool()
    tracking = Tracking({"bad": bad, "good": good})
    tracking.open(0)
    tracking.write([{"step": 1}])
    tracking.write([{"step": 2}])
    tracking.close()
    assert tracking.news() == {"untracked": "bad: ConnectionError: no route"}
    assert len(good.got) == 2 and good.closed and not bad.closed


def test_without_tools_there_is_no_thread() -> None:
    before = threading.active_count()
    tracking = Tracking({})
    tracking.open(0)
    tracking.write(LINES)
    tracking.close()
    assert threading.active_count() == before and tracking.news() == {}


def test_only_numbers_are_numbers() -> None:
    assert numbers({"step": 3, "loss": 1, "spike": True, "ended": "x", "rate": 0.5}) == {"loss": 1.0, "rate": 0.5}
