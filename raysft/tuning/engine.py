"""A search on Ray Tune: its trials are folds, which a director chooses one by one, in actors that are used again.

What Tune calls a trial is here one fold of one configuration, so that folds of one configuration may train at the same
time on different machines, and none has to be paused. The director is asked through Tune's search algorithm what comes
next, and through Tune's scheduler after each epoch whether training goes on.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from raysft.errors import RaysftError
from raysft.metrics.judged import Judged
from raysft.training.launch import fit_aside
from raysft.tuning.director import FoldJob, Orders
from raysft.tuning.slots import Slots
from raysft.tuning.work import Work, Workbench

RETRIES = 2  # of a fold whose actor or node died
# Nothing of Tune's own bookkeeping is read again: the record is ours (tuning/record.py).
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


_SEARCHES: dict[str, Orders] = {}  # of this process, by name: Tune pickles its parts, which can then only name them


def _search(name: str) -> Orders:
    """By a function, since what Tune pickles brings the variables along that it names."""
    return _SEARCHES[name]


def run_search(work: Work, director: Orders, slots: Slots) -> None:
    """Train what the director chooses until nothing is left. Needs a running Ray.

    Raises KeyboardInterrupt when the person asks; folds that are done stay done.
    """
    if director.over:
        return
    os.environ.update(QUIET)
    from ray import tune

    trainable = tune.with_resources(
        tune.with_parameters(_trainable(slots.workers > 1), work=work, slots=slots), slots.bundle()
    )
    folder, name = work.folder.ray, uuid.uuid4().hex[:12]
    _SEARCHES[name] = director
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_searcher(name, slots.count),
            scheduler=_scheduler(name),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    try:
        # Of processes that died Tune prints tables, which would stand in front of the answer; the director tells too.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            fit_aside(tuner.fit)
    except KeyboardInterrupt:
        director.stop("interrupted")
        raise
    finally:
        del _SEARCHES[name]
        shutil.rmtree(folder, ignore_errors=True)


def _trainable(several_workers: bool) -> type:
    """The class of which Tune makes actors."""
    from ray import tune

    class OneFold(tune.Trainable):  # type: ignore[misc]
        """Trains a fold; a step of Tune is an epoch, or the whole fold where several workers train it."""

        def setup(self, config: dict[str, Any], work: Work, slots: Slots) -> None:
            self._work, self._slots, self._bench = work, slots, Workbench(work)
            self._epochs: Iterator[tuple[int, Judged]] | None = None
            self._job: FoldJob = config["job"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._epochs = None
            self._bench.free()
            self._job = new_config["job"]
            return True

        def step(self) -> dict[str, Any]:
            try:
                return self._launched() if several_workers else self._epoch()
            except Exception as error:  # noqa: BLE001  # told to people; only a process that dies is tried again
                return {"found": ("failed", _words(error))}

        def _epoch(self) -> dict[str, Any]:
            from raysft.tuning.fold import train_fold

            if self._epochs is None:
                task = self._work.task(self._job.trial, self._job.settings, self._job.fold)
                loop = self._bench.loop(task)
                self._epochs = enumerate(train_fold(loop, task.run, self._work.measures), start=1)  # type: ignore[arg-type]
            found = next(self._epochs, None)
            if found is None:
                self._epochs = None
                return {"found": ("done",)}
            epoch, judged = found
            influence = {name: judged.influence[name] for name in self._work.measures}
            return {"found": ("epoch", epoch, judged.scores, judged.row_id, influence)}

        def _launched(self) -> dict[str, Any]:
            from raysft.events import Silent
            from raysft.training.launch import launch
            from raysft.tuning.spread import FoldWorker

            task = self._work.task(self._job.trial, self._job.settings, self._job.fold)
            launch(task, self._slots.resources, Silent(), FoldWorker(self._work.measures))
            shutil.rmtree(task.run.checkpoints, ignore_errors=True)
            shutil.rmtree(task.run.ray, ignore_errors=True)
            return {"found": ("done",)}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """What is to be kept is on storage already."""

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    return OneFold


def _words(error: Exception) -> str:
    """In one line, for people."""
    if isinstance(error, RaysftError):
        return error.message
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"


def _searcher(name: str, slots: int) -> Any:
    """Tune's search algorithm: what the director says is next, while there is room."""
    from ray.tune.search import Searcher

    class Next(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(metric="found", mode="max")

        def suggest(self, trial_id: str) -> Any:
            director = _search(name)
            if director.over:
                return Searcher.FINISHED
            if director.running >= slots:
                return None
            job = director.next()
            return None if job is None else {"job": job}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

    return Next()


def _scheduler(name: str) -> Any:
    """Tune's scheduler: tells the director what was found, and stops what it wants stopped."""
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Told(FIFOScheduler):  # type: ignore[misc]
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            job: FoldJob = trial.config["job"]
            director = _search(name)
            kind, *facts = result["found"]
            if kind == "epoch":
                return str(TrialScheduler.STOP if director.epoch(job, *facts) else TrialScheduler.CONTINUE)
            if kind == "done":
                director.done(job)
            else:
                director.failed(job, facts[0])
            return str(TrialScheduler.STOP)

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            """The process died: of those deaths that Tune recovers from it tells too."""
            if trial.should_recover():
                return
            error = trial.get_pickled_error() or trial.get_error()
            _search(name).failed(trial.config["job"], _words(error) if error else "its process died")

    return Told()
