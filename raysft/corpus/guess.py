"""Looking at a file as a person would: which column is the text, which the label, which keeps rows together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from raysft.config.sections import DataSection
from raysft.corpus.forms import with_forms
from raysft.corpus.messages import Turn, turns_of
from raysft.corpus.rows import Meaning, canonical
from raysft.corpus.targets import spans_of
from raysft.errors import DataError, JobFileError, NotFound, Problem
from raysft.reading.batch import Columns, listed
from raysft.reading.columns import ANSWERS, CHATS, PROMPTS, SPANS, TOKENS, resolve_columns
from raysft.reading.records import FIXED, header, read_batches
from raysft.reading.sources import Source, sources_of

SAMPLE = 2000
TEXT_NAMES = (
    "text",
    "message",
    "utterance",
    "sentence",
    "body",
    "content",
    "description",
    "question",
    "query",
    "comment",
)
LABEL_NAMES = ("label", "intent", "category", "class", "target", "topic", "tag", "sentiment")
GROUP_NAMES = (
    "customer",
    "group",
    "patient",
    "user",
    "client",
    "account",
    "contract",
    "thread",
    "conversation",
    "author",
)


@dataclass(frozen=True)
class Column:
    """What a sample of a column looks like."""

    name: str
    filled: int
    distinct: int
    mean_length: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """What the columns of a file probably mean."""

    file: Path
    rows: int  # looked at
    text: str
    label: str
    group: str | None
    columns: tuple[Column, ...]
    labels: tuple[str, ...]  # classes, or types of entities
    task: str = "classification"  # token-classification, generation
    unnamed: bool = False  # the file's columns have no names of their own
    context: str | None = None  # of answers: input beside the prompt
    conversation: int = 0  # bytes of a long conversation, and of a long answer: most of them have fewer
    answer: int = 0


def guess(path: Path, task: str | None = None) -> Guess:
    """Guess the roles of the columns, from a sample of the rows. task: None: guess that too, by the columns' names.

    Raises NotFound, NotAllowed, JobFileError, or DataError: no column can be text or label, or the file is for another
    task.
    """
    if not path.exists():
        raise NotFound(f"no such file: {path}", "Name a file with a text and a label column.")
    (source,) = sources_of(str(path.absolute()), Path("/"))
    values = _sample(source)
    task = task or _task_of(source, values)
    if task == "generation":
        return _of_chats(path, source, values)
    if task == "token-classification":
        return _of_tagged(path, source, values)
    columns = tuple(_look(name, found) for name, found in values.items())
    rows = max((column.filled for column in columns), default=0)
    text = _best(columns, TEXT_NAMES, lambda c: c.mean_length if c.distinct > 0.5 * max(1, c.filled) else 0.0)
    rest = [c for c in columns if text is None or c.name != text.name]
    label = _best(rest, LABEL_NAMES, lambda c: 1 / c.distinct if 2 <= c.distinct <= max(2, c.filled // 3) else 0.0)
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: no column looks like the {missing}; it has: {listed(list(values))}",
            "A text column holds a different text in most rows, a label column a few values again and again; "
            "rename them `text` and `label`, or write the job file by hand.",
        )
    # A row without its group would be rejected, so only a column that is always filled will do.
    left = [c for c in rest if c.name != label.name and 1 < c.distinct < c.filled == rows]
    group = _named(left, GROUP_NAMES)
    labels = set(map(_shown, values[label.name])) - {""}
    return Guess(path, rows, text.name, label.name, group.name if group else None, columns, tuple(sorted(labels)))


def _sample(source: Source) -> dict[str, list[Any]]:
    """Column -> its values in the first rows that can be read. Columns whose names stand there twice are left out."""
    names = header(source)
    if source.format in FIXED:
        batch = next(read_batches(source, Columns("text", "label")), None)
        return {name: batch.cells.get(name, [])[:SAMPLE] if batch else [] for name in names}
    return {name: _values(source, name) for name in names if names.count(name) == 1}


def _values(source: Source, name: str) -> list[Any]:
    found: list[Any] = []
    for batch in read_batches(source, Columns(name, None)):
        found += [value for value, reason in zip(batch.cells["text"], batch.reason, strict=True) if reason is None]
        if len(found) >= SAMPLE:
            break
    return found[:SAMPLE]


def _task_of(source: Source, values: dict[str, list[Any]]) -> str:
    """What the names of the columns say that a file is for."""
    names = {name.casefold() for name in values}
    if source.format == "conll" or names & set(TOKENS) or names & set(SPANS[:2]):
        return "token-classification"
    if names & set(CHATS) or (names & set(PROMPTS) and names & set(ANSWERS)):
        return "classification" if names & set(LABEL_NAMES) and not names & set(CHATS) else "generation"
    return "classification"


def _of_chats(path: Path, source: Source, values: dict[str, list[Any]]) -> Guess:
    """Conversations, or prompts with answers: columns as a job would find them, and how long these are."""
    task = "generation"
    found = _columns(path, source, task)
    sizes: list[tuple[int, int]] = []
    for batch in read_batches(source, found):
        rows = canonical(batch, source, found, Meaning(task))
        usable = rows.filter(pc.is_null(rows.column("reason")))
        sizes += [_sizes(turns_of(record)) for record in usable.column("record").to_pylist()]
        if len(sizes) >= SAMPLE:
            break
    if not sizes:
        raise DataError(
            f"{path}: no row with an answer was found; it has: {listed(list(values))}",
            "Messages are a list of {role, content} that ends with the assistant; or name columns `prompt` and "
            "`completion`: see docs/data.md.",
        )
    columns = tuple(_look(name, cells) for name, cells in values.items())
    taken = {found.text, found.label, found.context}
    left = [c for c in columns if c.name not in taken and 1 < c.distinct < c.filled == len(values[c.name])]
    group = _named(left, GROUP_NAMES)
    return Guess(
        file=path,
        rows=len(sizes),
        text=found.text,
        label=found.label or "",
        group=group.name if group else None,
        columns=columns,
        labels=(),
        task=task,
        unnamed=source.format in FIXED,
        context=found.context if found.context in values else None,
        conversation=_long([whole for whole, _ in sizes]),
        answer=_long([answer for _, answer in sizes]),
    )


def _sizes(turns: list[Turn]) -> tuple[int, int]:
    """(bytes of a conversation, bytes of its last answer)."""
    bytes_of = [len(turn["content"].encode("utf-8", "replace")) for turn in turns]
    return sum(bytes_of), bytes_of[-1]


def _long(sizes: list[int]) -> int:
    """A size that 98 of 100 do not exceed."""
    return sorted(sizes)[min(len(sizes) - 1, len(sizes) * 98 // 100)]


def _columns(path: Path, source: Source, task: str) -> Columns:
    """The columns as a job of this task would find them."""

    def problem(key: str, text: str) -> JobFileError:
        return JobFileError([Problem(str(path), key, text)])

    data = DataSection(train=(str(path),))
    return with_forms(resolve_columns(data, task, [source], problem), data, task, [source], problem)


def _of_tagged(path: Path, source: Source, values: dict[str, list[Any]]) -> Guess:
    """Texts with entities: columns as a job would find them, and the types that stand in the sample."""
    found = _columns(path, source, "token-classification")
    types: set[str] = set()
    rows = 0
    for batch in read_batches(source, found):
        table = canonical(batch, source, found, Meaning("token-classification"))
        kept = table.filter(pc.is_null(table.column("reason")))
        types |= {name for label in kept.column("label").to_pylist() for _, _, name in spans_of(label)}
        rows += kept.num_rows
        if rows >= SAMPLE:
            break
    if not types:
        raise DataError(
            f"{path}: no row with an entity was found; it has: {listed(list(values))}",
            "Tags are B-, I- and O, or a list of [start, end, type] beside the text: see docs/data.md.",
        )
    return Guess(
        file=path,
        rows=rows,
        text=found.text,
        label=found.label or "",
        group=None,
        columns=tuple(_look(name, cells) for name, cells in values.items()),
        labels=tuple(sorted(types)),
        task="token-classification",
        unnamed=source.format in FIXED,
    )


def _look(name: str, values: Sequence[Any]) -> Column:
    shown = [text for text in map(_shown, values) if text.strip()]
    mean = sum(map(len, shown)) / max(1, len(shown))
    return Column(name, len(shown), len(set(shown)), mean, tuple(dict.fromkeys(shown[:3])))


def _shown(value: Any) -> str:
    """A cell as a word: JSON for what is neither text nor nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _best(columns: Sequence[Column], names: Sequence[str], measure: Callable[[Column], float]) -> Column | None:
    named = _named(columns, names)
    if named is not None:
        return named
    best = max(columns, key=measure, default=None)
    return best if best is not None and measure(best) > 0 else None


def _named(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    for name in names:
        for column in columns:
            if column.filled and (column.name.lower() == name or name in column.name.lower().replace("_", " ").split()):
                return column
    return None
