"""Scoring a finished model on labelled files that were not part of its job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysft.config import Job
from raysft.corpus.answers import Answering
from raysft.corpus.forms import with_forms
from raysft.corpus.rows import Meaning, canonical, concat
from raysft.corpus.targets import labels_of, spans_of
from raysft.corpus.template import template_of
from raysft.corpus.tokens import from_lists
from raysft.errors import DataError
from raysft.evaluation.answers import AnswerScorer
from raysft.evaluation.evaluation import Evaluation
from raysft.evaluation.tagger import Tagger
from raysft.evaluation.tags import count_tags, score_tags
from raysft.events import Listener
from raysft.prediction.artifact import Artifact
from raysft.prediction.recorded import FORMS, NAMES, recorded_columns
from raysft.prediction.tally import Tally, error_of
from raysft.reading.columns import resolve_columns
from raysft.reading.records import header, read_batches
from raysft.reading.sources import Source, require_encoding, sources_of


def evaluate_files(folder: Path, files: Sequence[str], job: Job, listener: Listener) -> Evaluation:
    """Scores on other labelled files, which are read as the job says and count as the test part.

    Raises NotFound, NotAllowed, OutputError, JobFileError, DataError (no row, more rows rejected than
    data.audit.max_rejected, a label that the model does not know).
    """
    artifact = Artifact.open(folder, job.config.generation)
    recorded = recorded_columns(folder, job)
    answering = _answering(artifact, job)
    rows = concat(_labelled(source, job, recorded, answering) for source in _sources(files, job))
    kept = _kept(rows, job, listener)
    if answering is not None:
        return _evaluate_answers(folder, kept, answering, job, listener)
    if artifact.tagger is not None:
        return _evaluate_tags(artifact.tagger, kept)
    several = artifact.scorer.threshold is not None
    kept = kept.append_column("label_id", _label_ids(kept, artifact.labels, several))
    kept = kept.append_column("unit", pa.array(_units(kept)))
    scores = artifact.scorer.score(kept, artifact.logits(kept.column("text").to_pylist()))
    return Evaluation(artifact.labels, scores, None, {}, "test", artifact.scorer.threshold)


def _answering(artifact: Artifact, job: Job) -> Answering | None:
    """How the rows of a model that writes answers become tokens, as in its training; None for other models."""
    if job.config.task != "generation":
        return None
    settings, folder = job.config.generation, artifact.folder
    return Answering(
        template_of(folder), folder / "tokenizer.json", artifact.max_length, settings.learn, settings.long_prompts
    )


def _evaluate_answers(folder: Path, kept: pa.Table, answering: Answering, job: Job, listener: Listener) -> Evaluation:
    kept = kept.append_column("unit", pa.array(_units(kept)))
    kept = kept.append_column("row_id", pa.array(range(kept.num_rows), pa.int64()))
    ids, marks, _ = answering.encode(kept.column("record").to_pylist())
    scorer = AnswerScorer(folder, job.config.generation, job.config.train.seed, listener)
    lines = scorer.rows(kept, from_lists(ids, [-1] * len(ids), marks), "test")
    return Evaluation([], scorer.score(kept, lines), None, {}, "test")


def _evaluate_tags(tagger: Tagger, kept: pa.Table) -> Evaluation:
    kept = kept.append_column("unit", pa.array(_units(kept)))
    _require_known(kept, lambda label: [name for _, _, name in spans_of(label)], tagger.types)
    found = tagger.tag(kept.column("text").to_pylist())
    scores = score_tags(tagger, kept, found, count_tags(tagger, kept, found))
    return Evaluation(list(tagger.types), scores, None, {}, "test")


def _sources(files: Sequence[str], job: Job) -> list[Source]:
    data = job.config.data
    require_encoding(data.encoding, job.where("data", "encoding"))
    found = (sources_of(file, Path.cwd(), "test", data.format, data.encoding) for file in files)
    return list(dict.fromkeys(source for each in found for source in each))


def _labelled(source: Source, job: Job, recorded: dict[str, str], answering: Answering | None) -> pa.Table:
    """All rows of one file by the columns of the job; its group where the file has it, its time and split never.

    recorded: how the corpus was read for training, see recorded_columns. What the job does not say is read alike, and
    as the file itself tells only where it has no such column or nothing is recorded.
    """
    data, names = job.config.data, header(source)
    group = data.group if data.group in names else None
    alike = {role: name for role in NAMES if getattr(data, role) is None and (name := recorded.get(role)) in names}
    data = data.model_copy(update={"group": group, "time": None, "split": None, **alike})
    columns = resolve_columns(data, job.config.task, [source], job.problem)
    if recorded.keys().isdisjoint(FORMS):
        columns = with_forms(columns, data, job.config.task, [source], job.problem)
    columns = replace(
        columns, separator=recorded.get("separator", columns.separator), tags=recorded.get("tags", columns.tags)
    )
    meaning = Meaning(job.config.task, data.multi_label, data.label_separator, answering)
    return concat(canonical(batch, source, columns, meaning) for batch in read_batches(source, columns))


def _kept(rows: pa.Table, job: Job, listener: Listener) -> pa.Table:
    """The usable rows, once it is said how many are not, why, and that they are not too many."""
    if not rows.num_rows:
        raise DataError("no row in the files", "They need a text and a label in each row.")
    tally = _tally(rows)
    kept = tally.read - tally.left_out
    why = f" ({tally.reasons_said()})" if tally.left_out else ""
    listener.note(f"rows: {tally.read} read = {kept} kept + {tally.left_out} rejected{why}")
    _check_ceiling(tally, job)
    if tally.left_out:
        listener.warn(f"{tally.left_out} of {tally.read} rows are not scored; the first: {tally.first}")
    return rows.filter(pc.is_null(rows.column("reason")))


def _tally(rows: pa.Table) -> Tally:
    tally = Tally(rows.num_rows)
    left = rows.filter(pc.is_valid(rows.column("reason"))).select(["source", "line", "reason", "detail"])
    for row in left.to_pylist():
        tally.leave_out(f"{row['source']}:{row['line']}", error_of(row["reason"], row["detail"]), row["reason"])
    return tally


def _check_ceiling(tally: Tally, job: Job) -> None:
    """Raise DataError when more rows were rejected than the job allows: a score over the rest would mislead."""
    ceiling = job.config.data.audit.max_rejected
    share = tally.left_out / tally.read
    if share > ceiling:
        raise DataError(
            f"{tally.left_out} of {tally.read} rows rejected ({share:.1%}), more than data.audit.max_rejected "
            f"({ceiling}): {tally.reasons_said()}",
            f"The first: {tally.first}. Mend the rows; or say how the files are read with --set data.encoding=NAME or "
            "--set data.format=NAME; or raise the limit with --set data.audit.max_rejected=20%.",
        )


def _label_ids(kept: pa.Table, labels: Sequence[str], several: bool) -> pa.Array:
    """The number of each row's label; -1 where it may have several. Raises DataError for the first that the model does
    not know."""
    number = {label: index for index, label in enumerate(labels)}
    _require_known(kept, labels_of if several else lambda label: (label,), labels)
    return pa.array([-1 if several else number[label] for label in kept.column("label").to_pylist()], pa.int32())


def _require_known(kept: pa.Table, names: Callable[[str], Iterable[str]], labels: Sequence[str]) -> None:
    """Raise DataError for the first label that the model does not know. names: those in the label of a row."""
    known = set(labels)
    for index, label in enumerate(kept.column("label").to_pylist()):
        for name in names(label):
            if name not in known:
                row = kept.slice(index, 1).to_pylist()[0]
                raise DataError(
                    f"{row['source']}:{row['line']}: label {name!r} is not one of the model's",
                    f"The model knows: {', '.join(labels[:20])}.",
                )


def _units(rows: pa.Table) -> np.ndarray[Any, Any]:
    """Rows of one group belong together; each of the others stands for itself."""
    groups = rows.column("group").to_pylist()
    return np.unique([group or f"\0{index}" for index, group in enumerate(groups)], return_inverse=True)[1]
