"""The files that a job needs where it will run: the job file, and what it names beside it. Nothing else is sent."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from raysft.cluster.secrets import is_secret_file
from raysft.config import Job
from raysft.config.values import TwoFiles
from raysft.errors import NotFound, UsageError
from raysft.jobs.package import Files, Package, is_on, packed, plain
from raysft.preparation.address import open_sources
from raysft.reading.places import Local, full_path, is_uri, local_matches
from raysft.reading.sources import Source, parts_of, sources_of
from raysft.storage.layout import home_path
from raysft.storage.pretrained import local_base

PARTS = ("train", "validation", "test")
SAYS = {"--text", "--column", "--format", "--encoding", "--output", "--set"}  # options whose words name no file to send


def package_of(job: Job, arguments: Sequence[str] = (), storage: str | None = None) -> Package:
    """What a job needs beside what lies on the cluster's storage. arguments: of the command; files that they name too.

    Raises UsageError (an absolute path that the cluster has not, too much to send), NotAllowed (a file that holds
    keys), and what finding the data raises.
    """
    needed: Files = {plain(job.path): job.path}
    for key, text in [*_written(job), *_models(job)]:
        if _is_absolute(text):
            _refuse_elsewhere(job, key, text, storage)
    for source in _sources(job, storage):
        for part in parts_of(source):
            if isinstance(part, Local) and part.kind() == "file" and not _is_there(job, source.origin, part, storage):
                needed[plain(Path(part.path))] = Path(part.path)
    paths = [text for _, text in _written(job) if not _is_absolute(text)]
    for _, name in _models(job):
        if not _is_absolute(name) and (files := _model(job, name)):
            needed |= files
            paths.append(name)
    for _, word in _split(arguments):
        needed |= _named(word, storage)
    return packed(needed, [folder for text in paths for folder in _passed(job.folder, text)])


def refuse_elsewhere(job: Job, storage: str) -> None:
    """Raise UsageError where a job on the cluster's storage names a file that is not there."""
    for key, text in _written(job):
        if not is_on(Path(full_path(text, job.folder)), storage):
            _refuse_elsewhere(job, key, full_path(text, job.folder), storage)
    for key, name in _models(job):
        folder = local_base(name, job.folder)
        if folder is not None and not is_on(folder, storage):
            _refuse_elsewhere(job, key, str(folder), storage)


def can_be_measured(job: Job, storage: str | None) -> bool:
    """Whether all data and models of the job can be seen from this machine, too."""
    if storage is None or Path(storage).is_dir():
        return True
    return not any(_is_absolute(text) for _, text in [*_written(job), *_models(job)])


def refuse_missing(arguments: Sequence[str]) -> None:
    """Raise NotFound where a command names a file that is not there, and will not be where it runs."""
    for _, word in _split(arguments):
        if word and not home_path(word).is_absolute() and not _named(word, None):
            raise NotFound(f"{word}: no such file", "Name it relative to where you are.")


def sent_arguments(arguments: Sequence[str], package: Package | None, storage: str | None) -> list[str]:
    """The words of a command with the files that they name as the cluster has them: in the package, or on the storage.

    Raises UsageError for a file that is in neither.
    """

    def there(word: str) -> str:
        path = home_path(word)
        if not word or path.is_absolute() or not _named(word, None):
            return word
        if package is not None:
            return package.within(path)
        if not is_on(path, storage):
            raise UsageError(
                f"{word} is not on the storage of the cluster ({storage})", "Put it there, and name it so."
            )
        return str(plain(path))

    return [before + there(word) for before, word in _split(arguments)]


def _split(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each word as (what is no name of a file, what may be one)."""
    for word, before in zip(arguments, ["", *arguments], strict=False):
        if word.startswith("--data="):
            yield "--data=", word.removeprefix("--data=")
        elif before in SAYS or word.startswith("-") or is_uri(word):
            yield word, ""
        else:
            yield "", word


def _written(job: Job) -> Iterator[tuple[str, str]]:
    """(key, text) of every path of this machine under data, as the job file or `--set` has it."""
    data = job.values.get("data")
    for part in PARTS:
        for text in _texts(data.get(part) if isinstance(data, dict) else None):
            if not is_uri(text):
                yield f"data.{part}", text


def _models(job: Job) -> Iterator[tuple[str, str]]:
    """(key, text) of what may be the folder of a model or a tokenizer."""
    init = job.config.model.init
    if init is None:
        yield "model.base", job.config.model.base
    elif init.tokenizer is not None:
        yield "model.init.tokenizer", init.tokenizer


def _texts(written: object) -> Iterable[str]:
    if isinstance(written, str):
        yield written
    elif isinstance(written, dict):
        yield from (text for each in written.values() for text in _texts(each))
    elif isinstance(written, list):
        yield from (text for each in written for text in _texts(each))


def _sources(job: Job, storage: str | None) -> Iterable[Source]:
    """The data, checked down to its columns; on a storage that this machine has not, what is to be sent of it alone."""
    if can_be_measured(job, storage):
        return open_sources(job).files
    data, found = job.config.data, list[Source]()
    for part in PARTS:
        for entry in getattr(data, part) or ():
            # Of two parallel files that lie apart each is sent or not by itself.
            apart = list(entry) if isinstance(entry, TwoFiles) else [entry]
            sent = [text for text in apart if not _is_absolute(text) and not is_uri(text)]
            whole = [entry] if len(sent) == len(apart) else sent
            before = f"{job.where('data', part)}: data.{part}: "
            for each in whole:
                found += sources_of(each, job.folder, part, data.format, data.encoding, before, labelled=False)
    return found


def _passed(folder: Path, text: str) -> Iterator[Path]:
    """The folders that a relative path leads through, up and down; not below a pattern, where files tell."""
    for part in Path(full_path(text, Path())).parts[:-1]:
        if glob.has_magic(part):
            return
        folder = plain(folder / part)
        yield folder


def _is_there(job: Job, origin: str, part: Local, storage: str | None) -> bool:
    """Whether the cluster finds this file under the absolute path that the job file has for it."""
    absolute = any(_is_absolute(text) for key, text in _written(job) if key == f"data.{origin}")
    return absolute and is_on(Path(part.path), storage)


def _is_absolute(text: str) -> bool:
    return Path(full_path(text, Path())).is_absolute()


def _refuse_elsewhere(job: Job, key: str, text: str, storage: str | None) -> None:
    """Raise UsageError for an absolute path that means nothing on the cluster; `~` is another folder there."""
    if is_on(Path(full_path(text, Path())), storage) and not text.startswith("~"):
        return
    there = f"{storage} is the folder that the cluster sees too" if storage else "the cluster sees none of its folders"
    raise UsageError(
        f"{job.where(*key.split('.'))}: {key}: {text} is an absolute path of this machine; {there}",
        "Name it relative to the job file, then it is sent along; or put it on the cluster's storage.",
    )


def _model(job: Job, name: str) -> Files:
    """The files of a model's folder, without what is hidden or holds keys; nothing of a hub id.

    They are to lie where the name leads from the job file, wherever they were found.
    """
    folder = local_base(name, job.folder)
    if folder is None:
        return {}
    within = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    shown = [path for path in within if not is_secret_file(str(path)) and not _is_hidden(path)]
    return {plain(job.folder / home_path(name) / path): folder / path for path in shown}


def _named(word: str, storage: str | None) -> Files:
    """What a word of the command names: a file, a saved dataset, or the matches of a pattern; nothing of other words.

    Raises UsageError for an absolute path that the cluster has not.
    """
    if not word:
        return {}
    path = home_path(word)
    matches = [path] if path.is_file() else [Path(each.shown) for each in local_matches(word, Path.cwd())]
    if path.is_absolute():
        if matches and not is_on(path, storage):
            raise UsageError(
                f"{word} is an absolute path of this machine, which the cluster has not",
                "Name it relative to where you are, then it is sent along; or put it on the cluster's storage.",
            )
        return {}
    files = [file for each in matches for file in (each.rglob("*") if each.is_dir() else [each]) if file.is_file()]
    return {plain(file): file for file in files}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
