"""What a job starts from: a pretrained base, or one that its file describes (model.init), which is built here once.

A described base is a folder like any other, stored below the output under a digest of all that its bytes depend on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysft.config import Job
from raysft.config.model import InitSection
from raysft.config.sections import JobConfig
from raysft.corpus.messages import turns_of
from raysft.corpus.rows import TRAIN, Meaning, canonical
from raysft.corpus.vocabulary import DECODER, ENCODER, learn_tokenizer
from raysft.events import Listener, Silent
from raysft.model.scratch import IDS, model_config, write_model
from raysft.preparation.address import Sources, open_sources
from raysft.reading.records import read_batches
from raysft.reading.sources import fingerprint
from raysft.storage.commit import committed_folder, digest_of, is_whole, sha256_file, sweep_aside, writing
from raysft.storage.layout import BaseFolder, open_output
from raysft.storage.lease import lease
from raysft.storage.pretrained import TOKENIZER_KEY, Base, resolve_base, resolve_tokenizer

FROM_SCRATCH = " from scratch"  # how the name of a base ends that was built here
FORMAT = 2  # of the folder; a change makes older ones unused
WEIGHTS_BY = ("torch", "transformers")  # whose next version may draw or name weights otherwise
TEXTS_BY = ("pyarrow", "tokenizers")  # or learn another tokenizer
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
COLUMNS = (
    "text",
    "label",
    "context",
    "group",
    "time",
    "times",
    "split",
    "separator",
    "tags",
)  # that decide which rows can be used
READ_AS = {"encoding", "multi_label", "label_separator"}
FOR_TASKS = {
    "llama": ("causal-lm", "generation", "classification"),
    "gpt2": ("causal-lm", "generation", "classification"),
    "bert": ("masked-lm", "classification", "token-classification"),
}
WAIT_S = 3600.0  # for another process that builds the same base


def base_of(job: Job, listener: Listener | None = None) -> Base:
    """The base that a job names, or the one it describes, built where it is not there yet.

    Raises what resolve_base raises; of a described one JobFileError, OutputError, and what reading the training texts
    raises.
    """
    model = job.config.model
    if model.init is None:
        return resolve_base(model.base, model.revision, job.folder)
    refuse_init(job, model.init)
    tokenizer = None if model.init.tokenizer is None else resolve_tokenizer(model.init.tokenizer, job.folder)
    sources = open_sources(job)
    folder = open_output(job.config.output).base(init_digest(job.config, sources, tokenizer))
    if not is_whole(folder.path):
        _build(job, model.init, sources, tokenizer, folder, listener or Silent())
    return replace(resolve_base(str(folder.path)), name=name_of(model.init))


def name_of(init: InitSection) -> str:
    """What people read where a base has its name."""
    return f"{init.architecture} {init.layers}x{init.hidden}{FROM_SCRATCH}"


def refuse_init(job: Job, init: InitSection) -> None:
    """Raise JobFileError for what this task, or the length of its texts, makes impossible."""
    task, longest = job.config.task, job.config.model.max_length
    if task not in FOR_TASKS[init.architecture]:
        fitting = " or ".join(name for name, tasks in FOR_TASKS.items() if task in tasks)
        kind = "an encoder" if init.architecture == "bert" else "a decoder"
        raise job.problem("model.init.architecture", f"{init.architecture} is {kind}; task: {task} needs {fitting}")
    if init.positions is not None and init.positions < longest:
        raise job.problem("model.init.positions", f"at least model.max_length ({longest}), found {init.positions}")


def positions_of(config: JobConfig, init: InitSection) -> int:
    """The longest text in tokens. A prompt of max_length gets room for an answer behind it."""
    if init.positions is not None:
        return init.positions
    longest = config.model.max_length
    return longest + max(longest, config.generation.max_new_tokens) if config.task == "generation" else longest


def init_digest(config: JobConfig, sources: Sources, tokenizer: Path | None) -> str:
    """The address of everything that the bytes of the folder depend on. tokenizer: folder of one; None: learnt."""
    init = config.model.init
    assert init is not None
    return digest_of(
        {
            "format": FORMAT,
            "libraries": {name: version(name) for name in (*WEIGHTS_BY, *TEXTS_BY)},
            "init": init.model_dump(mode="json", exclude={"tokenizer", "positions"}),
            "positions": positions_of(config, init),
            "max_length": config.model.max_length,
            "seed": config.train.seed,
            "tokenizer": _learnt_from(config, sources) if tokenizer is None else _digest_of_tokenizer(tokenizer),
        }
    )


def _learnt_from(config: JobConfig, sources: Sources) -> dict[str, Any]:
    """The training files by their contents, and what says how texts are read from them."""
    return {
        "task": config.task,
        "labels": config.labels_are_words,
        "files": [(each.format, fingerprint(each)) for each in _training(sources)],
        "columns": {name: getattr(sources.columns, name) for name in COLUMNS},
        "data": config.data.model_dump(mode="json", include=READ_AS),
    }


def _digest_of_tokenizer(folder: Path) -> list[tuple[str, str]]:
    return [(name, sha256_file(folder / name)) for name in TOKENIZER_FILES if (folder / name).is_file()]


def _build(
    job: Job, init: InitSection, sources: Sources, tokenizer: Path | None, folder: BaseFolder, listener: Listener
) -> None:
    """Write the folder whole, or not at all; whoever asks for the same one meanwhile waits."""
    with writing(folder.path), lease(folder.lock, f"base {folder.path.name}", WAIT_S):
        if is_whole(folder.path):  # by whom this process waited for
            return
        sweep_aside(folder.path.parent, folder.path.name)
        with committed_folder(folder.path, {"name": name_of(init), "format": FORMAT}) as aside:
            fast = _learn(job, init, sources, aside) if tokenizer is None else _copy(tokenizer, aside)
            _require_mask(job, fast)
            ids = {name: found for name in IDS if (found := getattr(fast, name, None)) is not None}
            vocabulary = max(fast.get_vocab().values()) + 1
            config = model_config(init, positions_of(job.config, init), vocabulary, ids)
            parameters = write_model(aside, config, job.config.train.seed)
    listener.note(f"base: {name_of(init)}, {parameters:,} parameters, {vocabulary:,} tokens, in {folder.path}")


def _learn(job: Job, init: InitSection, sources: Sources, folder: Path) -> Any:
    """Learn a tokenizer from the training texts and write it, with the names of its special tokens."""
    from transformers import PreTrainedTokenizerFast

    marks = ENCODER if init.architecture == "bert" else DECODER
    learnt = learn_tokenizer(training_texts(job.config, sources), init.vocabulary, marks)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=learnt,
        model_max_length=job.config.model.max_length,
        clean_up_tokenization_spaces=False,
        **marks.named,
    )
    fast.chat_template = marks.chat
    fast.save_pretrained(folder)
    return fast


def _copy(tokenizer: Path, folder: Path) -> Any:
    """Write a tokenizer that is there; saved anew it names its class, which config.json would else be asked for."""
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(tokenizer)
    fast.save_pretrained(folder)
    return fast


def _require_mask(job: Job, fast: Any) -> None:
    if job.config.task == "masked-lm" and fast.mask_token is None:
        raise job.problem(TOKENIZER_KEY, "names no mask token, which task: masked-lm needs; leave it out to learn one")


def training_texts(config: JobConfig, sources: Sources) -> Iterator[str]:
    """The texts of every usable row of data.train, in the order of its files: of a conversation each turn, and behind
    each its label where labels are words.

    Rows that a column marks as validation or test are left out. What the folds will seal is among them: it is not known
    yet, and a tokenizer learns spellings, no labels.
    """
    meaning = Meaning(config.task, config.data.multi_label, config.data.label_separator)
    for source in _training(sources):
        for batch in read_batches(source, sources.columns):
            rows = canonical(batch, source, sources.columns, meaning)
            usable = rows.filter(pc.and_(pc.is_null(rows["reason"]), pc.equal(rows["origin"], TRAIN)))
            yield from _texts_of(usable, config.labels_are_words)


def _texts_of(rows: pa.Table, with_labels: bool) -> Iterator[str]:
    columns = (rows[name].to_pylist() for name in ("text", "label", "record"))
    for text, label, record in zip(*columns, strict=True):
        if record is not None:
            yield from (turn["content"] for turn in turns_of(record))
        else:
            yield from (text, label) if with_labels else (text,)


def _training(sources: Sources) -> list[Any]:
    return [each for each in sources.files if each.origin == TRAIN]
