"""Prepare a small corpus in this process, as `raysft data` does, and read back what became of every row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raysft.config import Job, load_job
from raysft.events import Silent
from raysft.preparation.address import data_digest, open_sources
from raysft.preparation.build import prepare
from raysft.preparation.prepared import Prepared
from raysft.storage.layout import open_output
from raysft.storage.pretrained import resolve_base
from tests.support.jobs import write_job

QUIET = {"wrong_labels": "off"}  # embedding takes longer than everything else


def job_of(folder: Path, base: Path, rows: list[dict[str, str]] | None = None, **sections: Any) -> Job:
    """A job in `folder` that is prepared in this process. sections: as write_job takes them."""
    data = {"engine": "process", **sections.pop("data", {})}
    data["audit"] = {**QUIET, **data.get("audit", {})}
    return load_job(write_job(folder, base, rows, data=data, **sections))


def run(job: Job) -> Prepared:
    """Prepare, or find it prepared."""
    return prepare(job, resolve_base(job.config.model.base), open_output(job.config.output), Silent())


def digest(job: Job) -> str:
    return data_digest(job, resolve_base(job.config.model.base), open_sources(job))


def kept(prepared: Prepared) -> list[dict[str, Any]]:
    """Every row of the corpus, by row_id."""
    files = (prepared.folder.corpus(sealed) for sealed in (False, True))
    return sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=lambda row: row["row_id"])


def left_out(prepared: Prepared) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(prepared.folder.rejected).to_pylist()
    return found


def quarantine(prepared: Prepared) -> list[dict[str, str]]:
    """The lines of quarantine.csv; none where there is no such file."""
    if not prepared.folder.quarantine.exists():
        return []
    with prepared.folder.quarantine.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fold_of(prepared: Prepared) -> dict[str, int]:
    """text -> fold of every kept row."""
    return {row["text"]: row["fold"] for row in kept(prepared)}


def finding(prepared: Prepared, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in prepared.audit["findings"] if each["name"] == name)
    return found


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
