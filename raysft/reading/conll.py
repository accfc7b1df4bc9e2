"""CoNLL columns: a token and its tag on each line, a blank line between sentences.

The first column is the token, the last one the tag. Columns are separated by tabs where most lines have one, else by
spaces. A `-DOCSTART-` line ends a sentence too. Comments (`# ...`) are skipped; a line that begins with `#` is none
where it has a tag and as many columns as most tokens: `#` is a common token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from raysft.reading.batch import Columns, Gatherer, RawBatch
from raysft.reading.decoding import readable
from raysft.reading.sources import Source
from raysft.reading.streams import Text, open_text

BLANKS = " \t\r\n"
DOCUMENT = "-DOCSTART-"
SPACES = re.compile(r"[ \t]+")
MAX_TOKENS = 10_000  # of a sentence; without blank lines a whole file would be one
TOO_LONG = "sentence_too_long"
TAG = re.compile(r"O|[BIESLUM][-_]\S+")


@dataclass
class _Sentence:
    line: int = 0  # of its first token
    last: int = 0  # of its last one
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    wrong: str = ""
    too_long: bool = False  # a piece of a sentence of more than MAX_TOKENS


def read_conll(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every sentence: text is the list of its tokens, label the list of their tags, line that of its first token."""
    with open_text(source.path, source.encoding) as text:
        rows = Gatherer(Columns("text", "label" if columns.label else None), text.reason)
        for sentence in _sentences(text):
            if sentence.too_long:
                detail = (
                    f"lines {sentence.line} to {sentence.last} are part of a sentence of more than {MAX_TOKENS} tokens"
                )
                rows.refuse(sentence.line, TOO_LONG, f"{detail}; a blank line ends one", " ".join(sentence.tokens))
            elif sentence.wrong:
                detail = f"{sentence.wrong}, in the sentence of lines {sentence.line} to {sentence.last}"
                rows.refuse(sentence.line, "missing_tag", detail, " ".join(sentence.tokens))
            else:
                rows.add(sentence.line, {"text": sentence.tokens, "label": sentence.tags})
            if rows.full(text.raw.position):
                yield from rows.take(text.raw.position)
        yield from rows.take()


def _sentences(text: Text) -> Iterator[_Sentence]:
    """Sentences in order, one that is too long in pieces; a token without a tag is told in `wrong`, with its line."""
    sentence = _Sentence()
    splitter = _Splitter(text.sample)
    for number, raw in enumerate(text.lines, start=1):
        line = raw.strip("\r\n")
        if not line.strip(BLANKS) or line.startswith(DOCUMENT):
            if sentence.tokens:
                yield sentence
            sentence = _Sentence()
        elif not splitter.is_comment(line):
            if len(sentence.tokens) == MAX_TOKENS:
                sentence.too_long = True
                yield sentence
                sentence = _Sentence(too_long=True)
            _add(sentence, number, line, splitter.split(line))
    if sentence.tokens:
        yield sentence


def _add(sentence: _Sentence, number: int, line: str, fields: list[str]) -> None:
    sentence.line, sentence.last = sentence.line or number, number
    sentence.tokens.append(fields[0])
    sentence.tags.append(fields[-1])
    if not sentence.wrong and (len(fields) < 2 or not all((fields[0], fields[-1]))):
        sentence.wrong = f"line {number} has a token and no tag: {readable(line[:80].strip(BLANKS))}"


class _Splitter:
    """Lines to columns, by what separates them in the first lines of the file."""

    def __init__(self, sample: str) -> None:
        lines = [line for line in sample.split("\n") if line.strip(BLANKS) and not line.startswith(DOCUMENT)]
        with_tab = sum("\t" in line for line in lines)
        self._tabs = with_tab > 0 and with_tab >= sum("\t" not in line and line[0] != "#" for line in lines)
        self._seen: set[str] = set()  # tags so far
        widths = Counter(len(self._fields(line.strip("\r"))) for line in lines if line[0] != "#")
        self._columns = max(widths, key=widths.__getitem__, default=0)  # of most token lines; 0: not known

    def is_comment(self, line: str) -> bool:
        """A line that begins with # and has not the columns of a token."""
        if not line.startswith("#"):
            return False
        fields = self._fields(line)
        if len(fields) < 2:
            return True
        unusual = self._columns not in {0, len(fields)}
        if self._tabs:
            return unusual and " " in fields[0]  # a token that lost a column is no comment
        return unusual or not (TAG.fullmatch(fields[-1]) or fields[-1] in self._seen)

    def split(self, line: str) -> list[str]:
        """The columns of a token line."""
        fields = self._fields(line)
        if len(fields) > 1:
            self._seen.add(fields[-1])
        return [fields[0].strip(" "), *fields[1:-1], *([fields[-1].strip(" ")] if len(fields) > 1 else [])]

    def _fields(self, line: str) -> list[str]:
        # A token may hold any other kind of space, which str.split() would split at.
        return line.rstrip(" ").split("\t") if self._tabs else SPACES.split(line.strip(BLANKS))
