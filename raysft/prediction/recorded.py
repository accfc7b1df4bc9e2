"""From which columns and in which form a model's corpus was read: what its run wrote down, and never guessed again.

A file that is scored may hold other columns and other marks than the corpus, and would be guessed to mean something
else; its columns and cells mean what they meant when the model was trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysft.config import Job
from raysft.storage.commit import read_json
from raysft.storage.layout import RunFolder, open_output

NAMES = ("text", "label")  # of columns
FORMS = ("separator", "tags")  # as in raysft.reading.columns.Columns


def recorded_columns(folder: Path, job: Job) -> dict[str, str]:
    """Field of Columns -> its value, for NAMES and FORMS, of the model in `folder`, where a record of its corpus is
    found and tells.

    A corpus of lists, or without a row of two labels, never told what stands between labels.
    Raises OutputError where the job's output cannot be used.
    """
    columns = next(_records(folder, job), {})
    return {name: columns[name] for name in (*NAMES, *FORMS) if columns.get(name) is not None}


def _records(folder: Path, job: Job) -> Iterator[dict[str, Any]]:
    """`columns` of the audit of its prepared data, and of the result of its run: either may have been removed."""
    facts = folder / "raysft.json"
    if not facts.is_file():
        return
    digest = read_json(facts).get("data")
    if digest is None:
        return
    audit, result = open_output(job.config.output).data(digest).audit, RunFolder(folder.absolute().parent).result
    if audit.is_file():
        yield read_json(audit).get("columns", {})
    if result.is_file():
        found = read_json(result)
        if Path(found.get("data", "")).name == digest:  # and not another's, to which the model was only copied
            yield found.get("columns", {})
