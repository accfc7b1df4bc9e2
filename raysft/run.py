"""One run, step after step: prepared data -> plan -> training -> scores on sealed rows -> report -> result.

Each step leaves its result in the run's folder, and one that is there already is not done again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysft.claim import claim
from raysft.config import Job
from raysft.config.sections import LANGUAGE_TASKS, SEVERAL_PIECES
from raysft.errors import DataError
from raysft.events import Listener
from raysft.plan.approach import planned_weights
from raysft.plan.machine import this_machine
from raysft.plan.plan import Plan, batch_words, choose_micro_rows, make_plan, threads
from raysft.plan.refusals import refuse_on, refuse_on_parts, refuse_too_large
from raysft.plan.size import model_size
from raysft.preparation.answering import answering_of, words_of
from raysft.preparation.build import load_prepared, prepare
from raysft.preparation.prepared import Prepared
from raysft.result import RunResult, baselines_json, metrics_json
from raysft.session import Resources, find_resources, hold, ray_session
from raysft.storage.commit import is_whole, read_json, write_bytes, write_json, writing
from raysft.storage.layout import Output, RunFolder
from raysft.storage.pretrained import Base
from raysft.version import VERSION


def prepare_and_train(
    job: Job, base: Base, output: Output, run: RunFolder, mine: dict[str, Any], listener: Listener, clock: Clock
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
        refuse_on(job, resources.cuda)
        listener.stage("data")
        with clock.timing("data_s"):
            prepared = prepare_with_page(job, base, output, listener)
        claim(job, base, mine, run)
        resources = hold(resources, job.config.train, listener)  # only now: until here nodes would wait for the data
        plan = plan_of(job, base, prepared, resources)
        write_json(run.plan, plan.to_json())
        listener.stage("train")
        listener.note(
            f"plan: {plan.total_steps} steps ({batch_words(job.config.train)}), {resources.workers} worker(s) x "
            f"{'1 GPU' if resources.gpu else f'{resources.cpus} CPU'}{_shared(plan)}, "
            f"{_time(plan)}"
        )
        with clock.timing("train_s"):
            outcome = _train(job, base, prepared, run, plan, resources, listener)
    return prepared, plan, outcome


def prepare_with_page(job: Job, base: Base, output: Output, listener: Listener) -> Prepared:
    """The prepared data, with its page, which also tells the job's name and the fold that validates: these are not part
    of what is prepared. Of conversations it shows what is learnt, as the listener is told."""
    from raysft.report.audit_page import audit_page
    from raysft.report.learnt import lessons

    prepared = prepare(job, base, output, listener)
    answering = answering_of(job.config, base)
    learnt = lessons(prepared, answering) if answering else []
    if learnt:
        listener.lessons(learnt)
    page = prepared.folder.audit_page
    drawn = audit_page(prepared.audit, job.config.name, learnt).encode()
    if not page.exists() or page.read_bytes() != drawn:
        with writing(page):
            write_bytes(page, drawn)
    return prepared


def plan_of(job: Job, base: Base, prepared: Prepared, resources: Resources) -> Plan:
    """What will be run. Raises JobFileError, DataError, NoCapacity for what cannot."""
    audit = prepared.audit
    rows = {name: audit["parts"].get(name, 0) for name in ("train", "validation", "test")}
    lengths = prepared.tokens("train").lengths
    if job.config.task in SEVERAL_PIECES:  # of a long text, each of which is a row of a batch
        rows |= {"train": len(lengths), "validation": len(prepared.tokens("validation"))}
        if not len(lengths):
            raise DataError("no training text has a token to learn", "Is data.text the column with the texts?")
    refuse_on_parts(job, rows)
    size, found, machine = model_size(base), resources, this_machine()
    weights = planned_weights(job, base, len(prepared.labels))
    words = words_of(job.config, base, prepared.labels)
    scored = 0 if words is None else words.scored
    shared = (found.cuda, found.workers, found.memory_bytes)
    plan = make_plan(job.config, size, lengths, rows, machine, *shared, weights, scored)
    refuse_too_large(plan, machine, found.cuda)
    return plan


def _time(plan: Plan) -> str:
    """How long training will take, for people."""
    return "time not predicted on a GPU" if plan.train_s is None else f"about {plan.train_s:.0f} s of training"


def _shared(plan: Plan) -> str:
    """How several workers share the model, and why, for people."""
    return f", {plan.strategy} ({plan.why['strategy']})" if plan.workers > 1 else ""


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
        micro_batch=choose_micro_rows(job.config.train),
        threads=threads(model_size(base), resources.cpus),
        gpu=resources.cuda,
        strategy=plan.strategy,
    )
    outcome = launch(task, resources, listener)
    if read_json(run.model / "raysft.json").get("language_head") == "new":
        listener.note(f"{base.name} has no head over the vocabulary; what it lacks was added, and learnt with the rest")
    if outcome.resumed_from is not None:
        listener.note(f"went on from the checkpoint of step {outcome.resumed_from}")
    return asdict(outcome)


def evaluate_and_report(
    job: Job,
    base: Base,
    prepared: Prepared,
    plan: Plan,
    outcome: dict[str, Any],
    run: RunFolder,
    listener: Listener,
    clock: Clock,
) -> RunResult:
    from raysft.evaluation.reload import ReloadCheck
    from raysft.report.build import write_report
    from raysft.report.facts import ReportFacts

    listener.stage("evaluate")
    with clock.timing("evaluate_s"), ReloadCheck(run.model, run.probe) as reload:
        evaluation, predictions = score_run(job, prepared, run, listener)
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
    tidy(run)
    return result


def score_run(job: Job, prepared: Prepared, run: RunFolder, listener: Listener | None = None) -> tuple[Any, pa.Table]:
    """Scores on validation and on the sealed test part, which is opened here and nowhere else."""
    if job.config.task == "generation":
        from raysft.evaluation.answers import evaluate_answers

        return evaluate_answers(prepared, run.model, job.config.generation, job.config.train.seed, listener)
    if job.config.task in LANGUAGE_TASKS:
        from raysft.evaluation.language import evaluate_language

        return evaluate_language(prepared, run.model, job.config.task, job.config.train.seed)
    if job.config.task == "token-classification":
        from raysft.evaluation.tags import evaluate_tags

        return evaluate_tags(prepared, run.model)
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


def tidy(run: RunFolder) -> None:
    """A finished run needs neither its checkpoints nor Ray's bookkeeping."""
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    shutil.rmtree(run.ray, ignore_errors=True)


class Clock:
    """Seconds since the command began, and of each step."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._spent = {"data_s": 0.0, "train_s": 0.0, "evaluate_s": 0.0}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._spent[name] = self._spent.get(name, 0.0) + round(time.perf_counter() - started, 3)

    def spent(self) -> dict[str, float]:
        return dict(self._spent)

    def total(self) -> dict[str, float]:
        return {"total_s": round(time.perf_counter() - self._started, 3)}
