"""Job file -> audited rows, folds and tokenized shards, in parallel on Ray Data, once for every run that shares them.

Rows are read, checked and tokenized by Ray Data; what needs the whole corpus at once (repeats, folds) is done in one
place on the driver, where a corpus that fits in memory costs less than a shuffle. The result is committed under a
digest of everything it depends on, so the same data is never prepared twice.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysft.config import Job
from raysft.corpus import audit, folds
from raysft.corpus.records import Columns, expand, header
from raysft.corpus.rows import ROW, TEST, TRAIN, VALIDATION, concat, same_text, tables_of
from raysft.corpus.summary import announce, summary
from raysft.corpus.tokens import TOKENS, TokenizedRows, encode, read_shards, write_shards
from raysft.errors import DataError, NotAllowed
from raysft.events import Listener
from raysft.storage.commit import (
    ASIDE,
    TornFolder,
    committed_folder,
    digest_of,
    read_json,
    sha256_file,
    verified_folder,
    write_json,
    writing,
)
from raysft.storage.layout import DataFolder, Output
from raysft.storage.lease import lease
from raysft.storage.pretrained import Base

TOKENIZE_ROWS = 20_000  # of one task; below that a second task costs more than it saves
FORMAT = 3  # of the prepared folder; a change makes old preparations unused, never misread


@dataclass(frozen=True)
class Sources:
    """The files of each part and the columns that count, checked against their headers."""

    files: tuple[tuple[str, Path], ...]  # (origin, file)
    columns: Columns


@dataclass(frozen=True)
class Prepared:
    """Audited rows, folds and shards of one job."""

    digest: str
    folder: DataFolder
    labels: tuple[str, ...]
    validation: int  # the fold that validates
    k: int
    reused: bool = False

    @cached_property
    def audit(self) -> dict[str, Any]:
        """audit.json, with rows per part: it is stored per fold, so that any fold may validate."""
        stored = dict(read_json(self.folder.audit))
        labels = {label: self._parts(counts) for label, counts in stored["labels"].items()}
        return {**stored, "parts": self._parts(stored["folds"]), "labels": labels}

    def _parts(self, per_fold: dict[str, int]) -> dict[str, int]:
        found: Counter[str] = Counter()
        for fold, rows in per_fold.items():
            found[folds.part_of(int(fold), self.validation, self.k)] += rows
        return dict(found)

    @cached_property
    def corpus(self) -> pa.Table:
        """Kept rows: row_id, origin, source, line, text, label, group, fold, unit."""
        return pq.read_table(self.folder.corpus).append_column("fold", pq.read_table(self.folder.folds).column("fold"))

    def __getstate__(self) -> dict[str, Any]:
        """Only the fields travel to workers: neither the corpus nor its sealed test rows."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def part(self, name: str) -> pa.Table:
        """The corpus rows of train, validation or test."""
        parts = [folds.part_of(fold, self.validation, self.k) for fold in self.corpus.column("fold").to_pylist()]
        return self.corpus.filter(pa.array([part == name for part in parts], pa.bool_()))

    def tokens(self, part: str) -> TokenizedRows:
        """The tokenized rows of train, validation or test; only asking for test opens the sealed shards."""
        rows = read_shards(self.folder.tokens(sealed=part == "test"))
        assigned = pq.read_table(self.folder.folds)
        inside = [folds.part_of(fold, self.validation, self.k) == part for fold in assigned.column("fold").to_pylist()]
        wanted = assigned.column("row_id").to_numpy()[inside]
        return rows.select(np.flatnonzero(np.isin(rows.row_id, wanted)))


def find_sources(job: Job) -> Sources:
    """Expand the paths of a job and check that each file has the columns. Raises NotFound, DataError, JobFileError."""
    data = job.config.data
    columns = Columns(data.text, data.label, data.group)
    files = []
    for origin, patterns in ((TRAIN, data.train), (VALIDATION, data.validation), (TEST, data.test)):
        for file in expand(patterns, job.folder, f"{job.where('data', origin)}: data.{origin}: ") if patterns else []:
            _check_columns(job, file, columns)
            files.append((origin, file))
    return Sources(tuple(files), columns)


def _check_columns(job: Job, file: Path, columns: Columns) -> None:
    try:
        names = header(file)
    except PermissionError:
        raise NotAllowed(f"{file}: no permission to read it", "Mend its permissions, or copy it.") from None
    if not names:
        raise DataError(f"{file}: the file is empty", "It needs a header line and rows.")
    for key, name in (("text", columns.text), ("label", columns.label), ("group", columns.group)):
        if name and name not in names:
            raise job.problem(f"data.{key}", f"no column {name!r} in {file.name}; it has: {', '.join(names)}")


def prepare(job: Job, base: Base, output: Output, listener: Listener) -> Prepared:
    """Read, audit, split and tokenize; or find that it was done before. Needs a running Ray.

    Raises NotFound, JobFileError, DataError (see its messages), OutputError (no space).
    """
    sources = find_sources(job)
    digest = data_digest(job, base, sources)
    folder = output.data(digest)
    with writing(folder.path), lease(folder.lock, "this prepared data", wait_s=600):
        prepared = load_prepared(job, output, digest) or _build(job, base, sources, digest, folder)
    announce(prepared.audit, len(prepared.labels), prepared.reused, listener)
    return prepared


def _build(job: Job, base: Base, sources: Sources, digest: str, folder: DataFolder) -> Prepared:
    """Do the work, and commit it."""
    for left in folder.path.parent.glob(f"{folder.path.name}{ASIDE}*"):
        shutil.rmtree(left, ignore_errors=True)  # of a preparation that was killed; we hold the lock
    rows = audit.mark_rejected(_read(sources), job.config.data.audit)
    labels = check_rows(job, rows)
    with committed_folder(folder.path, {"format": FORMAT, "labels": labels}) as aside:
        _write(job, base, rows, labels, DataFolder(aside))
    return Prepared(digest, folder, labels, job.config.folds.validation, _folds(job))


def load_prepared(job: Job, output: Output, digest: str) -> Prepared | None:
    """What was prepared before under this digest, every file checked; None when there is nothing whole."""
    folder = output.data(digest)
    try:
        labels = tuple(verified_folder(folder.path)["labels"])
    except TornFolder:
        return None
    return Prepared(digest, folder, labels, job.config.folds.validation, _folds(job), reused=True)


def data_digest(job: Job, base: Base, sources: Sources) -> str:
    config = job.config
    return digest_of(
        {
            "format": FORMAT,
            "files": [(origin, file.name, sha256_file(file)) for origin, file in sources.files],
            "data": config.data.model_dump(mode="json", exclude={"train", "validation", "test"}),
            "folds": config.folds.model_dump(mode="json", exclude={"validation"}),
            "tokenizer": base.tokenizer_sha256,
            "max_length": config.model.max_length,
        }
    )


def _read(sources: Sources) -> pa.Table:
    """Every row of every file, checked, in the order of the files and their lines."""
    import ray.data

    items = [{"origin": origin, "file": str(file)} for origin, file in sources.files]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    dataset = dataset.map_batches(_read_files, batch_format="pyarrow", fn_kwargs={"columns": sources.columns})
    tables = [table.select(ROW.names).cast(ROW) for table in dataset.iter_batches(batch_format="pyarrow")]
    rows = concat(tables)
    # Blocks arrive in order under raysft's own session; a cluster's settings may say otherwise.
    place = {str(file): index for index, (_, file) in enumerate(sources.files)}
    order = np.lexsort((rows.column("line").to_numpy(), [place[each] for each in rows.column("source").to_pylist()]))
    return rows.take(order)


def _read_files(batch: pa.Table, columns: Columns) -> Iterator[pa.Table]:
    for item in batch.to_pylist():
        yield from tables_of(Path(item["file"]), item["origin"], columns)


def _tokenize(corpus: pa.Table, base: Base, max_length: int) -> tuple[pa.Table, int]:
    """Rows in schema TOKENS in the order of `corpus`, and how many texts were cut."""
    import ray.data

    columns = corpus.select(["row_id", "label_id", "text"])
    starts = range(0, max(1, columns.num_rows), TOKENIZE_ROWS)
    dataset = ray.data.from_arrow([columns.slice(start, TOKENIZE_ROWS) for start in starts])
    dataset = dataset.map_batches(
        _tokenize_batch, batch_format="pyarrow", fn_kwargs={"base": base, "max_length": max_length}
    )
    tables = list(dataset.iter_batches(batch_format="pyarrow", batch_size=None))
    rows = pa.concat_tables(tables).sort_by("row_id")
    if not rows.column("row_id").equals(corpus.column("row_id")):
        raise RuntimeError("tokenizing lost or repeated rows")
    return rows.select(TOKENS.names).cast(TOKENS), pc.sum(rows.column("cut")).as_py() or 0


def _tokenize_batch(batch: pa.Table, base: Base, max_length: int) -> pa.Table:
    ids, cut = encode(batch.column("text").to_pylist(), base, max_length)
    columns = [
        batch.column("row_id"),
        batch.column("label_id"),
        pa.array(ids, TOKENS.field("input_ids").type),
    ]
    return pa.table([*columns, pa.array(cut, pa.bool_())], names=[*TOKENS.names, "cut"])


def check_rows(job: Job, rows: pa.Table) -> tuple[str, ...]:
    """The label set; or the reason why nothing can be learnt from these rows."""
    kept = rows.filter(pc.is_null(rows.column("reason")))
    reasons = audit.rejected_by_reason(rows)
    rejected, total = rows.num_rows - kept.num_rows, rows.num_rows
    shown = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    train = kept.filter(pc.equal(kept.column("origin"), TRAIN))
    if not train.num_rows:
        raise DataError(
            f"no usable row: {total} read, all rejected ({shown or 'the files hold no rows'})", _first(rows)
        )
    ceiling = job.config.data.audit.max_rejected
    if rejected > ceiling * total:
        raise DataError(
            f"{rejected} of {total} rows rejected ({rejected / total:.1%}), more than data.audit.max_rejected "
            f"({ceiling}): {shown}",
            f"{_first(rows)} Mend them, or raise data.audit.max_rejected.",
        )
    labels = tuple(sorted(set(train.column("label").to_pylist())))
    if len(labels) < 2:
        raise DataError(
            f"{job.where('data', 'label')}: data.label: only one class: every row is labelled {labels[0]!r}",
            f"A classifier needs two or more; is {job.config.data.label!r} the label column?",
        )
    _check_unseen(kept, set(labels))
    return labels


def _check_unseen(kept: pa.Table, known: set[str]) -> None:
    held = kept.filter(pc.not_equal(kept.column("origin"), TRAIN))
    unseen = [row for row in held.to_pylist() if row["label"] not in known]
    if unseen:
        names = Counter(row["label"] for row in unseen)
        first = unseen[0]
        shown = ", ".join(f"{name!r} ({count} rows)" for name, count in names.most_common(5))
        raise DataError(
            f"{first['source']}:{first['line']}: label never seen in training: {shown}",
            "Add training rows with it, correct its spelling, or remove those rows.",
        )


def _first(rows: pa.Table) -> str:
    bad = rows.filter(pc.is_valid(rows.column("reason"))).slice(0, 1).to_pylist()
    return f"The first: {bad[0]['source']}:{bad[0]['line']}: {bad[0]['reason']}." if bad else ""


def _write(job: Job, base: Base, rows: pa.Table, labels: tuple[str, ...], folder: DataFolder) -> None:
    config = job.config
    rows = rows.add_column(0, "row_id", pa.array(np.arange(rows.num_rows), pa.int64()))
    kept = rows.filter(pc.is_null(rows.column("reason"))).drop_columns(["reason", "detail"])
    number = {label: index for index, label in enumerate(labels)}
    label_ids = np.array([number[label] for label in kept.column("label").to_pylist()], dtype=np.int32)
    pairs = audit.near_duplicates(kept.column("text").to_pylist(), config.data.audit.near_duplicates)
    fold, units = _assign(job, kept, label_ids, pairs)
    _require_parts(job, fold, units)
    kept = kept.append_column("label_id", pa.array(label_ids)).append_column("unit", pa.array(units, pa.int64()))

    pq.write_table(kept, folder.corpus)
    pq.write_table(rows.filter(pc.is_valid(rows.column("reason"))), folder.rejected)
    pq.write_table(pa.table({"row_id": kept.column("row_id"), "fold": pa.array(fold, pa.int8())}), folder.folds)
    tokens, cut = _tokenize(kept, base, config.model.max_length)
    sealed = pa.array(fold == folds.SEALED)
    write_shards(folder.tokens(sealed=True), tokens.filter(sealed))
    write_shards(folder.tokens(sealed=False), tokens.filter(pc.invert(sealed)))
    lengths = pc.list_value_length(tokens.column("input_ids")).to_numpy()
    write_json(folder.audit, summary(_folds(job), rows, kept, fold, pairs, lengths, cut))


def _assign(
    job: Job, kept: pa.Table, labels: np.ndarray[Any, Any], pairs: list[tuple[int, int]]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(fold, unit) per kept row. Rows of the person's own test and validation files keep the part they were given."""
    settings = job.config.folds
    origin = np.array(kept.column("origin").to_pylist())
    units = folds.units_of(kept.column("group").to_pylist(), [*pairs, *_same_text(kept)])
    fold = np.where(origin == TEST, folds.SEALED, folds.GIVEN)
    free = np.flatnonzero(origin == TRAIN)
    test = 0.0 if TEST in origin else float(settings.test)
    _, free_units = np.unique(units[free], return_inverse=True)
    fold[free] = folds.fold_per_row(labels[free], free_units, _folds(job), test, settings.seed)
    return fold, units


def _require_parts(job: Job, fold: np.ndarray[Any, Any], units: np.ndarray[Any, Any]) -> None:
    """Refuse a split in which an asked-for fold or the test part got no row."""
    data, settings = job.config.data, job.config.folds
    wanted = set(range(max(_folds(job), 1))) | ({folds.SEALED} if settings.test > 0 and not data.test else set())
    missing = wanted - set(fold.tolist())
    if missing:
        what = "test part" if folds.SEALED in missing else f"fold {min(missing)}"
        count = len(np.unique(units))
        raise DataError(
            f"the {what} would be empty: {len(fold)} rows fall into {count} units that must stay together"
            + (f" (data.group: {data.group})" if data.group else ""),
            f"{len(wanted)} parts need many more units; use fewer folds (folds.k), a finer data.group, or more rows.",
        )


def _folds(job: Job) -> int:
    """Folds to cut; none where the person brought validation rows, so that all of `train` trains."""
    return 0 if job.config.data.validation else job.config.folds.k


def _same_text(kept: pa.Table) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for row, text in enumerate(kept.column("text").to_pylist()):
        seen = first.setdefault(same_text(text), row)
        if seen != row:
            yield seen, row
