"""The journey of `raysft data`: sources -> rows -> findings -> folds -> corpus -> tokens -> audit.

Rows are read and tokenized in streams, by this process or by Ray Data; what needs the whole corpus at once (repeats,
folds) works on a few bytes a row. Everything is done in a folder aside, file by file; whoever is killed goes on there.
The result is committed under a digest of all it depends on, so the same data is never prepared twice. What was needed
to go on is removed once it is committed.
"""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from raysft.config import Job
from raysft.corpus.encode import TAGS, Encoding, tag_names
from raysft.corpus.rows import Meaning
from raysft.errors import DataError, JobFileError, NotAllowed
from raysft.events import Listener
from raysft.folds.assign import validation_fold
from raysft.preparation.address import FORMAT, Sources, data_digest, open_sources
from raysft.preparation.announce import announce
from raysft.preparation.answering import answering_of, require_words, words_of
from raysft.preparation.decide import decide
from raysft.preparation.engine import actors, each
from raysft.preparation.facts import audit_facts, with_lengths
from raysft.preparation.features import Wanted
from raysft.preparation.labels import kind_of
from raysft.preparation.prepared import Prepared
from raysft.preparation.processes import each_in_processes
from raysft.preparation.quarantine import Form
from raysft.preparation.rowstore import RowStore
from raysft.preparation.work import ReadSource, Shard, TokenizeShard
from raysft.preparation.write import write_corpus
from raysft.reading.sources import size_bytes
from raysft.session import ray_session
from raysft.storage.commit import (
    TornFolder,
    commit_folder,
    flush,
    read_json,
    sweep_aside,
    verified_folder,
    write_json,
    writing,
)
from raysft.storage.layout import DataFolder, Output
from raysft.storage.lease import lease
from raysft.storage.pretrained import Base

MANY_ROWS = 100_000  # from which child processes tokenize sooner than they cost; each starts in about 0.7 s
SMALL_BYTES = 64 * 2**20  # of text; below, one process is sooner done than a pool of actors has started


def prepare(job: Job, base: Base, output: Output, listener: Listener, sources: Sources | None = None) -> Prepared:
    """Read, audit, split and tokenize; or find that it was done before, or begun.

    Raises NotFound, NotAllowed, JobFileError, DataError (see its messages), OutputError (no space).
    """
    sources = sources or open_sources(job)
    digest = data_digest(job, base, sources)
    folder = output.data(digest)
    with writing(folder.path), lease(folder.lock, "this prepared data", wait_s=600):
        try:
            prepared = load_prepared(job, output, digest) or _build(job, base, sources, digest, output, listener)
        except (DataError, JobFileError):
            # Data that cannot be used leaves nothing behind; whatever else stops us can be gone on from.
            shutil.rmtree(folder.partial, ignore_errors=True)
            raise
        folder.refused(job.config.name).unlink(missing_ok=True)  # of data that could not be used, and now can
    announce(prepared.audit, [each.path for each in sources.files] if prepared.reused else None, listener)
    return prepared


def load_prepared(job: Job, output: Output, digest: str) -> Prepared | None:
    """What was prepared before under this digest, every file checked; None when there is nothing whole."""
    folder = output.data(digest)
    try:
        manifest = verified_folder(folder.path)
    except TornFolder:
        return None
    if folder.started.exists():  # the last that goes; whoever committed it was killed before that
        _tidy(folder)
    return _prepared(job, digest, folder, manifest, reused=True)


def _prepared(job: Job, digest: str, folder: DataFolder, facts: dict[str, Any], reused: bool) -> Prepared:
    settings = job.config.folds
    none = settings.validation == "none"
    return Prepared(
        digest=digest,
        folder=folder,
        labels=tuple(facts["labels"]),
        validation=None if none else validation_fold(settings.validation, facts["k"], settings.order),
        k=0 if none else facts["k"],
        order=settings.order,
        reused=reused,
    )


def _build(job: Job, base: Base, sources: Sources, digest: str, output: Output, listener: Listener) -> Prepared:
    """Do the work where it was left, and commit it."""
    target = output.data(digest)
    partial = DataFolder(target.partial)
    for place in (partial.rows, partial.tokens(sealed=True), partial.tokens(sealed=False)):
        place.mkdir(parents=True, exist_ok=True)
    _forget_outdated(job.config.name, digest, output)
    write_json(partial.started, {"name": job.config.name})
    pool, ray = _engine(job, sources)
    with ray:
        count = pool()
        if not partial.decided.exists():
            _decide_and_write(job, base, sources, partial, count, listener)
        facts = read_json(partial.decided)
        require_words(job, words_of(job.config, base, facts["labels"]))
        how = _encoding(job, base, facts["labels"])
        shards = _tokenize(partial, how, facts["shards"], facts["audit"]["rows"]["kept"], count, listener)
    write_json(partial.audit, with_lengths(facts["audit"], shards, how.max_length))
    for place in (partial.path, partial.tokens(sealed=True), partial.tokens(sealed=False)):
        sweep_aside(place)
    summary = {name: facts[name] for name in ("labels", "k")}
    manifest = {"format": FORMAT, **summary, **_manifest(base, how, shards)}
    commit_folder(partial.path, target.path, manifest, lambda file: _belongs(partial, file))
    _tidy(target)
    return _prepared(job, digest, target, summary, reused=False)


def _forget_outdated(name: str, digest: str, output: Output) -> None:
    """Remove what an interrupted preparation of this job left, once its data or settings have changed since."""
    for other in output.unfinished():
        started = DataFolder(other.partial).started
        if other.path.name == digest or not started.exists() or read_json(started)["name"] != name:
            continue
        with suppress(NotAllowed), lease(other.lock, "this prepared data"):
            shutil.rmtree(other.partial, ignore_errors=True)


def _engine(job: Job, sources: Sources) -> tuple[Any, AbstractContextManager[None]]:
    """(number of actors once inside, the session to be inside of)."""
    wanted = job.config.data.engine
    size = sum(size_bytes(each) for each in sources.files)
    if wanted == "process" or (wanted == "auto" and size < SMALL_BYTES):
        return (lambda: 0), nullcontext()
    return actors, ray_session()


def _decide_and_write(
    job: Job, base: Base, sources: Sources, partial: DataFolder, pool: int, listener: Listener
) -> None:
    """Everything up to the corpus files; `decided` is written last."""
    store = _read(job, base, sources, partial, pool, listener)
    decided = decide(job, base, store, partial, listener)
    if data_digest(job, base, sources) != partial.path.with_suffix("").name:
        raise DataError(
            "a data file was changed while it was read", "Type the same command again once nothing writes to it."
        )
    form = Form(sources.columns, job.config.data.label_separator if job.config.data.multi_label else None)
    shards = write_corpus(store, decided.books, decided.placed, partial, form)
    for file in (partial.corpus(sealed=False), partial.corpus(sealed=True), partial.rejected, partial.findings):
        flush(file)
    facts = audit_facts(job, sources.columns, store, decided)
    write_json(
        partial.decided,
        {
            "labels": decided.labels.names,
            "k": decided.k,
            "shards": {"open": shards[False], "test": shards[True]},
            "audit": facts,
        },
    )


def _read(job: Job, base: Base, sources: Sources, partial: DataFolder, pool: int, listener: Listener) -> RowStore:
    """Every row of every source, checked, with what it is known by; in the order of the sources and their lines."""
    data = job.config.data
    meaning = Meaning(job.config.task, data.multi_label, data.label_separator, answering_of(job.config, base))
    work = ReadSource(partial.rows, sources.columns, meaning, Wanted.of(data.audit))
    items = list(enumerate(sources.files))
    rows = 0
    for done, facts in enumerate(each(work, items, pool if len(items) > 1 else 0), start=1):
        rows += facts["rows"]
        listener.progress(done, len(items), f"files read, {rows:,} rows")
    return RowStore.open(partial.rows, len(items))


def _encoding(job: Job, base: Base, labels: list[str]) -> Encoding:
    kind, answering = kind_of(job.config), answering_of(job.config, base)
    return Encoding(
        kind=kind,
        tokenizer=base.folder / "tokenizer.json",
        max_length=job.config.model.max_length,
        labels=tag_names(labels) if kind == TAGS else tuple(labels),
        answering=answering,
        words=words_of(job.config, base, labels),
    )


def _tokenize(
    partial: DataFolder, how: Encoding, groups: dict[str, int], rows: int, pool: int, listener: Listener
) -> list[tuple[Shard, dict[str, Any]]]:
    """Every row group of the corpus as a shard of tokens, with its facts."""
    shards = [
        Shard(sealed, number) for sealed, name in ((False, "open"), (True, "test")) for number in range(groups[name])
    ]
    done: list[tuple[Shard, dict[str, Any]]] = []
    work = TokenizeShard(partial, how)
    cores = min(len(os.sched_getaffinity(0)), len(shards))
    shared = not pool and cores > 1 and rows >= MANY_ROWS
    for facts in each_in_processes(work, shards, cores) if shared else each(work, shards, pool):
        done.append((shards[len(done)], facts))
        listener.progress(len(done), len(shards), "shards tokenized")
    return done


def _manifest(base: Base, how: Encoding, shards: list[tuple[Shard, dict[str, Any]]]) -> dict[str, Any]:
    written = how.answering or how.words
    return {
        "tokenizer_sha256": base.tokenizer_sha256,
        "template": written.template.digest if written else None,
        "max_length": how.max_length,
        "shards": [
            {"sealed": shard.sealed, "number": shard.number, **{k: facts[k] for k in ("rows", "tokens", "sha256")}}
            for shard, facts in shards
        ],
    }


def _belongs(folder: DataFolder, file: Path) -> bool:
    """Whether a file is part of the result, and not what is needed to go on after a crash."""
    if file.parent in {folder.tokens(sealed=True), folder.tokens(sealed=False)}:
        return file.suffix != ".json"  # the facts of a shard
    return {folder.rows, folder.points, folder.decided, folder.started}.isdisjoint({file, *file.parents})


def _tidy(folder: DataFolder) -> None:
    """Remove from a committed folder what does not belong to it; `started` last, by which the next one sees the rest.

    It harms nobody, so a folder that may not be written stays as it is.
    """
    with suppress(OSError):
        for place in filter(Path.exists, (folder.rows, folder.points)):
            shutil.rmtree(place)
        for sealed in (False, True):
            for facts in folder.tokens(sealed).glob("*.json"):
                facts.unlink(missing_ok=True)
        for left in (folder.decided, folder.started):
            left.unlink(missing_ok=True)
