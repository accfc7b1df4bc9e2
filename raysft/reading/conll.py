"""CoNLL columns: a token and its tag on each line, a blank line between sentences.

The first column is the token, the last one the tag. Columns are separated by tabs where most lines have one, else by
spaces. `-DOCSTART-` lines are skipped; so are comments (`# ...`), unless they have a tag as other lines do:
`#` is a common token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from raysft.reading.batch import Columns, Gatherer, RawBatch
from raysft.reading.decoding import readable
from raysft.reading.sources import Source
from raysft.reading.streams import Text, open_text

BLANKS = " \t\r\n"
DOCUMENT = "-DOCSTART-"
SPACES = re.compile(r"[ \t]+")
TAG = re.compile(r"O|[BIESLUM][-_]\S+")


@dataclass
class _Sentence:
    line: int = 0  # of its first token
    last: int = 0  # of its last one
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    wrong: str = ""


def read_conll(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every sentence: text is the list of its tokens, label the list of their tags, line that of its first token."""
    with open_text(source.path, source.encoding) as text:
        rows = Gatherer(Columns("text", "label" if columns.label else None), text.reason)
        for sentence in _sentences(text):
            if sentence.wrong:
                detail = f"{sentence.wrong}, in the sentence of lines {sentence.line} to {sentence.last}"
                rows.refuse(sentence.line, "missing_tag", detail, " ".join(sentence.tokens))
            else:
                rows.add(sentence.line, {"text": sentence.tokens, "label": sentence.tags})
            if rows.full(text.raw.position):
                yield from rows.take(text.raw.position)
        yield from rows.take()


def _sentences(text: Text) -> Iterator[_Sentence]:
    """Sentences in order; a token without a tag is told in `wrong`, with its line."""
    sentence = _Sentence()
    splitter = _Splitter(text.sample)
    for number, raw in enumerate(text.lines, start=1):
        line = raw.strip("\r\n")
        if not line.strip(BLANKS):
            if sentence.tokens:
                yield sentence
            sentence = _Sentence()
        elif not (line.startswith(DOCUMENT) or splitter.is_comment(line)):
            fields = splitter.split(line)
            sentence.line, sentence.last = sentence.line or number, number
            sentence.tokens.append(fields[0])
            sentence.tags.append(fields[-1])
            if len(fields) < 2 or not all((fields[0], fields[-1])):
                sentence.wrong = (
                    sentence.wrong or f"line {number} has a token and no tag: {readable(line[:80].strip(BLANKS))}"
                )
    if sentence.tokens:
        yield sentence


class _Splitter:
    """Lines to columns, by what separates them in the first lines of the file."""

    def __init__(self, sample: str) -> None:
        lines = [line for line in sample.split("\n") if line.strip(BLANKS) and not line.startswith(DOCUMENT)]
        with_tab = sum("\t" in line for line in lines)
        self._tabs = with_tab > 0 and with_tab >= sum("\t" not in line and line[0] != "#" for line in lines)
        self._seen: set[str] = set()  # tags so far

    def is_comment(self, line: str) -> bool:
        """A line that begins with # and has no tag column."""
        if not line.startswith("#"):
            return False
        if self._tabs:
            return "\t" not in line
        _, *columns = SPACES.split(line.strip(BLANKS))
        return not (columns and (TAG.fullmatch(columns[-1]) or columns[-1] in self._seen))

    def split(self, line: str) -> list[str]:
        """The columns of a token line."""
        # A token may hold any other kind of space, which str.split() would split at.
        fields = line.rstrip(" ").split("\t") if self._tabs else SPACES.split(line.strip(BLANKS))
        if len(fields) > 1:
            self._seen.add(fields[-1])
        return [fields[0].strip(" "), *fields[1:-1], *([fields[-1].strip(" ")] if len(fields) > 1 else [])]
