"""What `raysft check` finds out in a second or two: the job is valid, the data is readable, what the run will take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysft.config import Job
from raysft.corpus import audit
from raysft.corpus.build import Sources, check_rows, find_sources
from raysft.corpus.records import read_rows
from raysft.corpus.rows import ROW, TEST, TRAIN, VALIDATION, check
from raysft.corpus.tokens import encode
from raysft.errors import NoCapacity
from raysft.plan.machine import Machine, this_machine
from raysft.plan.plan import Plan, make_plan, too_many_workers
from raysft.plan.size import model_size
from raysft.storage.pretrained import Base

SAMPLE_ROWS = 5000  # of each file


@dataclass(frozen=True)
class Check:
    """A valid job and its prediction."""

    name: str
    files: list[str]
    columns: dict[str, str | None]
    sampled: bool  # rows are extrapolated from the first SAMPLE_ROWS of each file
    rows: dict[str, Any]  # read, kept, rejected by reason, as far as was read
    labels: list[str]
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_job(job: Job, base: Base) -> Check:
    """Read a sample of the data and predict the run. Raises whatever the run itself would raise about job and data."""
    config = job.config
    machine = this_machine()
    _refuse_impossible(job, machine)
    sources = find_sources(job)
    rows, scale = _sample(sources)
    rows = audit.mark_rejected(rows, config.data.audit)
    labels = check_rows(job, rows)
    kept = rows.filter(pc.is_null(rows.column("reason")))
    texts = kept.filter(pc.equal(kept.column("origin"), TRAIN)).column("text").to_pylist()
    ids, _ = encode(texts, base, config.model.max_length)
    lengths = np.array([len(each) for each in ids])
    counts = _parts(job, kept, scale)
    # The training rows are a stratified share of what was read; any such share has the same lengths.
    training = lengths[: max(1, round(len(lengths) * counts["train"] / max(1, sum(counts.values()))))]
    plan = make_plan(config, model_size(base), training, counts, machine)
    return Check(
        name=config.name,
        files=[str(file) for _, file in sources.files],
        columns={"text": config.data.text, "label": config.data.label, "group": config.data.group},
        sampled=scale > 1,
        rows={"read": rows.num_rows, "kept": kept.num_rows, "rejected": audit.rejected_by_reason(rows)},
        labels=list(labels),
        plan=plan,
    )


def _refuse_impossible(job: Job, machine: Machine) -> None:
    reason = too_many_workers(job.config, gpu=job.config.train.device == "gpu")
    if reason:
        raise job.problem("train.workers", reason)
    workers = job.config.train.workers
    if job.config.train.device == "cpu" and workers > machine.cpus:
        raise NoCapacity(
            f"train.workers {workers} x 1 CPU = {workers} CPUs; this machine has {machine.cpus}",
            f"Use --set train.workers={machine.cpus}, or run on a cluster (RAY_ADDRESS).",
        )


def _sample(sources: Sources) -> tuple[pa.Table, float]:
    """The first rows of each file, and how many times more there are (1 when all were read)."""
    found: list[dict[str, Any]] = []
    seen = total = 0.0
    for origin, file in sources.files:
        rows = list(islice(read_rows(file, sources.columns), SAMPLE_ROWS + 1))
        size = file.stat().st_size
        share = 1.0 if len(rows) <= SAMPLE_ROWS else min(1.0, _bytes(rows) / size)
        seen, total = seen + share * size, total + size
        found += [{"origin": origin, "source": str(file), **check(row, sources.columns)} for row in rows[:SAMPLE_ROWS]]
    return pa.Table.from_pylist(found, schema=ROW), max(1.0, total / max(seen, 1.0))


def _bytes(rows: list[Any]) -> int:
    return sum(len(row.text.encode()) + len(row.label.encode()) + len(row.group.encode()) + 4 for row in rows)


def _parts(job: Job, kept: pa.Table, scale: float) -> dict[str, int]:
    """Rows of each part, from the shares that the folds will take."""
    origins = kept.column("origin").to_pylist()
    rows = {origin: int(origins.count(origin) * scale) for origin in (TRAIN, VALIDATION, TEST)}
    settings = job.config.folds
    test = rows[TEST] or round(rows[TRAIN] * settings.test)
    left = rows[TRAIN] - (0 if rows[TEST] else test)
    validation = rows[VALIDATION] or (round(left / settings.k) if settings.k else 0)
    return {"train": left - (0 if rows[VALIDATION] else validation), "validation": validation, "test": test}
