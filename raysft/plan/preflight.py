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
from raysft.config.sections import SEVERAL_PIECES, JobConfig
from raysft.corpus.encode import encode_texts
from raysft.corpus.label_words import LabelWords
from raysft.corpus.rows import TEST, TRAIN, VALIDATION, Meaning, canonical, concat
from raysft.corpus.windows import overlap
from raysft.errors import NoCapacity
from raysft.plan.approach import planned_groups, planned_weights
from raysft.plan.language import piece_lengths
from raysft.plan.machine import Machine, this_machine
from raysft.plan.plan import ModelSize, Plan, make_plan
from raysft.plan.precision import may_use_gpu
from raysft.plan.refusals import elsewhere, refuse_early, refuse_on, refuse_on_parts, refuse_too_large
from raysft.plan.size import model_size
from raysft.plan.weights import Weights
from raysft.preparation.address import Sources, open_sources
from raysft.preparation.answering import answering_of, require_words, words_of
from raysft.preparation.decide import screen
from raysft.preparation.features import Wanted
from raysft.preparation.rowstore import ORIGINS, RowStore
from raysft.reading.columns import Columns
from raysft.reading.records import read_batches
from raysft.reading.sources import Source, compression_of, size_bytes
from raysft.storage.pretrained import Base

SAMPLE_ROWS = 5000  # of each file
COMPRESSED = 3  # times that text usually shrinks
SPECIAL = 2  # tokens around a text, of most tokenizers
NO_NEAR = Wanted(similarity=1.0)  # near-duplicates take longer than a check may


@dataclass(frozen=True)
class Check:
    """A valid job and its prediction."""

    name: str
    files: list[str]
    columns: dict[str, str | None]
    guessed: list[str]  # which of the columns were found by their names
    sampled: bool  # rows are extrapolated from the first SAMPLE_ROWS of each file
    rows: dict[str, Any]  # read, kept, rejected by reason, as far as was read
    labels: list[str]
    plan: Plan
    groups: list[dict[str, Any]]  # which parameters train, and how; empty: only the built model can tell

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """All that a plan is made from, so that one reading of the data serves several machines."""

    config: JobConfig
    size: ModelSize
    lengths: np.ndarray[Any, Any]  # tokens of each training row, or of a sample of them, shape (n,)
    rows: dict[str, int]  # of each part
    machine: Machine  # this one
    weights: Weights
    scored: int

    def plan(self, gpu: bool, workers: int = 0, worker_bytes: int = 0, **train: Any) -> Plan:
        """Predict the run; see make_plan. train: settings of the job's section that are other than it says."""
        config = self.config
        if train:
            config = config.model_copy(update={"train": config.train.model_copy(update=train)})
        return make_plan(
            config,
            self.size,
            self.lengths,
            self.rows,
            self.machine,
            gpu,
            workers,
            worker_bytes,
            weights=self.weights,
            scored=self.scored,
        )


def check_job(job: Job, base: Base) -> Check:
    """Read a sample of the data and predict the run on this machine, or wherever RAY_ADDRESS is. Raises what the run
    itself would raise about job and data."""
    return check_on(job, base, may_use_gpu(job.config.train.device), here=not elsewhere())[0]


def check_on(job: Job, base: Base, gpu: bool, here: bool) -> tuple[Check, Measured]:
    """The same of a run on GPUs or not, and what plans of it on other machines are made from.

    here: on this machine, which may be too small (NoCapacity).
    """
    config = job.config
    refuse_early(job, base)
    refuse_on(job, gpu)
    machine = this_machine()
    if here:
        _refuse_few_cpus(job, machine, gpu)
    sources = open_sources(job)
    rows, scale = _sample(job, base, sources)
    sampled = any(times > 1 for times in scale.values())
    # What the first rows lack, a class or the label of a test row, may stand further down: only the run can tell.
    store = RowStore.of_table(rows, NO_NEAR)
    books, labels = screen(job, store, strict=not sampled)
    words = words_of(config, base, labels.names)
    require_words(job, words)
    kept = np.flatnonzero(books.alive)
    tokens = _lengths(job, base, rows, words, kept[store.origin[kept] == ORIGINS.index(TRAIN)])
    lengths = np.minimum(tokens, config.model.max_length)
    counts = _parts(job, [ORIGINS[code] for code in store.origin[kept].tolist()], scale)
    if config.task in SEVERAL_PIECES:
        shared = overlap(config.model.max_length, SPECIAL) if config.task == "token-classification" else 0
        lengths = piece_lengths(np.array(tokens), config.model.max_length, shared)
        counts = {part: round(rows * len(lengths) / max(1, len(tokens))) for part, rows in counts.items()}
    # The training rows are a stratified share of what was read; any such share has the same lengths.
    training = lengths[: max(1, round(len(lengths) * counts["train"] / max(1, sum(counts.values()))))]
    if not sampled:
        refuse_on_parts(job, counts)
    weights = planned_weights(job, base, len(labels.names))
    scored = 0 if words is None else words.scored
    measured = Measured(config, model_size(base), training, counts, machine, weights, scored)
    plan = measured.plan(gpu)
    if here:
        refuse_too_large(plan, machine, gpu)
    found = Check(
        name=config.name,
        files=[source.path for source in sources.files],
        columns={role: getattr(sources.columns, role) for role in ("text", "label", "group")},
        guessed=list(sources.columns.guessed),
        sampled=sampled,
        rows={
            "read": store.rows,
            "kept": len(kept),
            "rejected": {**books.counts(quarantined=False), **books.counts(quarantined=True)},
        },
        labels=list(labels.names),
        plan=plan,
        groups=planned_groups(job, base, len(labels.names)),
    )
    return found, measured


def _lengths(
    job: Job, base: Base, rows: pa.Table, words: LabelWords | None, training: np.ndarray[Any, Any]
) -> list[int]:
    """Tokens of the rows at these places, without a limit."""
    rows, answering = rows.take(training), answering_of(job.config, base)
    if answering is not None:
        return answering.encode(rows.column("record").to_pylist())[2]
    if words is not None:
        return words.prompts(rows.column("text").to_pylist())[1]
    return encode_texts(rows.column("text").to_pylist(), base.folder / "tokenizer.json", job.config.model.max_length)[1]


def _refuse_few_cpus(job: Job, machine: Machine, gpu: bool) -> None:
    """What the run itself finds out from Ray."""
    workers = job.config.train.fewest_workers
    if not gpu and workers > machine.cpus:
        raise NoCapacity(
            f"train.workers {workers} x 1 CPU = {workers} CPUs; this machine has {machine.cpus}",
            f"Use --set train.workers={machine.cpus}, or run on a cluster (RAY_ADDRESS).",
        )


def _sample(job: Job, base: Base, sources: Sources) -> tuple[pa.Table, dict[str, float]]:
    """The first rows of each file, and how many times more there are of each origin (1 when all were read)."""
    data = job.config.data
    meaning = Meaning(job.config.task, data.multi_label, data.label_separator, answering_of(job.config, base))
    tables: list[pa.Table] = []
    seen: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for source in sources.files:
        found = _first_rows(source, sources.columns, meaning)
        few = found.slice(0, SAMPLE_ROWS)
        seen[source.origin] += few.num_rows
        total[source.origin] += few.num_rows if few.num_rows == found.num_rows else _rows_in(source, few)
        tables.append(few)
    return concat(tables), {origin: total[origin] / max(seen[origin], 1) for origin in total}


def _first_rows(source: Source, columns: Columns, meaning: Meaning) -> pa.Table:
    """All rows, or some more than SAMPLE_ROWS."""
    tables: list[pa.Table] = []
    for batch in read_batches(source, columns):
        tables.append(canonical(batch, source, columns, meaning))
        if sum(table.num_rows for table in tables) > SAMPLE_ROWS:
            break
    return concat(tables)


def _rows_in(source: Source, first: pa.Table) -> int:
    """About how many rows a source holds, from the bytes that its first rows take."""
    line = first.column("line")[-1].as_py()
    if (
        source.format in {"csv", "tsv", "jsonl", "conll"}
        and not compression_of(source.path)
        and "://" not in source.path
    ):
        with Path(source.path).open("rb") as file:
            read = sum(map(len, islice(file, line)))
    else:
        cells = sum(pc.sum(pc.binary_length(first.column(name))).as_py() or 0 for name in ("text", "label"))
        read = cells // (COMPRESSED if compression_of(source.path) or source.format == "parquet" else 1)
    return int(first.num_rows * size_bytes(source) / max(1, read))


def _parts(job: Job, origins: list[str], scale: dict[str, float]) -> dict[str, int]:
    """Rows of each part, from the shares that the folds will take."""
    rows = {origin: round(origins.count(origin) * scale.get(origin, 1)) for origin in ORIGINS}
    settings = job.config.folds
    test = rows[TEST] or round(rows[TRAIN] * settings.test)
    left = rows[TRAIN] - (0 if rows[TEST] else test)
    validation = rows[VALIDATION] or (round(left / settings.k) if settings.k else 0)
    return {"train": left - (0 if rows[VALIDATION] else validation), "validation": validation, "test": test}
