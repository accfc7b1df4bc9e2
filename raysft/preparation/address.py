"""What data is prepared under which address: the files of a job, and a digest of everything the result depends on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from unicodedata import unidata_version

from raysft.config import Job
from raysft.config.sections import LANGUAGE_TASKS
from raysft.corpus.forms import with_forms
from raysft.folds.assign import validation_problem
from raysft.preparation.answering import answering_of, words_of
from raysft.reading.columns import Columns, resolve_columns
from raysft.reading.sources import Source, find_sources, fingerprint
from raysft.storage.commit import digest_of
from raysft.storage.pretrained import Base

FORMAT = 8  # of the prepared folder; a change makes old preparations unused, never misread
# Libraries whose next version may find or cut something else.
LIBRARIES = (
    *("pyarrow", "numpy", "tokenizers", "jinja2"),  # rows and tokens
    *("rensa", "scikit-learn", "scipy", "phonenumbers", "py3langid", "torch", "transformers"),  # findings
)


@dataclass(frozen=True)
class Sources:
    """The files of each part and the columns that count, checked against their headers."""

    files: tuple[Source, ...]
    columns: Columns


def open_sources(job: Job) -> Sources:
    """Find the files of a job and the columns in them. Raises NotFound, NotAllowed, DataError, JobFileError."""
    data = job.config.data
    problem = validation_problem(job.config.folds.validation, job.config.folds.k, job.config.folds.order)
    if problem:
        raise job.problem("folds.validation", problem)
    if job.config.folds.order == "time" and data.time is None:
        raise job.problem("folds.order", "time needs data.time, the column with a date or number")
    labelled = job.config.task not in LANGUAGE_TASKS
    files = find_sources(data, job.folder, lambda key: job.where(*key.split(".")), labelled)
    columns = resolve_columns(data, job.config.task, files, job.problem)
    return Sources(tuple(files), with_forms(columns, data, job.config.task, files, job.problem))


def data_digest(job: Job, base: Base, sources: Sources) -> str:
    """The address of everything that the prepared data depends on: contents, settings, tokenizer, template, libraries.

    The files' contents and names count, not their folder: the same data elsewhere is not prepared again.
    """
    config, written = job.config, answering_of(job.config, base) or words_of(job.config, base)
    looks_for_wrong_labels = config.data.audit.wrong_labels != "off" and config.task == "classification"
    return digest_of(
        {
            "format": FORMAT,
            "libraries": {name: version(name) for name in LIBRARIES} | {"unicode": unidata_version},
            "task": config.task,
            "files": [(each.origin, Path(each.path).name, each.format, fingerprint(each)) for each in sources.files],
            "columns": sources.columns.__dict__,
            "data": config.data.model_dump(mode="json", exclude={"train", "validation", "test", "engine"}),
            "folds": config.folds.model_dump(mode="json", exclude={"validation"}),
            "tokenizer": base.tokenizer_sha256,
            "answers": None if written is None else written.digest,
            "max_length": config.model.max_length,
            "probe": base.identity if looks_for_wrong_labels else None,
        }
    )
