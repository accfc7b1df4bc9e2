"""What `raysft check` finds out in a second or two: the job is valid, the data is readable, what the run will take."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
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
    """Read a sample of the data and predict the run. Raises what the run itself would raise about job and data."""
    config = job.config
    machine = this_machine()
    _refuse_impossible(job, machine)
    refuse_too_long(job, base)
    sources = find_sources(job)
    rows, scale = _sample(sources)
    sampled = any(times > 1 for times in scale.values())
    rows = audit.mark_rejected(rows, config.data.audit)
    # What the first rows lack, a class or the label of a test row, may stand further down: only the run can tell.
    labels = _labels(rows) if sampled else check_rows(job, rows)
    kept = rows.filter(pc.is_null(rows.column("reason")))
    texts = kept.filter(pc.equal(kept.column("origin"), TRAIN)).column("text").to_pylist()
    ids, _ = encode(texts, base, config.model.max_length)
    lengths = np.array([len(each) for each in ids])
    counts = _parts(job, kept, scale)
    # The training rows are a stratified share of what was read; any such share has the same lengths.
    training = lengths[: max(1, round(len(lengths) * counts["train"] / max(1, sum(counts.values()))))]
    plan = make_plan(config, model_size(base), training, counts, machine)
    _refuse_too_large(plan, machine)
    return Check(
        name=config.name,
        files=[str(file) for _, file in sources.files],
        columns={"text": config.data.text, "label": config.data.label, "group": config.data.group},
        sampled=sampled,
        rows={"read": rows.num_rows, "kept": kept.num_rows, "rejected": audit.rejected_by_reason(rows)},
        labels=list(labels),
        plan=plan,
    )


def refuse_too_long(job: Job, base: Base) -> None:
    """model.max_length must fit into the positions the base was built with."""
    positions = base.config.get("max_position_embeddings")
    if isinstance(positions, int) and 0 < positions < job.config.model.max_length:
        raise job.problem(
            "model.max_length", f"at most {positions} for {base.name}, found {job.config.model.max_length}"
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


def _refuse_too_large(plan: Plan, machine: Machine) -> None:
    if plan.memory_bytes > machine.memory_bytes:
        raise NoCapacity(
            f"a worker needs about {plan.memory_bytes / 2**30:.1f} GiB ({plan.why['memory_bytes']}); "
            f"this machine has {machine.memory_bytes / 2**30:.1f} GiB",
            "Use a smaller model.base, model.max_length or train.micro_batch.",
        )


def _sample(sources: Sources) -> tuple[pa.Table, dict[str, float]]:
    """The first rows of each file, and how many times more there are of each origin (1 when all were read)."""
    found: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for origin, file in sources.files:
        rows = list(islice(read_rows(file, sources.columns), SAMPLE_ROWS + 1))
        size = file.stat().st_size
        seen[origin] += size if len(rows) <= SAMPLE_ROWS else _bytes_before(file, rows[SAMPLE_ROWS].line)
        total[origin] += size
        found += [{"origin": origin, "source": str(file), **check(row, sources.columns)} for row in rows[:SAMPLE_ROWS]]
    return pa.Table.from_pylist(found, schema=ROW), {origin: total[origin] / max(seen[origin], 1) for origin in total}


def _bytes_before(file: Path, line: int) -> int:
    with file.open("rb") as lines:
        return sum(map(len, islice(lines, line - 1)))


def _labels(rows: pa.Table) -> tuple[str, ...]:
    kept = rows.filter(pc.and_(pc.is_null(rows.column("reason")), pc.equal(rows.column("origin"), TRAIN)))
    return tuple(sorted(set(kept.column("label").to_pylist())))


def _parts(job: Job, kept: pa.Table, scale: dict[str, float]) -> dict[str, int]:
    """Rows of each part, from the shares that the folds will take."""
    origins = kept.column("origin").to_pylist()
    rows = {origin: round(origins.count(origin) * scale.get(origin, 1)) for origin in (TRAIN, VALIDATION, TEST)}
    settings = job.config.folds
    test = rows[TEST] or round(rows[TRAIN] * settings.test)
    left = rows[TRAIN] - (0 if rows[TEST] else test)
    validation = rows[VALIDATION] or (round(left / settings.k) if settings.k else 0)
    return {"train": left - (0 if rows[VALIDATION] else validation), "validation": validation, "test": test}
