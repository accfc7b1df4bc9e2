"""Read this first: the journey from a job file to a model whose quality is known, step after step.

    job file -> audited rows -> folds -> tokens -> plan -> training run -> evaluation -> report -> artifact

Each step leaves its result below the output folder and is not done again when it is already there; that one habit gives
caching, resuming and sharing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysft.claim import identity, refuse_other
from raysft.config import Job, load_job
from raysft.config.sections import LANGUAGE_TASKS
from raysft.config.tuning import TuneSection
from raysft.errors import NotFound, UsageError
from raysft.events import Listener, Silent
from raysft.plan.preflight import Check, check_job
from raysft.plan.refusals import refuse_early
from raysft.preparation.address import data_digest, open_sources
from raysft.preparation.build import prepare
from raysft.preparation.start import base_of
from raysft.reading.sources import require_encoding
from raysft.result import RunResult
from raysft.run import Clock, evaluate_and_report, prepare_and_train, prepare_with_page, score_run, tidy
from raysft.storage.commit import writing
from raysft.storage.layout import RunFolder, open_output
from raysft.storage.lease import lease
from raysft.tuning.outcome import SweepResult
from raysft.tuning.space import Space

if TYPE_CHECKING:
    from raysft.prediction.artifact import Artifact
    from raysft.prediction.texts import Reading


@dataclass(frozen=True)
class DataResult:
    """What `raysft data` prepared."""

    name: str
    folder: str
    page: str
    labels: list[str]
    audit: dict[str, Any]
    reused: bool

    def to_json(self) -> dict[str, Any]:
        return {"schema": "raysft.data/1", **asdict(self)}


def check(job: str | Path, overrides: Sequence[str] = ()) -> Check:
    """Validate a job, read a sample of its data and predict the run; takes seconds and does not start Ray."""
    loaded = load_job(job, overrides)
    if loaded.config.tune is not None:
        Space.of(loaded)  # for what it refuses
    return check_job(loaded, base_of(loaded))


def data(job: str | Path, overrides: Sequence[str] = (), listener: Listener | None = None) -> DataResult:
    """Read, audit, split and tokenize the data of a job; audit.html beside audit.json shows what was found."""
    listener = listener or Silent()
    loaded = load_job(job, overrides)
    base, output = base_of(loaded, listener), open_output(loaded.config.output)
    listener.stage("data")
    prepared = prepare_with_page(loaded, base, output, listener)
    return DataResult(
        name=loaded.config.name,
        folder=str(prepared.folder.path),
        page=str(prepared.folder.audit_page),
        labels=list(prepared.labels),
        audit=prepared.audit,
        reused=prepared.reused,
    )


def train(job: str | Path, overrides: Sequence[str] = (), listener: Listener | None = None) -> RunResult:
    """The whole journey. The same call after an interruption goes on from the newest checkpoint; after the end it
    returns the finished result.

    Raises the errors of raysft.errors; each says what to do.
    """
    listener, clock = listener or Silent(), Clock()
    loaded = load_job(job, overrides)
    base, output = base_of(loaded, listener), open_output(loaded.config.output)
    refuse_early(loaded, base)
    sources = open_sources(loaded)
    digest = data_digest(loaded, base, sources)
    run = output.run(loaded.config.name)
    with writing(run.path), lease(run.lock, f"run {loaded.config.name}"):
        mine = identity(loaded, base, digest)
        refuse_other(loaded, mine, run)
        if run.result.exists():
            listener.note(f"run {loaded.config.name} is finished; this is its result (another name starts another run)")
            tidy(run)
            return RunResult.read(run.result)
        prepared, plan, outcome = prepare_and_train(loaded, base, output, run, mine, listener, clock)
        return evaluate_and_report(loaded, base, prepared, plan, outcome, run, listener, clock)


def tune(job: str | Path, overrides: Sequence[str] = (), listener: Listener | None = None) -> SweepResult:
    """Search the settings that the `tune` section names by cross-validation, choose, and train the choice on all folds.
    The same call goes on after an interruption.

    Raises the errors of raysft.errors; each says what to do.
    """
    loaded = _each_fold_in_turn(load_job(job, overrides))
    if loaded.config.tune is None or not loaded.config.tune.search:
        raise UsageError(
            f"{job}: there is nothing to search: tune.search names no key",
            "Add for example `tune: {search: {train.learning_rate: {log: [1e-5, 5e-4]}}}`, or use `raysft cv`.",
        )
    return _sweep(loaded, loaded.config.name, listener or Silent())


def cv(job: str | Path, overrides: Sequence[str] = (), listener: Listener | None = None) -> SweepResult:
    """Cross-validate the settings of a job as they are: a search of one configuration, which trains none afterwards.
    Of the `tune` section it takes the objectives, and how many folds train at a time.

    Raises the errors of raysft.errors; each says what to do.
    """
    loaded = _each_fold_in_turn(load_job(job, overrides))
    own = loaded.config.tune or TuneSection()
    alone = TuneSection(objectives=own.objectives, concurrent=own.concurrent, racing=False, early=False, refit=False)
    loaded = replace(loaded, config=loaded.config.model_copy(update={"tune": alone}))
    return _sweep(loaded, f"{loaded.config.name}-cv", listener or Silent())


def _each_fold_in_turn(job: Job) -> Job:
    """Whatever fold a job names for `train`. Nobody wrote that, so that no line is given to it."""
    folds = job.config.folds.model_copy(update={"validation": None})
    written = job.values.get("folds")
    values = {**job.values, "folds": {**written, "validation": None}} if written else job.values
    return replace(job, config=job.config.model_copy(update={"folds": folds}), values=values)


def _sweep(job: Job, name: str, listener: Listener) -> SweepResult:
    from raysft.sweep import Sweep

    clock = Clock()
    output = open_output(job.config.output)
    return Sweep.of(job, output, output.sweep(name), listener).run(listener, clock)


def _require_labeller(job: Job, verb: str) -> None:
    if job.config.task in LANGUAGE_TASKS:
        raise UsageError(
            f"{verb}: run {job.config.name} learnt texts without labels (task: {job.config.task})",
            "Name its model folder as model.base of a job that learns labels.",
        )


def run_of(job: str | Path, overrides: Sequence[str] = ()) -> tuple[Job, RunFolder]:
    """The finished run of a job file. Raises NotFound when it has not finished."""
    loaded = load_job(job, overrides)
    run = open_output(loaded.config.output).run(loaded.config.name)
    if not run.result.exists():
        raise NotFound(
            f"no finished run named {loaded.config.name} in {run.path.parent}",
            f"Run `raysft train {job}` first.",
        )
    return loaded, run


def evaluate(
    job: str | Path,
    overrides: Sequence[str] = (),
    files: Sequence[str] = (),
    listener: Listener | None = None,
) -> Any:
    """Score a finished run again: on its own validation and test parts, or on other labelled files.

    Returns an Evaluation. With `files`, its `test` holds the scores on them; they are read as `data.format`,
    `data.encoding` and the columns of the job say, and no more of their rows may be unusable than
    `data.audit.max_rejected` allows.
    """
    listener = listener or Silent()
    loaded, run = run_of(job, overrides)
    listener.stage("evaluate")
    if files:
        _require_labeller(loaded, "evaluate --data")
        from raysft.prediction.scoring import evaluate_files

        return evaluate_files(run.model, files, loaded, listener)
    base, output = base_of(loaded, listener), open_output(loaded.config.output)
    refuse_other(loaded, identity(loaded, base, data_digest(loaded, base, open_sources(loaded))), run)
    prepared = prepare(loaded, base, output, listener)
    return score_run(loaded, prepared, run, listener)[0]


def predict(
    model: str | Path,
    files: Sequence[str] = (),
    texts: Sequence[str] = (),
    output: str | Path | None = None,
    column: str | None = None,
    overrides: Sequence[str] = (),
    format: str | None = None,
    encoding: str | None = None,
    listener: Listener | None = None,
) -> Any:
    """Label texts, or every row of files, with a finished run (a job file) or a model folder; or answer them, where it
    learnt answers: prompts, or conversations as messages.

    Returns a list of Prediction, in the order of the rows; a row that cannot be used has an `error` and no label.
    With `output`, writes them there as CSV or JSON Lines while they are computed, and returns how many (Written).
    Column, format and encoding are those of the job unless given; those of a model folder are `text` and found out.

    Raises UsageError, NotFound, NotAllowed, OutputError, DataError (no such column, not one usable row).
    """
    from raysft.prediction.files import predict_files, write_predictions
    from raysft.prediction.output import require_writable_kind

    listener = listener or Silent()
    if output is not None:
        require_writable_kind(Path(output))
    artifact, reading = _finished_model(model, overrides)
    reading = reading.instead(column, format, encoding)
    if output is None:
        return predict_files(artifact, files, texts, reading, listener)
    return write_predictions(Path(output), artifact, files, texts, reading, listener)


def _finished_model(model: str | Path, overrides: Sequence[str]) -> tuple[Artifact, Reading]:
    """A model, and how its job says that files are read."""
    from raysft.prediction.artifact import Artifact
    from raysft.prediction.texts import Reading

    path = Path(model)
    if path.suffix in {".yaml", ".yml"}:
        job, run = run_of(path, overrides)
        _require_labeller(job, "predict")
        data = job.config.data
        require_encoding(data.encoding, job.where("data", "encoding"))
        columns = RunResult.read(run.result).columns
        reading = Reading(columns["text"], data.format, data.encoding, columns.get("context"))
        return Artifact.open(run.model, job.config.generation), reading
    if (path / "model" / "config.json").is_file():
        path = path / "model"
    return Artifact.open(path), Reading()
