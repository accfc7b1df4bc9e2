"""One sweep, step after step: prepared data -> search over folds -> choice -> the chosen one on all folds -> report.

Each step leaves its result in the sweep's folder, and one that is there already is not done again.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypeVar

from raysft.claim import claim, identity, refuse_other
from raysft.config import Job
from raysft.errors import TrainingFailed
from raysft.events import Listener
from raysft.plan.machine import this_machine
from raysft.plan.plan import Plan, threads
from raysft.plan.refusals import refuse_early, refuse_on, refuse_too_large
from raysft.plan.size import model_size
from raysft.preparation.address import data_digest, open_sources
from raysft.preparation.prepared import Prepared
from raysft.preparation.start import base_of
from raysft.result import RunResult
from raysft.run import Clock, evaluate_and_report, plan_of, prepare_and_train, prepare_with_page
from raysft.session import Resources, ray_session
from raysft.storage.commit import ASIDE, digest_of, read_json, write_json, writing
from raysft.storage.layout import Output, RunFolder, SweepFolder
from raysft.storage.lease import lease
from raysft.storage.pretrained import Base
from raysft.training.shared import require_shared
from raysft.tuning.again import ASKED, asked_of, is_finished, with_what_holds
from raysft.tuning.choose import choose
from raysft.tuning.director import Director, describe
from raysft.tuning.engine import run_search
from raysft.tuning.fold import busy_s
from raysft.tuning.folds import (
    cv_folds,
    refuse_nested,
    refuse_other_rows,
    refuse_other_targets,
    refuse_other_tokens,
    refuse_small_classes,
    units_of,
)
from raysft.tuning.nested import nested_estimate
from raysft.tuning.objectives import TIME, objectives_of
from raysft.tuning.outcome import SweepResult
from raysft.tuning.parameter import Settings, canonical
from raysft.tuning.propose import algorithm_of, trials_of
from raysft.tuning.results import Trial, better
from raysft.tuning.rows import trial_rows
from raysft.tuning.search import changes_data
from raysft.tuning.slots import Slots, find_slots
from raysft.tuning.space import Space
from raysft.tuning.summary import summarise
from raysft.tuning.work import FoldId, Work
from raysft.version import VERSION

T = TypeVar("T")
ELSEWHERE = ("concurrent",)  # of the cluster


class Sweep:
    """The sweep of a job: its space, its bases and where its results go."""

    def __init__(self, job: Job, space: Space, bases: dict[str, Base], output: Output, folder: SweepFolder) -> None:
        """bases: by the settings that change the prepared data, canonical."""
        self.job, self.space, self.bases, self.output, self.folder = job, space, bases, output, folder
        self.objectives = objectives_of(job.config)

    @staticmethod
    def of(job: Job, output: Output, folder: SweepFolder, listener: Listener) -> Sweep:
        """Checked against all that needs no data. Raises JobFileError, NotFound: see refuse_early and base_of."""
        space = Space.of(job)
        bases = {}
        for settings in space.preparations():
            bases[canonical(settings)] = base_of(space.applied(settings), listener)
        for settings in corners(space):
            refuse_early(space.applied(settings), _of(bases, settings))
        refuse_other_tokens(job, list(bases.values()))
        return Sweep(job, space, bases, output, folder)

    def run(self, listener: Listener, clock: Clock) -> SweepResult:
        """Go on from wherever it was left to the end. Raises the errors of raysft.errors."""
        with writing(self.folder.path), lease(self.folder.lock, f"sweep {self.job.config.name}"):
            mine = self._identity()
            refuse_other(self.job, mine, self.folder)
            before = result_before(self.folder)
            if before is not None and self.folder.result.exists() and is_finished(before, self.space):
                listener.note(f"sweep {self.job.config.name} is finished; this is its result")
                return before
            listener.stage("start")
            with ray_session():
                listener.stage("data")
                with clock.timing("data_s"):
                    prepared = self._prepare(listener)
                claim(self.job, next(iter(self.bases.values())), mine, self.folder)
                return self._search(prepared, before, listener, clock)

    def _identity(self) -> dict[str, Any]:
        """What makes two sweeps the same: all settings but those that only say how long to search, and the data."""
        found = []
        for settings in self.space.preparations():
            job = self.space.applied(settings)
            base = self.bases[canonical(settings)]
            found.append(identity(job, base, data_digest(job, base, open_sources(job))))
        tune = self.space.tune.model_dump(mode="json", exclude={*ASKED, *ELSEWHERE})
        tune["objectives"] = list(self.objectives.items())  # in their order: the first one decides
        return {"settings": {"tune": tune, **found[0]["settings"]}, "data": digest_of(found)}

    def _prepare(self, listener: Listener) -> dict[str, Prepared]:
        found = {}
        for settings in self.space.preparations():
            job = self.space.applied(settings)
            found[canonical(settings)] = prepare_with_page(job, self.bases[canonical(settings)], self.output, listener)
        return found

    def _search(
        self, prepared: dict[str, Prepared], before: SweepResult | None, listener: Listener, clock: Clock
    ) -> SweepResult:
        """Search, choose, write what was found; then what comes of it on rows that took no part. before: the result of
        the same sweep, of which less was asked."""
        some, tune = next(iter(prepared.values())), self.space.tune
        folds = cv_folds(self.job, some)
        refuse_small_classes(self.job, some)
        refuse_other_rows(self.job, list(prepared.values()))
        refuse_other_targets(self.job, list(prepared.values()))
        if tune.nested:
            refuse_nested(self.job, some, folds)
        slots, plan = self._slots(prepared, len(folds), listener)
        if slots.workers == 1:  # several are asked where they start
            require_shared(self.folder.path, Resources(1, slots.cpus, slots.gpu))
        work = self._work(prepared, slots, plan)
        units, epochs = units_of(some), self.job.config.train.epochs
        director = Director.of(work, folds, self.objectives, epochs, units, slots.count)
        self._announce(director, folds, slots, listener)
        watch_board(director, listener)
        with clock.timing("train_s"):
            self._train(work, director, slots, listener)
        candidates = director.candidates()
        if not candidates:
            raise TrainingFailed(*_why_nothing(director))
        searched_s = director.seconds
        choice = choose(candidates, tune.one_standard_error)
        (taken,) = [trial for trial in candidates if trial.number == choice.trial]
        listener.note(f"chosen: trial {choice.trial} ({words_of_settings(self.space, taken.settings)}): {choice.why}")
        set_aside(self.folder)  # from here on what it tells of is replaced
        result = summarise(work, director, choice, candidates, some, _timing(work, director, clock, searched_s))
        self._show(result)  # whatever becomes of the rest
        if tune.nested:
            listener.stage("nested")
            with clock.timing("nested_s"):
                found = nested_estimate(work, folds, self.objectives, epochs, units, slots, some, listener)
            result = replace(result, nested=found)
        if (run := self._refitted(taken, listener, clock)) is not None:
            result = replace(result, metrics=run.metrics, artifact=run.artifact)
        listener.stage("report")
        result = with_what_holds(result, before)
        there = {"refit": run is not None, "nested": result.nested is not None}
        result = replace(result, timing=_timing(work, director, clock, searched_s), asked=asked_of(tune) | there)
        self._show(result)
        write_json(self.folder.result, result.to_json())
        self.folder.aside.unlink(missing_ok=True)
        failed = any(trial.failed for trial in director.race.trials.values())  # the same command tries these again
        tidy(self.folder, through=director.status == "done" and not failed)
        return result

    def _refitted(self, taken: Trial, listener: Listener, clock: Clock) -> RunResult | None:
        """The choice trained on all folds, where that is asked for or was done before."""
        if not self.space.tune.refit and not self.folder.best.result.exists():
            return None
        refit = Refit.of(self, taken)
        if self.space.tune.refit or refit.is_done:
            return refit.run(self.output, listener, clock)
        listener.warn(f"{self.folder.best.path} holds an earlier choice; tune.refit: true trains this one")
        return None

    def _work(self, prepared: dict[str, Prepared], slots: Slots, plan: Plan) -> Work:
        return Work(
            space=self.space,
            folder=self.folder,
            prepared={key: (self.bases[key], data) for key, data in prepared.items()},
            measures=tuple(name for name in {**self.objectives, "loss": "min"} if name != TIME),
            threads=threads(model_size(next(iter(self.bases.values()))), slots.cpus),
            gpu=slots.gpu,
            strategy=plan.strategy,
            timed=TIME in self.objectives,
        )

    def _train(self, work: Work, director: Director, slots: Slots, listener: Listener) -> None:
        try:
            run_search(work, director, slots)
        except KeyboardInterrupt:
            if found := director.candidates():
                best = better(found)[0]
                words = words_of_settings(self.space, best.settings)
                listener.note(f"best so far: trial {best.number} ({words}), {describe(best)}")
            raise

    def _show(self, result: SweepResult) -> None:
        from raysft.report.sweep import write_sweep_report

        write_sweep_report(result, self.folder, created=date.today().isoformat(), version=VERSION)

    def _slots(self, prepared: dict[str, Prepared], folds: int, listener: Listener) -> tuple[Slots, Plan]:
        """Room for the folds that may train at a time, and the plan of the largest configuration.

        Raises JobFileError, NoCapacity for configurations that no device could train.
        """
        tune = self.space.tune
        several = self.job.config.train.most_workers > 1
        most = min(tune.concurrent or 10**6, folds * trials_of(self.space, tune))
        slots = find_slots(self.job.config.train, 0, most, several, listener)
        machine, plans = this_machine(), []
        for settings in corners(self.space):
            job = self.space.applied(settings)
            refuse_on(job, slots.gpu)
            plan = plan_of(job, _of(self.bases, settings), _of(prepared, settings), _resources(slots))
            refuse_too_large(plan, machine, slots.gpu)
            plans.append(plan)
        largest = max(plans, key=lambda plan: plan.memory_bytes)
        return find_slots(self.job.config.train, largest.memory_bytes, most, several, listener), largest

    def _announce(self, director: Director, folds: Sequence[int], slots: Slots, listener: Listener) -> None:
        tune = self.space.tune
        listener.stage("search")
        known = sum(len(trial.folds) for trial in director.race.trials.values())
        if known:
            were = "fold was" if known == 1 else "folds were"
            listener.note(f"{known} {were} done before and not trained again")
        algorithm = algorithm_of(self.space, tune)
        aims = ", ".join(f"{name} {way}" for name, way in self.objectives.items())
        where = f"{slots.share:g} GPU" if slots.gpu else f"{slots.cpus} CPU"
        listener.note(
            f"at most {trials_of(self.space, tune)} configurations ({algorithm}) x {len(folds)} folds, by {aims}; "
            f"{slots.count} folds at a time, {where} each"
            + (f" x {slots.workers} workers" if slots.workers > 1 else "")
        )


@dataclass(frozen=True)
class Refit:
    """The chosen configuration trained on all folds, up to the epoch that counted (Trial.epoch), scored on the test
    part. mine: what makes it that run."""

    job: Job
    base: Base
    folder: RunFolder
    mine: dict[str, Any]

    @staticmethod
    def of(sweep: Sweep, taken: Trial) -> Refit:
        job, base = refit_job(sweep.space, taken), _of(sweep.bases, taken.settings)
        return Refit(job, base, sweep.folder.best, identity(job, base, data_digest(job, base, open_sources(job))))

    @property
    def is_mine(self) -> bool:
        """Whether what lies there is, or will be, this run."""
        known = self.folder.identity
        return known.exists() and digest_of(read_json(known)) == digest_of(self.mine)

    @property
    def is_done(self) -> bool:
        return self.is_mine and self.folder.result.exists()

    def run(self, output: Output, listener: Listener, clock: Clock) -> RunResult:
        """From wherever it was left. Raises the errors of raysft.errors."""
        listener.stage("refit")
        if self.is_done:
            return RunResult.read(self.folder.result)
        if self.folder.path.exists() and not self.is_mine:
            remove(self.folder)  # of a choice that more configurations have changed
        own = Clock()
        with clock.timing("refit_s"):
            prepared, plan, outcome = prepare_and_train(
                self.job, self.base, output, self.folder, self.mine, listener, own
            )
            return evaluate_and_report(self.job, self.base, prepared, plan, outcome, self.folder, listener, own)


def result_before(folder: SweepFolder) -> SweepResult | None:
    """What the same sweep found when less was asked of it, whether or not a search for more was broken off since."""
    found = [file for file in (folder.result, folder.aside) if file.exists()]
    return SweepResult.read(found[0]) if found else None


def set_aside(folder: SweepFolder) -> None:
    """No result stands there any more; what it tells that holds on is still known to whoever goes on."""
    if folder.result.exists():
        folder.result.replace(folder.aside)


def remove(run: RunFolder) -> None:
    """In one step: a folder of which a kill left half would be taken for the beginning of another run."""
    aside = run.path.with_name(f"{run.path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
    run.path.rename(aside)
    shutil.rmtree(aside)


def tidy(folder: SweepFolder, through: bool) -> None:
    """Remove what a finished sweep does not need: states of frozen layers, and what folds left that were not trained to
    their end. through: whether there is nothing left to train; else a larger budget goes on with what folds left."""
    shutil.rmtree(folder.states, ignore_errors=True)
    if not through:
        return
    for path in folder.path.glob("folds/*/*/checkpoints"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.path.glob("folds/*/*/epoch-*.npz"):
        path.unlink(missing_ok=True)


def _timing(work: Work, director: Director, clock: Clock, searched_s: float) -> dict[str, float]:
    """Seconds. busy_s: of training and evaluation, also of folds that were left off; search_s: of the search; both of
    all commands that went on with it, the others of this one."""
    places = [(trial, FoldId(fold)) for trial in director.race.trials for fold in director.race.folds]
    busy = sum(busy_s(work.fold_folder(*place)) for place in places)
    return {
        **clock.spent(),
        "search_s": round(searched_s, 1),
        "busy_s": round(busy, 1),
        "slots": director.slots,
        **clock.total(),
    }


def watch_board(director: Director, listener: Listener) -> None:
    """Let the listener see the table whenever it changes."""

    def tell(news: str) -> None:
        left = director.left_s()
        done = sum(len(trial.folds) for trial in director.race.trials.values())
        text = f"{done} fold{'' if done == 1 else 's'} done, {director.running} running"
        listener.board(trial_rows(director.race), text + ("" if left is None else f", at most {left:.0f} s left"), news)

    director.told = tell


def refit_job(space: Space, taken: Trial) -> Job:
    """The job that trains the chosen configuration on all folds."""
    job = space.applied(taken.settings)
    folds = job.config.folds.model_copy(update={"validation": "none"})
    stop_at = None if taken.epoch == job.config.train.epochs else taken.epoch
    changed: dict[str, Any] = {"stop_at": stop_at, "stop_after": None}
    if job.config.data.multi_label:
        changed["threshold"] = round(taken.mean("threshold"), 4)
    train = job.config.train.model_copy(update=changed)
    return replace(job, config=job.config.model_copy(update={"folds": folds, "train": train}))


def corners(space: Space) -> list[Settings]:
    """Configurations among which are, for each kind of prepared data, the largest and the smallest value of each key
    that matters there, and every choice."""
    found: list[Settings] = []
    for data in space.preparations():
        found.append(data)
        for parameter in space.parameters:
            needed = space.under_which(parameter, data)
            if parameter.key not in data and needed is not None:
                found += [{**needed, **data, parameter.key: value} for value in parameter.limits()]
    return found


def words_of_settings(space: Space, settings: Settings) -> str:
    """`learning_rate 0.0002, batch_size 16`."""
    names = space.names()
    return ", ".join(f"{names.get(key, key)} {value}" for key, value in settings.items()) or "the settings of the job"


def _of(found: dict[str, T], settings: Settings) -> T:
    """What was prepared for these settings."""
    return found[canonical({name: value for name, value in settings.items() if changes_data(name)})]


def _resources(slots: Slots) -> Resources:
    return slots.resources if slots.workers > 1 else Resources(1, slots.cpus, slots.gpu)


def _why_nothing(director: Director) -> tuple[str, str]:
    """Nothing can be chosen: why, and what to do."""
    failures = [f"trial {trial.number}: {trial.failed}" for trial in director.race.trials.values() if trial.failed]
    if director.ended:
        return f"no fold was trained to its end: {director.ended}", "Raise the limit; the same command goes on."
    return "every configuration failed: " + "; ".join(failures[:3]), "Mend the cause; the same command tries again."
