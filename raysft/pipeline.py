"""Read this first: the journey from a job file to a model whose quality is known, step after step.

    job file -> audited rows -> folds -> tokens -> plan -> training run -> evaluation -> report -> artifact

Each step leaves its result below the output folder and is not done again when it is already there; that one habit gives
caching, resuming and sharing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysft.claim import claim, identity, refuse_other
from raysft.config import Job, load_job
from raysft.config.sections import LANGUAGE_TASKS, TrainSection
from raysft.errors import DataError, NotFound, UsageError
from raysft.events import Listener, Silent
from raysft.plan.approach import planned_groups, refuse_quantized
from raysft.plan.language import refuse_labels_only
from raysft.plan.machine import this_machine
from raysft.plan.plan import Plan, batch_words, choose_micro_batch, make_plan, threads, too_many_workers
from raysft.plan.precision import refuse_precision
from raysft.plan.preflight import Check, check_job, refuse_too_long
from raysft.plan.settings import refuse_optimizer, refuse_settings
from raysft.plan.sharing import refuse_sharing
from raysft.plan.size import model_size
from raysft.preparation.address import data_digest, open_sources
from raysft.preparation.build import load_prepared, prepare
from raysft.preparation.prepared import Prepared
from raysft.reading.sources import require_encoding
from raysft.result import RunResult, baselines_json, metrics_json
from raysft.session import Resources, find_resources, ray_session
from raysft.storage.commit import is_whole, read_json, write_bytes, write_json, writing
from raysft.storage.layout import Output, RunFolder, open_output
from raysft.storage.lease import lease
from raysft.storage.pretrained import Base, resolve_base
from raysft.version import VERSION

if TYPE_CHECKING:
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
    return check_job(loaded, _base(loaded))


def data(job: str | Path, overrides: Sequence[str] = (), listener: Listener | None = None) -> DataResult:
    """Read, audit, split and tokenize the data of a job; audit.html beside audit.json shows what was found."""
    listener = listener or Silent()
    loaded = load_job(job, overrides)
    base, output = _base(loaded), open_output(loaded.config.output)
    listener.stage("data")
    prepared = _prepared(loaded, base, output, listener)
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
    listener, clock = listener or Silent(), _Clock()
    loaded = load_job(job, overrides)
    _refuse_untrainable(loaded)
    base, output = _base(loaded), open_output(loaded.config.output)
    refuse_too_long(loaded, base)
    refuse_settings(loaded)
    planned_groups(loaded, base, 2)  # for what it refuses, which no number of labels changes
    sources = open_sources(loaded)
    digest = data_digest(loaded, base, sources)
    run = output.run(loaded.config.name)
    with writing(run.path), lease(run.lock, f"run {loaded.config.name}"):
        mine = identity(loaded, base, digest)
        refuse_other(loaded, mine, run)
        if run.result.exists():
            listener.note(f"run {loaded.config.name} is finished; this is its result (another name starts another run)")
            _tidy(run)
            return RunResult.read(run.result)
        prepared, plan, outcome = _prepare_and_train(loaded, base, output, run, mine, listener, clock)
        return _evaluate_and_report(loaded, base, prepared, plan, outcome, run, listener, clock)


def _prepare_and_train(
    job: Job, base: Base, output: Output, run: RunFolder, mine: dict[str, Any], listener: Listener, clock: _Clock
) -> tuple[Prepared, Plan, dict[str, Any]]:
    """The steps that need Ray; none of them when they were done before."""
    if run.outcome.exists() and run.plan.exists() and is_whole(run.model) and run.probe.exists():
        prepared = load_prepared(job, output, mine["data"])
        if prepared is not None:
            outcome = dict(read_json(run.outcome))
            listener.note(f"training was complete before, at step {outcome['last_step']}")
            return prepared, Plan(**read_json(run.plan)), {**outcome, "resumed_from": outcome["last_step"]}
    listener.stage("start")
    with ray_session():
        resources = find_resources(job.config.train)
        _refuse_unshareable(job, resources)
        refuse_precision(job, resources.gpu)
        refuse_sharing(job, resources.gpu)
        refuse_optimizer(job, resources.gpu)
        refuse_quantized(job, resources.gpu)
        listener.stage("data")
        with clock.timing("data_s"):
            prepared = _prepared(job, base, output, listener)
        claim(job, base, mine, run)
        plan = _plan(job, base, prepared, resources)
        write_json(run.plan, plan.to_json())
        listener.stage("train")
        listener.note(
            f"plan: {plan.total_steps} steps ({batch_words(job.config.train)}), {resources.workers} worker(s) x "
            f"{'1 GPU' if resources.gpu else f'{resources.cpus} CPU'}{_shared(plan)}, "
            f"about {plan.train_s:.0f} s of training"
        )
        with clock.timing("train_s"):
            outcome = _train(job, base, prepared, run, plan, resources, listener)
    return prepared, plan, outcome


def _train(
    job: Job, base: Base, prepared: Prepared, run: RunFolder, plan: Plan, resources: Resources, listener: Listener
) -> dict[str, Any]:
    from raysft.training.launch import launch
    from raysft.training.worker import Task

    task = Task(
        config=job.config,
        job_folder=job.folder,
        base=base,
        data=prepared,
        run=run,
        micro_batch=choose_micro_batch(job.config, resources.gpu),
        threads=threads(model_size(base), resources.cpus),
        gpu=resources.gpu,
        strategy=plan.strategy,
    )
    outcome = launch(task, resources, listener)
    if read_json(run.model / "raysft.json").get("language_head") == "new":
        listener.note(f"{base.name} has no head over the vocabulary; what it lacks was added, and learnt with the rest")
    if outcome.resumed_from is not None:
        listener.note(f"went on from the checkpoint of step {outcome.resumed_from}")
    return asdict(outcome)


def _evaluate_and_report(
    job: Job,
    base: Base,
    prepared: Prepared,
    plan: Plan,
    outcome: dict[str, Any],
    run: RunFolder,
    listener: Listener,
    clock: _Clock,
) -> RunResult:
    from raysft.evaluation.reload import ReloadCheck
    from raysft.report.build import write_report
    from raysft.report.facts import ReportFacts

    listener.stage("evaluate")
    with clock.timing("evaluate_s"), ReloadCheck(run.model, run.probe) as reload:
        evaluation, predictions = _evaluate(job, prepared, run)
        difference = reload.finish()
    listener.note(f"artifact: reloaded in a fresh process, logits differ by at most {difference:.1g}")
    timing = {**clock.spent(), **_speed(outcome)}
    pq.write_table(predictions, run.predictions)
    write_json(run.evaluation, evaluation.to_json())
    listener.stage("report")
    write_report(
        ReportFacts(
            name=job.config.name,
            task=job.config.task,
            base=base.name,
            base_revision=base.revision,
            evaluation=evaluation,
            audit=prepared.audit,
            history=_history(run),
            plan=plan.to_json(),
            outcome=outcome,
            timing=timing,
            job_yaml=run.job.read_text(encoding="utf-8"),
            created=date.today().isoformat(),
            version=VERSION,
            group_column=job.config.data.group,
        ),
        run,
    )
    audit = prepared.audit
    result = RunResult(
        name=job.config.name,
        task=job.config.task,
        status="done",
        rows={**audit["rows"], "parts": audit["parts"]},
        columns=audit["columns"],
        metrics=metrics_json(evaluation),
        baselines=baselines_json(evaluation),
        timing={**timing, **clock.total()},
        artifact=str(run.model),
        report=str(run.report),
        resumed_from=outcome["resumed_from"],
        model={
            "base": base.name,
            "revision": base.revision,
            "base_sha256": base.weights_sha256,
            "weights_sha256": outcome["weights_sha256"],
        },
        data=str(prepared.folder.path),
        labels=list(prepared.labels),
        training=outcome,
        plan=plan.to_json(),
    )
    write_json(run.result, result.to_json())
    _tidy(run)
    return result


def _evaluate(job: Job, prepared: Prepared, run: RunFolder) -> tuple[Any, pa.Table]:
    """Scores on validation and on the sealed test part, which is opened here and nowhere else."""
    if job.config.task in LANGUAGE_TASKS:
        from raysft.evaluation.language import evaluate_language

        return evaluate_language(prepared, run.model, job.config.task, job.config.train.seed)
    from raysft.evaluation.evaluation import Evaluation
    from raysft.prediction.artifact import Artifact

    artifact = Artifact.open(run.model)
    scorer, parts, tables, logits = artifact.scorer, {}, [], {}
    for name in ("validation", "test"):
        corpus = prepared.part(name)
        if corpus.num_rows:
            logits[name] = artifact.model.logits(prepared.tokens(name))
            parts[name] = scorer.score(corpus, logits[name])
            tables.append(scorer.predictions(corpus, name, logits[name]))
    headline = "test" if "test" in parts else "validation"
    beside: dict[str, Any] = {}
    if headline in parts:
        beside = {**scorer.baselines(prepared.part("train"), prepared.part(headline), logits[headline])}
    test, validation = parts.get("test"), parts.get("validation")
    evaluation = Evaluation(list(prepared.labels), test, validation, beside, headline, scorer.threshold)
    return evaluation, pa.concat_tables(tables) if tables else pa.table({"row_id": pa.array([], pa.int64())})


def _prepared(job: Job, base: Base, output: Output, listener: Listener) -> Prepared:
    """The prepared data, with its page, which also tells the job's name and the fold that validates: these are not part
    of what is prepared."""
    from raysft.report.audit_page import audit_page

    prepared = prepare(job, base, output, listener)
    page = prepared.folder.audit_page
    drawn = audit_page(prepared.audit, job.config.name).encode()
    if not page.exists() or page.read_bytes() != drawn:
        with writing(page):
            write_bytes(page, drawn)
    return prepared


def _plan(job: Job, base: Base, prepared: Prepared, resources: Resources) -> Plan:
    audit = prepared.audit
    rows = {name: audit["parts"].get(name, 0) for name in ("train", "validation", "test")}
    lengths = prepared.tokens("train").lengths
    if job.config.task in LANGUAGE_TASKS:  # where long texts are several pieces, and each is a row of a batch
        rows |= {"train": len(lengths), "validation": len(prepared.tokens("validation"))}
        if not len(lengths):
            raise DataError("no training text has a token to learn", "Is data.text the column with the texts?")
    size, found = model_size(base), resources
    machine = this_machine()
    return make_plan(job.config, size, lengths, rows, machine, found.gpu, found.workers, found.memory_bytes)


def _shared(plan: Plan) -> str:
    """How several workers share the model, and why, for people."""
    return f", {plan.strategy} ({plan.why['strategy']})" if plan.workers > 1 else ""


def _refuse_untrainable(job: Job) -> None:
    """Say at once what this version prepares but does not train yet."""
    config = job.config
    if config.task not in {"classification", *LANGUAGE_TASKS}:
        trained = f"classification, {' and '.join(LANGUAGE_TASKS)}"
        raise job.problem("task", f"`raysft data` prepares {config.task}; this version trains {trained} only")
    refuse_labels_only(job)
    if config.train.loss != "focal" and config.train.focal_gamma != TrainSection().focal_gamma:
        raise job.problem("train.focal_gamma", "belongs to train.loss: focal; set that too, or leave it out")


def _require_labeller(job: Job, verb: str) -> None:
    if job.config.task in LANGUAGE_TASKS:
        raise UsageError(
            f"{verb}: run {job.config.name} learnt texts without labels (task: {job.config.task})",
            "Name its model folder as model.base of a job that learns labels.",
        )


def _refuse_unshareable(job: Job, resources: Resources) -> None:
    reason = too_many_workers(job.config, resources.gpu)
    if reason:
        raise job.problem("train.workers", reason)


def _base(job: Job) -> Base:
    return resolve_base(job.config.model.base, job.config.model.revision, job.folder)


def _history(run: RunFolder) -> list[dict[str, Any]]:
    if not run.metrics.exists():
        return []
    return [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]


def _speed(outcome: dict[str, Any]) -> dict[str, float]:
    seconds = max(outcome["seconds"], 1e-9)
    return {
        "step_s": outcome["seconds"],
        "examples_per_s": round(outcome["examples"] / seconds, 2),
        "tokens_per_s": round(outcome["tokens"] / seconds, 1),
        "padding_share": round(1 - outcome["tokens"] / max(1, outcome["padded"]), 4),
    }


def _tidy(run: RunFolder) -> None:
    """A finished run needs neither its checkpoints nor Ray's bookkeeping."""
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    shutil.rmtree(run.ray, ignore_errors=True)


class _Clock:
    """Seconds since the command began, and of each step."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._spent = {"data_s": 0.0, "train_s": 0.0, "evaluate_s": 0.0}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._spent[name] += round(time.perf_counter() - started, 3)

    def spent(self) -> dict[str, float]:
        return dict(self._spent)

    def total(self) -> dict[str, float]:
        return {"total_s": round(time.perf_counter() - self._started, 3)}


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
    base, output = _base(loaded), open_output(loaded.config.output)
    refuse_other(loaded, identity(loaded, base, data_digest(loaded, base, open_sources(loaded))), run)
    prepared = prepare(loaded, base, output, listener)
    return _evaluate(loaded, prepared, run)[0]


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
    """Label texts, or every row of files, with a finished run (a job file) or a model folder.

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
    folder, reading = _finished_model(model, overrides)
    reading = reading.instead(column, format, encoding)
    if output is None:
        return predict_files(folder, files, texts, reading, listener)
    return write_predictions(Path(output), folder, files, texts, reading, listener)


def _finished_model(model: str | Path, overrides: Sequence[str]) -> tuple[Path, Reading]:
    """The folder of a model, and how its job says that files are read."""
    from raysft.prediction.texts import Reading

    path = Path(model)
    if path.suffix in {".yaml", ".yml"}:
        job, run = run_of(path, overrides)
        _require_labeller(job, "predict")
        data = job.config.data
        require_encoding(data.encoding, job.where("data", "encoding"))
        return run.model, Reading(RunResult.read(run.result).columns["text"], data.format, data.encoding)
    if (path / "model" / "config.json").is_file():
        path = path / "model"
    return path, Reading()
