"""The page of a sweep."""

from __future__ import annotations

from raysft.storage.commit import write_bytes
from raysft.storage.layout import SweepFolder
from raysft.tuning.outcome import SweepResult


def write_sweep_report(result: SweepResult, folder: SweepFolder, created: str, version: str) -> None:
    """report.html."""
    write_bytes(folder.report, b"")
