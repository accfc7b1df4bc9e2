"""`raysft init`: from a file of labelled rows to a job file that runs; without a file, from a corpus that ships."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysft.config.template import chat_text, job_text, printable, run_name, scalar
from raysft.corpus.guess import Guess, guess
from raysft.errors import NotFound, UsageError
from raysft.storage.commit import write_bytes, writing

# task -> (the job file in jobs/ and the folder beside it, the file that its columns are told from)
SHIPPED = {
    "classification": ("quickstart", "messages.csv"),
    "token-classification": ("tokens", "messages.jsonl"),
    "generation": ("chat", "messages.jsonl"),
}


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


def init(data: str | Path | None = None, path: str | Path | None = None, task: str | None = None) -> InitResult:
    """Guess the columns of a data file and write a job file beside it, or at `path`. task: None: guess that too.

    data: None: the corpus that ships for the task is copied beside the job file, which is written here or at `path`.
    Raises NotFound, DataError (nothing looks like text or label), UsageError (the job file exists or is no .yaml,
    another corpus stands where the shipped one goes, neither data nor task), OutputError.
    """
    if data is None:
        return _of_shipped(None if path is None else Path(path), task)
    data = Path(data)
    found = guess(data, task)
    target = Path(path) if path else data.with_suffix(".yaml")
    _refuse_existing(target)
    # Data paths are relative to the job file, wherever the command is typed.
    train = os.path.relpath(data.absolute(), target.absolute().parent)
    with writing(target):
        write_bytes(target, _job_of(target, train, found).encode())
    return InitResult(target, found)


def _job_of(target: Path, train: str, found: Guess) -> str:
    if found.task == "generation":
        columns = {"text": found.text, "label": found.label or None, "context": found.context}
        return chat_text(target, train, columns, found.group, (found.conversation, found.answer))
    text, label = (None, None) if found.unnamed else (found.text, found.label)
    return job_text(target, train, text, label, found.group, task=found.task)


def _of_shipped(path: Path | None, task: str | None) -> InitResult:
    """Copy the job file and the corpus of a task, the corpus first, so that a job file never lacks its data."""
    if task not in SHIPPED:
        raise UsageError(
            f"no data file was named, and no corpus ships for task {task}" if task else "no data file was named",
            f"Name a file, or a task with a corpus that ships ({', '.join(SHIPPED)}; --task classes, tokens or chat).",
        )
    if path is not None and path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--job {path}: a job file ends in .yaml", "Name it so: --job FOLDER/FILE.yaml.")
    name, rows = SHIPPED[task]
    folder = shipped_jobs()
    target = path or Path(f"{name}.yaml")
    _refuse_existing(target)
    corpus = target.parent / name
    with writing(target):
        _copy(folder / name, corpus)
        write_bytes(target, _renamed((folder / f"{name}.yaml").read_text(encoding="utf-8"), name, target).encode())
    return InitResult(target, guess(corpus / rows, task))


def shipped_jobs() -> Path:
    """The folder jobs/: in an installed package a copy within it (setup.py), in a checkout beside it."""
    package = Path(__file__).parent
    for folder in (package / "jobs", package.parent / "jobs"):
        if all((folder / f"{name}.yaml").is_file() for name, _ in SHIPPED.values()):
            return folder
    raise NotFound("the corpora that ship with raysft are not there", "Install it again, or name a file of your own.")


def _renamed(job: str, name: str, target: Path) -> str:
    """The job file as it reads where it now stands."""
    lines = job.replace(f"jobs/{name}.yaml", printable(target)).split("\n")
    return "\n".join(f"name: {scalar(run_name(target.stem))}" if line == f"name: {name}" else line for line in lines)


def _copy(corpus: Path, target: Path) -> None:
    """Copy every file; one that is there must be the same, and no other may be there, since jobs name *.csv."""
    files = sorted(file for file in corpus.iterdir() if file.is_file())
    there = {file.name: file for file in target.iterdir()} if target.is_dir() else {}
    for file in files:
        if file.name in there and there[file.name].read_bytes() == file.read_bytes():
            del there[file.name]
    if there or (target.exists() and not target.is_dir()):
        raise UsageError(
            f"{next(iter(there.values()), target)} is not of the corpus that goes there; it is left as it is",
            "Write the job file into another folder, with --job FOLDER/FILE.yaml.",
        )
    for file in files:
        if not (target / file.name).exists():
            write_bytes(target / file.name, file.read_bytes())


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UsageError(f"{target} exists; it is left as it is", "Name another with --job FILE.yaml.")
