"""A search on Ray Tune: its trials are folds, which a director chooses one by one, in actors that are used again.

What Tune calls a trial is here one fold of one configuration, so that folds of one configuration may train at the same
time on different machines, and none has to be paused. The director is asked through Tune's search algorithm what comes
next, and through Tune's scheduler after each epoch whether training goes on.
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from raysft.capacity import grows
from raysft.errors import NoRoom
from raysft.metrics.judged import Judged
from raysft.storage.commit import writing
from raysft.storage.lease import lease
from raysft.training.launch import fit_aside
from raysft.training.worker import Task
from raysft.tuning.deaths import cause_of, every_death_counted
from raysft.tuning.director import FoldJob, Orders
from raysft.tuning.relay import RETRIES, Found, Relay, answer_to
from raysft.tuning.slots import Slots
from raysft.tuning.work import Work, Workbench

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}  # disks that take no more
IN_USE_S = 60.0  # how long to wait for the process of an earlier command that is about to end
# Nothing of Tune's own bookkeeping is read again: the record is ours (tuning/record.py).
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


_SEARCHES: dict[str, Relay] = {}  # of this process, by name: Tune pickles its parts, which can then only name them


def _search(name: str) -> Relay:
    """By a function, since what Tune pickles brings the variables along that it names."""
    return _SEARCHES[name]


def run_search(work: Work, director: Orders, slots: Slots) -> None:
    """Train what the director chooses until nothing is left. Needs a running Ray.

    Raises KeyboardInterrupt when the person asks, OutputError or OSError where nothing can be written, and whatever
    else went wrong in this process; folds that are done stay done.
    """
    if director.nothing_left():
        return
    # Folds that wait for room are asked for one at a time, since what is best to train next is known late; of a cluster
    # that grows all at once, or its nodes would come one after the other.
    os.environ.update({**QUIET, "TUNE_MAX_PENDING_TRIALS_PG": str(slots.count) if grows() else "1"})
    from ray import tune

    trainable = tune.with_resources(
        tune.with_parameters(_trainable(slots.workers > 1), work=work, slots=slots), slots.bundle()
    )
    folder, name = work.folder.ray, uuid.uuid4().hex[:12]
    relay = _SEARCHES[name] = Relay(director, slots.count)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_searcher(name),
            scheduler=_scheduler(name),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            stop=_stopper(name),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    try:
        # Of processes that died Tune prints tables, which would stand in front of the answer; the director tells too.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), every_death_counted():
            fit_aside(tuner.fit)
    except KeyboardInterrupt:
        director.stop("interrupted")
        raise
    except Exception as error:
        if relay.error is None:
            if (full := _unwritten(error)) is not None:
                raise full from error
            raise
    finally:
        del _SEARCHES[name]
        shutil.rmtree(folder, ignore_errors=True)
    if relay.error is not None:
        raise relay.error


def _unwritten(error: BaseException | None) -> OSError | None:
    """The failed write behind an error of Tune, which keeps its own bookkeeping on the same disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def _trainable(several_workers: bool) -> type:
    """The class of which Tune makes actors."""
    from ray import tune

    class OneFold(tune.Trainable):  # type: ignore[misc]
        """Trains a fold; a step of Tune is an epoch, or the whole fold where several workers train it."""

        def setup(self, config: dict[str, Any], work: Work, slots: Slots) -> None:
            self._work, self._slots, self._bench = work, slots, Workbench(work)
            self._epochs: Iterator[tuple[int, Judged]] | None = None
            self._job: FoldJob = config["job"]
            self._task: Task | None = None

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            # Nothing here that could fail: what is wrong with a fold is told by its steps.
            self._epochs, self._task = None, None
            self._job = new_config["job"]
            return True

        def step(self) -> dict[str, Any]:
            """Raises what is no fault of the configuration: Tune ends this process, and another one tries again."""
            try:
                with writing(self._work.folder.path):
                    return {"found": self._launched() if several_workers else self._epoch()}
            except Exception as error:  # noqa: BLE001  # told to people, or raised again
                return {"found": answer_to(error)}

        def _epoch(self) -> Found:
            from raysft.tuning.fold import train_fold

            task = self._task = self._task or self._work.task(self._job.trial, self._job.settings, self._job.fold)
            # Held while it computes and no longer: a process whose command was killed is asked for no other step.
            with lease(task.run.lock, f"fold {task.run.path}", IN_USE_S):
                if self._epochs is None:
                    self._bench.free()
                    loop = self._bench.loop(task)
                    self._epochs = enumerate(train_fold(loop, task.run, self._work.measures), start=1)  # type: ignore[arg-type]
                found = next(self._epochs, None)
            if found is None:
                self._epochs = None
                return ("done",)
            epoch, judged = found
            influence = {name: judged.influence[name] for name in self._work.measures}
            return "epoch", epoch, judged.scores, judged.row_id, influence

        def _launched(self) -> Found:
            from raysft.events import Silent
            from raysft.training.launch import launch
            from raysft.tuning.spread import LEFT, FoldWorker

            task = self._work.task(self._job.trial, self._job.settings, self._job.fold)
            deadline = self._job.deadline
            worker = FoldWorker(self._work.measures, self._work.folder.precision, deadline)
            try:
                ended = launch(task, self._slots.resources, Silent(), worker, deadline)
            except NoRoom:
                if deadline is None or time.time() < deadline:
                    raise
                ended = LEFT
            shutil.rmtree(task.run.ray, ignore_errors=True)
            if ended == LEFT:
                return ("left",)
            shutil.rmtree(task.run.checkpoints, ignore_errors=True)
            return ("done",)

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """What is to be kept is on storage already."""

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    return OneFold


def _searcher(name: str) -> Any:
    """Tune's search algorithm: what the director says is next, while there is room."""
    from ray.tune.search import Searcher

    class Next(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(metric="found", mode="max")

        def suggest(self, trial_id: str) -> Any:
            search = _search(name)
            if search.over():
                return Searcher.FINISHED
            job = search.next()
            return None if job is None else {"job": job}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

    return Next()


def _scheduler(name: str) -> Any:
    """Tune's scheduler: tells the director what was found, and stops what it wants stopped."""
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Told(FIFOScheduler):  # type: ignore[misc]
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            stops = _search(name).stops(trial.config["job"], result["found"])
            return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

        def choose_trial_to_run(self, tune_controller: Any) -> Any:
            live = [trial for trial in tune_controller.get_live_trials() if trial.status != Trial.ERROR]
            if live and all(trial.status == Trial.PENDING for trial in live):
                _search(name).waiting([trial.config["job"] for trial in live])
            return super().choose_trial_to_run(tune_controller)

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            """The process died. Of those deaths that Tune recovers from it tells too, once the trial has its state of
            an error; of others while it still runs, or waits. (How often it may be recovered does not tell them apart:
            one that waits is never recovered.)"""
            if trial.status == Trial.ERROR:
                return
            waited = trial.status == Trial.PENDING
            _search(name).died(trial.config["job"], _cause_of(trial.pickled_error_file), waited)

    return Told()


def _stopper(name: str) -> Any:
    """Ends Tune where folds wait for room that does not come in time."""
    from ray.tune import Stopper

    class GivenUp(Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return _search(name).given_up

    return GivenUp()


def _cause_of(file: str | None) -> str:
    """Why the process of a fold died. file: where Tune keeps the error on this machine; on the storage, where its own
    methods look for it, it is only later."""
    if file is None or not Path(file).exists():
        return "its process died"
    try:
        return cause_of(pickle.loads(Path(file).read_bytes()))  # noqa: S301  # written by this process
    except Exception:  # noqa: BLE001  # of a kind that is not known here
        return "its process died of an error that cannot be read here"
