"""`raysft init`: from a file of labelled rows to a job file that runs."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysft.config.template import job_text
from raysft.corpus.guess import Guess, guess
from raysft.errors import UsageError
from raysft.storage.commit import write_bytes, writing


@dataclass(frozen=True)
class InitResult:
    """The job file written, and what it was guessed from."""

    path: Path
    guess: Guess

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "raysft.init/1",
            "path": str(self.path),
            **asdict(self.guess),
            "file": str(self.guess.file),
        }


def init(data: str | Path, path: str | Path | None = None, task: str | None = None) -> InitResult:
    """Guess the columns of a data file and write a job file beside it, or at `path`. task: None: guess that too.

    Raises NotFound, DataError (nothing looks like text or label), UsageError (the job file exists).
    """
    data = Path(data)
    found = guess(data, task)
    target = Path(path) if path else data.with_suffix(".yaml")
    if target.exists():
        raise UsageError(f"{target} exists; it is left as it is", "Name another with --job FILE.yaml.")
    # Data paths are relative to the job file, wherever the command is typed.
    train = os.path.relpath(data.absolute(), target.absolute().parent)
    with writing(target):
        text, label = (None, None) if found.unnamed else (found.text, found.label)
        write_bytes(target, job_text(target, train, text, label, found.group, task=found.task).encode())
    return InitResult(target, found)
