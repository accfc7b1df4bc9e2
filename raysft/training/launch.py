"""Start the workers on Ray Train, show how far they are, and turn every end into a result or one clear error."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from raysft.capacity import grows, wait_for_room
from raysft.errors import Kept, NoRoom, RaysftError, TrainingFailed
from raysft.events import Listener
from raysft.session import Resources
from raysft.storage.commit import read_json, writing
from raysft.storage.layout import RunFolder
from raysft.training.notice import MOVE, STOP, Moving
from raysft.training.shared import require_shared
from raysft.training.stability import warning
from raysft.training.worker import Task, run_worker

WORKER_RETRIES = 2  # restarts after a worker or node died; each goes on from the newest checkpoint
CONTROLLER_RETRIES = 5  # starts that found no room in 60 s; Ray's default is for ever
GRACE_S = 30.0  # past the moment at which a node is taken away, for ranks that are still saving
NO_ROOM = "WorkerGroupStartupTimeoutError"  # Ray's, for a start that found no room
POLL_S = 0.5
PATIENCE_S = 60.0
Worker = Callable[[Task], Any]
COLLECTIVE_S = 600  # a rank that waits longer for the others gives up; Ray's default is 1800


def launch(
    task: Task, resources: Resources, listener: Listener, worker: Worker | None = None, until: float | None = None
) -> Any:
    """Train on Ray Train workers; returns the outcome when the artifact is written. Needs a running Ray.

    worker: what each of them does, instead of run_worker; what the first one's returns is returned. until: when to give
    up waiting for room, in seconds since 1970; None: never, where nodes may come.

    At the first KeyboardInterrupt the ranks save the step at hand and end; a second one goes through at once. Where a
    node is about to be taken away they save too, and start again elsewhere. Raises whatever the workers report for
    people (Kept among it), TrainingFailed when they were lost, or NoRoom where they found no place.
    """
    stop = Stop(task.run, listener)
    with _Watcher(task.run, listener), stop:
        while True:
            require_shared(task.run.path, resources)
            try:
                outcome = fit_aside(
                    _trainer(task, resources, worker or run_worker, stop.key).fit, stop.ask
                ).return_value
            except Exception as error:
                # Ray gives up after a while; a cluster that grows is waited for, and says why.
                if not (grows() and NO_ROOM in chain(error)):
                    raise _explain(error) from error
            else:
                if not isinstance(outcome, Moving):
                    return stop.after(outcome)
                listener.note(outcome.message)
            stop.go_on_or_raise()
            wait_for_room(resources.fewest or resources.workers, resources.bundle(), listener, until)


def _trainer(task: Task, resources: Resources, worker: Worker, key: bytes) -> Any:
    """Ray's trainer of one start of the workers."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer(
        _on_worker,
        train_loop_config={"task": replace(task, source=partial(told_by_ray, key)), "worker": worker},
        torch_config=TorchConfig(backend=_backend(task), timeout_s=COLLECTIVE_S),
        scaling_config=ScalingConfig(
            num_workers=(resources.fewest, resources.most) if resources.elastic else resources.workers,
            use_gpu=resources.gpu,
            resources_per_worker=resources.bundle(),
        ),
        run_config=RunConfig(
            # A fresh name each time: Ray would silently resume its own state of an old one; ours is in checkpoints/.
            name=uuid.uuid4().hex[:12],
            storage_path=str(task.run.ray),
            failure_config=FailureConfig(
                # An elastic run may lose each worker that it can do without, and then some.
                max_failures=WORKER_RETRIES + resources.most - resources.fewest,
                max_preemption_failures=-1,  # nodes that are taken away are no fault of the run, however often
                preemption_grace_s=GRACE_S,
                controller_failure_limit=2 if grows() else CONTROLLER_RETRIES,
            ),
        ),
    )


def told_by_ray(key: bytes) -> str:
    """Whether a run is to stop or to move; all of its ranks ask together. key: what the driver sets in Ray's KV."""
    import ray.train
    from ray.experimental.internal_kv import _internal_kv_exists

    leaving = ray.train.get_preemption_info()
    if ray.train.get_context().get_world_rank() == 0 and _internal_kv_exists(key):
        return STOP
    return MOVE if leaving else ""


class Stop:
    """Lets the ranks know of a KeyboardInterrupt, once, by a key in Ray's KV: no storage keeps it from them."""

    def __init__(self, run: RunFolder, listener: Listener) -> None:
        self.key = f"raysft/stop/{uuid.uuid4().hex}".encode()
        self._run, self._listener, self._asked = run, listener, False

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        if self._asked:
            from ray.experimental.internal_kv import _internal_kv_del

            with suppress(Exception):  # a Ray that is gone has no keys
                _internal_kv_del(self.key)

    def ask(self) -> None:
        """Called at each KeyboardInterrupt. Raises it where nothing was computed yet, or at the second one."""
        from ray.experimental.internal_kv import _internal_kv_put

        if self._asked or not self._run.groups.exists():  # which the first rank writes before its first step
            raise KeyboardInterrupt
        self._asked = True
        try:
            _internal_kv_put(self.key, b"1")
        except Exception:  # noqa: BLE001  # a Ray that is gone tells nobody
            raise KeyboardInterrupt from None
        self._listener.note("stopping after the step at hand, which is saved; once more, and it ends at once")

    def go_on_or_raise(self) -> None:
        """Between two starts, where all that was computed is saved."""
        if self._asked:
            raise Kept("interrupted while the workers moved", "The same command goes on where they stopped.")

    def after(self, outcome: Any) -> Any:
        """What the workers gave, once they ended by themselves. Raises it where it is an error."""
        if isinstance(outcome, RaysftError):
            raise outcome
        if outcome is None:
            raise TrainingFailed(
                "the workers ended without a result", "Look at the log in /tmp/ray/session_latest/logs/train."
            )
        if self._asked:
            raise Kept("interrupted once training was complete", "The same command goes on: it scores the model.")
        return outcome


def fit_aside(fit: Callable[[], Any], interrupted: Callable[[], None] | None = None) -> Any:
    """What `fit` returns, which runs in a thread of its own while this one waits.

    In the main thread Ray would install a Ctrl-C handler that ends in exit code 0 and is never taken back; so Ctrl-C
    stays a KeyboardInterrupt, in a shell as in a notebook. interrupted: what is done then, instead of raising it.
    """
    ended: list[Any] = [None, None]
    done = threading.Event()  # a thread whose join() is interrupted looks as if it had ended (Python 3.11)

    def run() -> None:
        try:
            ended[0] = fit()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            ended[1] = error
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    while not done.is_set():
        try:
            done.wait(timeout=POLL_S)
        except KeyboardInterrupt:
            if interrupted is None:
                raise
            interrupted()
    if ended[1] is not None:
        raise ended[1]
    return ended[0]


def _backend(task: Task) -> str:
    """How ranks exchange tensors. With fsdp some lie in the memory of the CPU, beside those on the GPU."""
    if not task.gpu:
        return "gloo"
    return "cpu:gloo,cuda:nccl" if task.strategy == "fsdp" else "nccl"


def _on_worker(config: dict[str, Any]) -> Any:
    return config["worker"](config["task"])


def chain(error: Exception) -> str:
    """The kinds of errors that led to this one."""
    kinds, cause = [], getattr(error, "controller_failure", None) or error
    while cause is not None:
        kinds.append(type(cause).__name__)
        cause = cause.__cause__
    return " ".join(kinds)


def _explain(error: Exception) -> RaysftError:
    """The innermost cause, in one line."""
    if NO_ROOM in chain(error):
        return NoRoom(
            "the workers found no place on the cluster: others hold its nodes, or some are gone",
            "The same command goes on from the newest checkpoint; `ray status` says what is free.",
        )
    failures = getattr(error, "worker_failures", None) or {}
    cause: BaseException = next(iter(failures.values()), error)
    while cause.__cause__ is not None:
        cause = cause.__cause__
    ranks = f" on rank {', '.join(map(str, failures))}" if failures else ""
    lines = [line for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    return TrainingFailed(
        f"training failed{ranks}: {type(cause).__name__}: {lines[-1].strip()}",
        "The same command goes on from the newest checkpoint; logs are in /tmp/ray/session_latest/logs/train.",
    )


class _Watcher:
    """Follows metrics.jsonl, which rank 0 writes, and tells the listener."""

    def __init__(self, run: RunFolder, listener: Listener) -> None:
        self._path, self._groups, self._listener = run.metrics, run.groups, listener
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._validation = ""
        self._told_groups = False

    def __enter__(self) -> None:
        with writing(self._groups):
            self._groups.unlink(missing_ok=True)  # of a run that was interrupted, perhaps with other settings
        self._size = _size(self._path)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._tell_groups()  # of a run that ended between two looks

    def _follow(self) -> None:
        position, started, warned = self._size, time.monotonic(), False
        while not self._stop.wait(POLL_S):
            self._tell_groups()
            size = _size(self._path)
            position = min(position, size)
            if size > position:
                with self._path.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                complete = text.rfind(b"\n") + 1
                position += complete
                self._tell(text[:complete].decode("utf-8", "replace").splitlines())
                warned = True
            elif not warned and time.monotonic() - started > PATIENCE_S:
                self._listener.warn("still waiting for workers; is the cluster busy with other jobs? (`ray status`)")
                warned = True

    def _tell_groups(self) -> None:
        if not self._told_groups and self._groups.exists():
            self._listener.table("what trains", read_json(self._groups))
            self._told_groups = True

    def _tell(self, texts: list[str]) -> None:
        for text in texts:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if attention := warning(line):
                self._listener.warn(attention)
            if "untracked" in line:
                self._listener.warn(f"train.track: no more numbers for {line['untracked']}; training goes on")
            if "ended" in line:
                self._listener.note(f"training ended at step {line['step']}: {line['ended']}")
            if "validation_loss" in line:
                known = (("F1", "f1_macro"), ("perplexity", "perplexity"), ("loss", "loss"))
                shown = (f"{word} {line[key]:.3f}" for word, name in known if (key := f"validation_{name}") in line)
                self._validation = f"validation {' '.join(shown)}"
                self._listener.note(f"epoch {line['epoch']}: {self._validation}")
            elif "total_steps" in line and "loss" in line:
                words = ("steps", f"loss {line['loss']:.3f}", f"{line['examples_per_s']:.0f} rows/s", self._validation)
                self._listener.progress(line["step"], line["total_steps"], "  ".join(filter(None, words)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
