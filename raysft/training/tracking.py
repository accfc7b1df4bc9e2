"""The numbers of metrics.jsonl for tools that people watch: TensorBoard and MLflow. The first rank writes.

Neither can end or delay a run: what fails is said once, and that tool gets no more numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from raysft.storage.layout import RunFolder

Line = dict[str, Any]  # of metrics.jsonl; holds `step`
CLOSING_S = 10.0  # at most, to send what is left at the end
MLFLOW = {  # unless the person sets them: give up on a server that does not answer, and let metrics be files
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


class Tool(Protocol):
    """One place that numbers go to. May raise anything."""

    def open(self, step: int) -> None:
        """Begin, or go on after `step`; numbers after it are written again."""

    def write(self, lines: Sequence[Line]) -> None:
        """Take the numbers of these lines, each at its step."""

    def close(self) -> None:
        """The run has ended."""


class Tracking:
    """Gives lines to tools in a thread of its own, since a tool may have to reach a server."""

    def __init__(self, tools: dict[str, Tool]) -> None:
        self._tools = dict(tools)
        self._pool = ThreadPoolExecutor(1, "tracking") if tools else None
        self._failed: list[str] = []

    def open(self, step: int) -> None:
        self._each(lambda tool: tool.open(step))

    def write(self, lines: Sequence[Line]) -> None:
        kept = [dict(line) for line in lines]
        self._each(lambda tool: tool.write(kept))

    def news(self) -> Line:
        """What failed since the last call, for metrics.jsonl; empty when nothing did."""
        failed, self._failed = self._failed, []
        return {"untracked": "; ".join(failed)} if failed else {}

    def close(self) -> None:
        """Send what is left, waiting for CLOSING_S at most."""
        if self._pool is None:
            return
        self._each(lambda tool: tool.close())
        done = self._pool.submit(lambda: None)
        deadline = time.monotonic() + CLOSING_S
        while not done.done() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _each(self, action: Callable[[Tool], None]) -> None:
        if self._pool is not None:
            self._pool.submit(self._try_each, action)

    def _try_each(self, action: Callable[[Tool], None]) -> None:
        for name, tool in list(self._tools.items()):
            try:
                action(tool)
            except Exception as error:  # noqa: BLE001  # a tool that watches must not end what it watches
                del self._tools[name]
                words = (str(error).splitlines() or [""])[0][:200]
                self._failed.append(f"{name}: {type(error).__name__}: {words}")


def open_tracking(names: Sequence[str], run: RunFolder, name: str) -> Tracking:
    """The tools that train.track names, for the run `name`."""
    tools: dict[str, Tool] = {}
    if "tensorboard" in names:
        tools["tensorboard"] = TensorBoard(run)
    if "mlflow" in names:
        tools["mlflow"] = MLflow(run, name)
    return Tracking(tools)


class TensorBoard:
    """Event files below the run's folder; training and validation under tabs of their own."""

    def __init__(self, run: RunFolder) -> None:
        self._folder = run.tensorboard

    def open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote after the checkpoint, or before its first one, is hidden: it is written again.
        self._writer: Any = SummaryWriter(str(self._folder), purge_step=step + 1)

    def write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            for name, value in numbers(line).items():
                tab = "validation" if name.startswith("validation_") else "training"
                self._writer.add_scalar(f"{tab}/{name.removeprefix('validation_')}", value, line["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """One MLflow run in the experiment `raysft`: on the server of MLFLOW_TRACKING_URI, else as files below the run's
    folder. A resumed run goes on in the same MLflow run."""

    def __init__(self, run: RunFolder, name: str) -> None:
        self._run, self._name = run, name

    def open(self, step: int) -> None:
        for variable, value in MLFLOW.items():
            os.environ.setdefault(variable, value)
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or self._run.mlruns.as_uri())
        known = self._run.mlflow_id
        if step and known.exists():
            self._id = known.read_text(encoding="utf-8")
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name("raysft")
        experiment = found.experiment_id if found else self._client.create_experiment("raysft")
        self._id = self._client.create_run(experiment, run_name=self._name).info.run_id
        known.write_text(self._id, encoding="utf-8")

    def write(self, lines: Sequence[Line]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = [Metric(name, value, now, line["step"]) for line in lines for name, value in numbers(line).items()]
        self._client.log_batch(self._id, metrics=found)

    def close(self) -> None:
        self._client.set_terminated(self._id)


def numbers(line: Line) -> dict[str, float]:
    """The numbers of a line, its step aside."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }
