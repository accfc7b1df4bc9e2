"""Which column is the text, which the label: written names are checked against the files, others are found by name.

A name is only found where it is exactly obvious: one candidate and no other. Anything else is a question to the person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raysft.config.sections import LANGUAGE_TASKS, DataSection
from raysft.errors import DataError, JobFileError
from raysft.reading.batch import ROLES, SYSTEMS, Columns, listed, plain_name
from raysft.reading.later import later_names
from raysft.reading.records import FIXED, JSON, header
from raysft.reading.sources import Source

__all__ = ["Columns", "resolve_columns"]

Problem = Callable[[str, str], JobFileError]  # (key, text), as Job.problem
TEXT = "text"
LABEL = "label"
# The first name of each row is taken even where others of it are there too; the rest only alone.
TEXTS = (
    *("text", "sentence", "message", "utterance", "question", "query", "body", "content", "comment", "tweet"),
    *("review", "document", "title", "ticket"),
)
LABELS = (
    *("label", "intent", "category", "class", "target", "labels", "topic", "tag", "tags", "sentiment", "intents"),
    *("categories", "classes", "topics"),
)
TOKENS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "ner", "labels", "label")
SPAN_TEXTS = ("text", "sentence")
SPANS = ("spans", "entities", "labels", "label")
CHATS = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue")
PROMPTS = ("prompt", "instruction", "question", "query")
ANSWERS = ("completion", "answer", "response", "output", "chosen")
CONTEXTS_OF = {"instruction": ("input", *SYSTEMS)}  # of all other prompts and of chats: what the system says

Pair = tuple[tuple[str, ...], tuple[str, ...]]
TEXTS_ALONE: Pair = (TEXTS, ())
PAIRS: dict[str, tuple[Pair, ...]] = {
    "classification": ((TEXTS, LABELS),),
    "token-classification": ((TOKENS, TAGS), (SPAN_TEXTS, SPANS)),
    "generation": ((CHATS, ()), (PROMPTS, ANSWERS)),
    **dict.fromkeys(LANGUAGE_TASKS, (TEXTS_ALONE,)),
}


def resolve_columns(data: DataSection, task: str, sources: Sequence[Source], problem: Problem) -> Columns:
    """The columns of all sources of a job.

    Raises what `problem` makes (a column that is missing, stands there twice, or cannot be found), NotFound,
    NotAllowed, DataError (a file without columns).
    """
    if task in LANGUAGE_TASKS:
        _refuse_labels(data, task, sources, problem)
    headers = {source: _names(source) for source in sources}
    free = {source: names for source, names in headers.items() if source.format not in FIXED}
    written = {role: name for role in ROLES if (name := getattr(data, role)) is not None}
    for source, names in headers.items():
        names += later_names(source, [name for name in written.values() if name not in names])
    for role, name in written.items():
        # Where some files have columns of their own, the fixed ones of the others need not be called the same.
        checked = free if role in {TEXT, LABEL} and free else headers
        for source, names in checked.items():
            _check(source, names, role, name, problem)
    if not free:
        guessed = tuple(role for role in (TEXT, LABEL) if role not in written)
        if task in LANGUAGE_TASKS:
            return Columns(**{TEXT: TEXT, LABEL: None, **written})
        return Columns(**{TEXT: TEXT, LABEL: LABEL, **written}, guessed=guessed)
    if not any(_fits(pair, written, _common(free)) for pair in PAIRS[task]):
        known = dict.fromkeys(name for pair in PAIRS[task] for side in pair for name in side)
        for source, names in free.items():
            names += later_names(source, [name for name in known if name not in names])
    found = _find(written, task, free, problem)
    for role, name in found.items():
        for source, names in free.items():
            _check(source, names, role, name, problem)
    context: dict[str, str] = {}
    if task == "generation" and "context" not in written:
        context, seen = _context({**written, **found}, free, problem)
        found |= context if seen else {}
    return Columns(**{LABEL: None, **written, **context, **found}, guessed=tuple(found))


def _refuse_labels(data: DataSection, task: str, sources: Sequence[Source], problem: Problem) -> None:
    """What names a label, or input to one, cannot take effect where texts alone are learnt."""
    why = f"task: {task} learns from texts alone; leave it out"
    for key in ("label", "context", "multi_label", "label_separator"):
        if getattr(data, key):
            raise problem(f"data.{key}", why)
    for source in sources:
        if source.label_path:
            raise problem(f"data.{source.origin}", f"{source.label_path} holds labels; {why}")


def _names(source: Source) -> list[str]:
    names = header(source)
    if not names:
        raise DataError(f"{source.path}: no row with named columns was found", "It needs rows; is data.format right?")
    return names


def _check(source: Source, names: list[str], role: str, name: str, problem: Problem) -> None:
    if names.count(name) > 1:
        raise problem(f"data.{role}", f"{names.count(name)} columns of {source.path} are called {name!r}; rename them")
    if name not in names:
        raise problem(f"data.{role}", f"no column {name!r} in {source.path}; it has: {listed(names)}")


def _find(written: dict[str, str], task: str, headers: dict[Source, list[str]], problem: Problem) -> dict[str, str]:
    """Role -> column, of text and label where they were not written and are obvious."""
    names = _common(headers)
    shown = next(iter(headers)).path
    pairs = [pair for pair in PAIRS[task] if _fits(pair, written, names)]
    if len(pairs) != 1 and not (pairs and set(written) >= {TEXT, LABEL}):
        role = TEXT if TEXT not in written else LABEL
        raise problem(f"data.{role}", _question(role, task, names, shown, bool(pairs)))
    texts, labels = pairs[0]
    found = {}
    for role, candidates in ((TEXT, texts), (LABEL, labels)):
        if role not in written and candidates:
            name = _pick(candidates, [each for each in names if each not in written.values()])
            if name is None:
                raise problem(f"data.{role}", _question(role, task, names, shown, True))
            found[role] = name
    return found


def _context(taken: dict[str, str], headers: dict[Source, list[str]], problem: Problem) -> tuple[dict[str, str], bool]:
    """(the column of the context, whether it was seen); any of the files and any of their rows may have or lack it.

    Rows of JSON may have it first where nobody has looked: there its usual name counts wherever it stands.
    """
    known = CONTEXTS_OF.get(plain_name(taken[TEXT]), SYSTEMS)
    names = [name for source, names in headers.items() for name in (*names, *later_names(source, known))]
    found = [name for name in _candidates(known, list(dict.fromkeys(names))) if name not in taken.values()]
    if len(found) > 1:
        raise problem("data.context", f"{listed(found)}: one column can be read beside the text; name it, or join them")
    if found:
        return {"context": found[0]}, True
    free = known[0] not in taken.values() and any(source.format in JSON for source in headers)
    return ({"context": known[0]} if free else {}), False


def _common(headers: dict[Source, list[str]]) -> list[str]:
    """The columns that every file has, in the order of the first."""
    first, *others = headers.values()
    return [name for name in first if all(name in names for names in others)]


def _fits(pair: Pair, written: dict[str, str], names: list[str]) -> bool:
    """Whether both sides of a pair are written or may be found."""
    texts, labels = pair
    if pair == TEXTS_ALONE:
        return TEXT in written or bool(_candidates(texts, [name for name in names if name not in written.values()]))
    if TEXT in written and LABEL not in written and not labels:
        return plain_name(written[TEXT]) in texts or not _candidates(ANSWERS, names)
    if LABEL in written and not labels:
        return False
    left = [name for name in names if name not in written.values()]
    return (TEXT in written or bool(_candidates(texts, left))) and (
        LABEL in written or not labels or bool(_candidates(labels, left))
    )


def _candidates(known: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in names if plain_name(name) in known]


def _pick(known: Sequence[str], names: Sequence[str]) -> str | None:
    """The column that carries the first of the known names, else the only one that carries any of them."""
    found = _candidates(known, names)
    best = _candidates(known[:1], names)
    if len(best) == 1:
        return best[0]
    return found[0] if len(found) == 1 else None


def _question(role: str, task: str, names: list[str], shown: str, several: bool) -> str:
    what = {"text": "the text", "label": "the label"}[role]
    if task == "generation":
        what = {"text": "the prompt or the messages", "label": "the answer"}[role]
    elif task == "token-classification":
        what = {"text": "the text or its tokens", "label": "the tags or spans"}[role]
    why = "more than one column may be" if several else "no column is clearly"
    return f"{why} {what}; {shown} has: {listed(names)}; say which with data.{role}"
