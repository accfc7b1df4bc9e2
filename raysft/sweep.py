"""One sweep, step after step: prepared data -> search over folds -> choice -> the chosen one on all folds -> report.

Each step leaves its result in the sweep's folder, and one that is there already is not done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

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
from raysft.storage.commit import digest_of, write_json, writing
from raysft.storage.layout import Output, SweepFolder
from raysft.storage.lease import lease
from raysft.storage.pretrained import Base
from raysft.tuning.choose import Choice, choose
from raysft.tuning.diagnose import diagnose, edges
from raysft.tuning.director import Director
from raysft.tuning.engine import run_search
from raysft.tuning.folds import cv_folds, refuse_small_classes, units_of
from raysft.tuning.held_out import Part, out_of_fold
from raysft.tuning.importance import importance_of
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
from raysft.tuning.work import FoldId, Work
from raysft.version import VERSION

T = TypeVar("T")
MEANS_NOTHING = ("trials", "hours", "cost", "price", "concurrent", "refit", "nested")  # for what was found so far


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
            refuse_early(space.applied(settings), _under(bases, settings))
        return Sweep(job, space, bases, output, folder)

    def run(self, listener: Listener, clock: Clock) -> SweepResult:
        """Go on from wherever it was left to the end. Raises the errors of raysft.errors."""
        with writing(self.folder.path), lease(self.folder.lock, f"sweep {self.job.config.name}"):
            mine = self._identity()
            refuse_other(self.job, mine, self.folder)
            if self.folder.result.exists():
                listener.note(f"sweep {self.job.config.name} is finished; this is its result")
                return SweepResult.read(self.folder.result)
            listener.stage("start")
            with ray_session():
                listener.stage("data")
                with clock.timing("data_s"):
                    prepared = self._prepare(listener)
                claim(self.job, next(iter(self.bases.values())), mine, self.folder)
                return self._search(prepared, listener, clock)

    def _identity(self) -> dict[str, Any]:
        """What makes two sweeps the same: all settings but those that only say how long to search, and the data."""
        found = []
        for settings in self.space.preparations():
            job = self.space.applied(settings)
            base = self.bases[canonical(settings)]
            found.append(identity(job, base, data_digest(job, base, open_sources(job))))
        tune = self.space.tune.model_dump(mode="json", exclude=set(MEANS_NOTHING))
        return {"settings": {"tune": tune, **found[0]["settings"]}, "data": digest_of(found)}

    def _prepare(self, listener: Listener) -> dict[str, Prepared]:
        found = {}
        for settings in self.space.preparations():
            job = self.space.applied(settings)
            found[canonical(settings)] = prepare_with_page(job, self.bases[canonical(settings)], self.output, listener)
        return found

    def _search(self, prepared: dict[str, Prepared], listener: Listener, clock: Clock) -> SweepResult:
        some = next(iter(prepared.values()))
        folds = cv_folds(self.job, some)
        refuse_small_classes(self.job, some)
        slots, plan = self._slots(prepared, len(folds))
        work = Work(
            space=self.space,
            folder=self.folder,
            prepared={key: (self.bases[key], data) for key, data in prepared.items()},
            measures=tuple(name for name in {**self.objectives, "loss": "min"} if name != TIME),
            threads=threads(model_size(next(iter(self.bases.values()))), slots.cpus),
            gpu=slots.gpu,
            strategy=plan.strategy,
        )
        units = units_of(some)
        epochs = self.job.config.train.epochs
        director = Director.of(work, folds, self.objectives, epochs, units, slots.count)
        self._announce(director, folds, slots, listener)
        watch_board(director, listener)
        with clock.timing("train_s"):
            run_search(work, director, slots)
        finished = director.race.finished
        if not finished and (reason := _why_nothing(director)):
            raise TrainingFailed(*reason)
        choice = choose(finished, self.space.tune.one_standard_error)
        taken = director.race.trials[choice.trial]
        listener.note(f"chosen: trial {choice.trial} ({words_of_settings(self.space, taken.settings)}): {choice.why}")
        nested = None
        if self.space.tune.nested:
            listener.stage("nested")
            with clock.timing("nested_s"):
                nested = nested_estimate(work, folds, self.objectives, epochs, units, slots, some, listener)
        run = self._refit(taken, listener, clock) if self.space.tune.refit else None
        return self._result(director, choice, work, some, run, nested, listener, clock)

    def _slots(self, prepared: dict[str, Prepared], folds: int) -> tuple[Slots, Plan]:
        """Room for the folds that may train at a time, and the plan of the largest configuration.

        Raises JobFileError, NoCapacity for configurations that no device could train.
        """
        tune = self.space.tune
        several = self.job.config.train.most_workers > 1
        most = min(tune.concurrent or 10**6, folds * trials_of(self.space, tune))
        slots = find_slots(self.job.config.train, 0, most, several)
        machine, plans = this_machine(), []
        for settings in corners(self.space):
            job = self.space.applied(settings)
            base, data = _under(self.bases, settings), _under(prepared, settings)
            refuse_on(job, slots.gpu)
            plan = plan_of(job, base, data, _resources(slots))
            refuse_too_large(plan, machine, slots.gpu)
            plans.append(plan)
        largest = max(plans, key=lambda plan: plan.memory_bytes)
        return find_slots(self.job.config.train, largest.memory_bytes, most, several), largest

    def _announce(self, director: Director, folds: Sequence[int], slots: Slots, listener: Listener) -> None:
        tune = self.space.tune
        listener.stage("search")
        known = sum(len(trial.folds) for trial in director.race.trials.values())
        if known:
            listener.note(f"{known} folds were done before, and are not done again")
        algorithm = algorithm_of(self.space, tune)
        aims = ", ".join(f"{name} {way}" for name, way in self.objectives.items())
        where = f"{slots.share:g} GPU" if slots.gpu else f"{slots.cpus} CPU"
        listener.note(
            f"at most {trials_of(self.space, tune)} configurations ({algorithm}) x {len(folds)} folds, by {aims}; "
            f"{slots.count} folds at a time, {where} each"
            + (f" x {slots.workers} workers" if slots.workers > 1 else "")
        )

    def _refit(self, taken: Trial, listener: Listener, clock: Clock) -> RunResult:
        """The chosen configuration on all folds, with the epochs that the folds found best, scored on the test part."""
        job = refit_job(self.space, taken)
        base, run = _under(self.bases, taken.settings), self.folder.best
        listener.stage("refit")
        mine = identity(job, base, data_digest(job, base, open_sources(job)))
        refuse_other(job, mine, run)
        if run.result.exists():
            return RunResult.read(run.result)
        own = Clock()
        with clock.timing("refit_s"):
            prepared, plan, outcome = prepare_and_train(job, base, self.output, run, mine, listener, own)
            return evaluate_and_report(job, base, prepared, plan, outcome, run, listener, own)

    def _result(
        self,
        director: Director,
        choice: Choice,
        work: Work,
        prepared: Prepared,
        run: RunResult | None,
        nested: dict[str, Any] | None,
        listener: Listener,
        clock: Clock,
    ) -> SweepResult:
        from raysft.report.sweep import write_sweep_report

        listener.stage("report")
        race = director.race
        taken = race.trials[choice.trial]
        corpus = pq.read_table(prepared.folder.corpus(sealed=False))
        scores, tables = {}, []
        for trial in better(race.finished):
            parts = [Part(trial.number, FoldId(fold), trial.epoch) for fold in race.folds]
            found, table = out_of_fold(work, parts, corpus, prepared.labels)
            scores[trial.number] = found
            tables.append(table)
        pq.write_table(pa.concat_tables(tables, promote_options="default"), self.folder.predictions)
        rows = trial_rows(race)
        for row in rows:
            if row["trial"] in scores:
                row["out_of_fold"] = {name: asdict(each) for name, each in scores[row["trial"]].items()}
        ahead = choice.ahead
        result = SweepResult(
            name=self.job.config.name,
            task=self.job.config.task,
            status=director.ended or "done",
            objectives=self.objectives,
            folds=list(race.folds),
            epochs=race.epochs,
            algorithm=algorithm_of(self.space, self.space.tune),
            trials=rows,
            chosen={
                "trial": taken.number,
                "settings": taken.settings,
                "epoch": taken.epoch,
                "why": choice.why,
                "best": choice.best,
                "runner_up": choice.runner_up,
                "ahead": None
                if ahead is None
                else {"value": ahead.value, "low": ahead.interval()[0], "high": ahead.interval()[1], "p": ahead.p},
                "out_of_fold": {name: asdict(each) for name, each in scores[taken.number].items()},
                "edges": edges(taken.settings, self.space.parameters),
            },
            front=choice.front,
            importance=importance_of(self.space, race),
            diagnosis=asdict(diagnose(taken, race.epochs)),
            timing=self._timing(director, clock),
            rows=prepared.audit["rows"],
            report=str(self.folder.report),
            predictions=str(self.folder.predictions),
            metrics=run.metrics if run else {},
            artifact=run.artifact if run else None,
            nested=nested,
            names=self.space.names(),
        )
        write_sweep_report(result, self.folder, created=date.today().isoformat(), version=VERSION)
        write_json(self.folder.result, result.to_json())
        shutil.rmtree(self.folder.states, ignore_errors=True)
        return result

    def _timing(self, director: Director, clock: Clock) -> dict[str, float]:
        busy = sum(fold.busy_s for trial in director.race.trials.values() for fold in trial.folds.values())
        spent = clock.spent()
        return {**spent, "busy_s": round(busy, 1), "slots": director.slots, **clock.total()}


def watch_board(director: Director, listener: Listener) -> None:
    """Let the listener see the table whenever it changes."""

    def tell(news: str) -> None:
        left = director.left_s()
        done = sum(len(trial.folds) for trial in director.race.trials.values())
        text = f"{done} folds done, {director.running} running"
        listener.board(trial_rows(director.race), text + ("" if left is None else f", at most {left:.0f} s left"), news)

    director.told = tell


def refit_job(space: Space, taken: Trial) -> Job:
    """The job that trains the chosen configuration on all folds."""
    job = space.applied(taken.settings)
    config = job.config
    folds = config.folds.model_copy(update={"validation": "none", "k": config.folds.k})
    epochs = config.train.epochs
    train = config.train.model_copy(
        update={"stop_at": None if taken.epoch == epochs else taken.epoch, "stop_after": None}
    )
    return replace(job, config=config.model_copy(update={"folds": folds, "train": train}))


def corners(space: Space) -> list[Settings]:
    """Configurations among which are the largest and the smallest value of each key, and every choice."""
    found: list[Settings] = []
    for parameter in space.parameters:
        needed = space.under_which(parameter) or {}
        found += [{**needed, parameter.key: value} for value in parameter.limits()]
    return found or [{}]


def words_of_settings(space: Space, settings: Settings) -> str:
    """`learning_rate 0.0002, batch_size 16`."""
    names = space.names()
    return ", ".join(f"{names.get(key, key)} {value}" for key, value in settings.items()) or "the settings of the job"


def _under(found: dict[str, T], settings: Settings) -> T:
    """What was prepared for these settings; the first where they leave out some that it depends on."""
    key = canonical({name: value for name, value in settings.items() if changes_data(name)})
    return found.get(key, next(iter(found.values())))


def _resources(slots: Slots) -> Resources:
    return slots.resources if slots.workers > 1 else Resources(1, slots.cpus, slots.gpu)


def _why_nothing(director: Director) -> tuple[str, str]:
    """Nothing can be chosen: why, and what to do."""
    failures = [f"trial {trial.number}: {trial.failed}" for trial in director.race.trials.values() if trial.failed]
    if director.ended:
        return (
            f"no configuration has all its folds done: {director.ended}",
            "Raise the limit; the same command goes on.",
        )
    return "every configuration failed: " + "; ".join(failures[:3]), "Mend the cause; the same command tries again."
