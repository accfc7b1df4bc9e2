"""Conversations -> token ids, and which of them are learnt. Of a long one the beginning goes, never the last answer.

An earlier answer that loses its own beginning is not learnt: what is left of it answers nothing.

T tokens of a conversation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from raysft.corpus.beginnings import LOOKED_AT, PER_TOKEN
from raysft.corpus.cells import Unusable
from raysft.corpus.special import added_behind, special_ids, untruncated
from raysft.corpus.template import Template

ALL, LAST = "all", "last"  # of generation.learn; "answers" are all answers
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Answering:
    """How conversations are written, cut and learnt."""

    template: Template
    tokenizer: Path  # tokenizer.json
    max_length: int
    learn: str = "answers"  # answers | last | all
    long_prompts: str = "cut"  # cut | reject

    @property
    def digest(self) -> str:
        """Of what the tokenizer and model.max_length do not say."""
        return f"{self.template.digest} {self.learn} {self.long_prompts}"

    def require_fit(self, turns: list[dict[str, str]]) -> None:
        """Raise Unusable for a conversation whose last answer is cut at max_length, or whose prompt may not be.

        Raises TemplateRefuses: see Template.render.
        """
        text, answers = self.template.render(turns)
        if self._surely_fits(text):
            return
        start, end = answers[-1]
        size = len(self._offsets(text[start:end]))
        if size + self._marks + 1 > self.max_length:  # one token of the prompt, from which the first is learnt
            raise Unusable("answer_too_long", f"{size} tokens, with model.max_length {self.max_length}")
        if self.long_prompts == "reject" and (whole := len(self._offsets(text))) + self._marks > self.max_length:
            raise Unusable("prompt_too_long", f"{whole} tokens with its answer, model.max_length is {self.max_length}")

    def _surely_fits(self, text: str) -> bool:
        """Without the tokenizer, as most conversations do: a token is one byte at the least, where texts are not
        normalized first, and some tokenizers write a space before a text."""
        plain = untruncated(str(self.tokenizer)).normalizer is None
        return plain and len(text.encode("utf-8", "replace")) + 1 + self._marks <= self.max_length

    def encode(self, records: list[str]) -> tuple[list[list[int]], list[list[int]], list[int]]:
        """(token ids, at most max_length; 1 where one is learnt, else 0; tokens without that limit) of each record."""
        written = [self._written(record) for record in records]
        library = untruncated(str(self.tokenizer))
        found = library.encode_batch([each.text for each in written], add_special_tokens=self.adds_marks)
        cut = [self._cut(self._tokens(*each), each[1]) for each in zip(found, written, strict=True)]
        return [ids for ids, _, _ in cut], [marks for _, marks, _ in cut], [length for _, _, length in cut]

    def together(self, record: str, ids: list[int]) -> str | None:
        """The text of a conversation whose tokens, in one, are these; None where they are others."""
        text, _ = self.template.render(json.loads(record))
        found = untruncated(str(self.tokenizer)).encode(text, add_special_tokens=self.adds_marks).ids
        return text if found == ids else None

    @property
    def adds_marks(self) -> bool:
        """Whether the tokenizer adds its special tokens, since the template writes none."""
        return not self.template.has_special_tokens

    @property
    def _marks(self) -> int:
        return untruncated(str(self.tokenizer)).num_special_tokens_to_add(False) if self.adds_marks else 0

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = untruncated(str(self.tokenizer)).encode(text, add_special_tokens=False).offsets
        return found

    def _written(self, record: str) -> _Written:
        """What is so far from the end that it will not be kept is not even tokenized."""
        text, answers = self.template.render(json.loads(record))
        left_out = max(0, len(text) - max(LOOKED_AT, PER_TOKEN * self.max_length))
        first = self._first_mark(text) if left_out else []
        answers = [(start - left_out, end - left_out) for start, end in answers]
        return _Written(text[left_out:], answers, left_out, first)

    def _first_mark(self, text: str) -> list[int]:
        """The mark that the template writes at the very beginning, such as <s>; none where the tokenizer adds it."""
        ids = untruncated(str(self.tokenizer)).encode(text[:PER_TOKEN], add_special_tokens=False).ids[:1]
        return [] if self.adds_marks else [token for token in ids if token in special_ids(str(self.tokenizer))]

    def _tokens(self, encoding: Any, written: _Written) -> tuple[list[int], Array]:
        """(ids, offsets (T, 2)) of a text. Prompt and answer are tokenized apart where a token would join them: whoever
        writes the answer reads the prompt without it."""
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        starts = np.array([start for start, _ in written.answers if start > 0], np.int64)
        if not ((offsets[:, :1] < starts) & (starts < offsets[:, 1:])).any():
            return encoding.ids, offsets
        library, edges = untruncated(str(self.tokenizer)), [0, *starts.tolist(), len(written.text)]
        parts = [
            library.encode(written.text[begin:end], add_special_tokens=self.adds_marks and begin == 0)
            for begin, end in pairwise(edges)
        ]
        behind = added_behind(parts[0])
        ids = [*parts[0].ids[: len(parts[0].ids) - len(behind)], *(token for part in parts[1:] for token in part.ids)]
        places = [
            np.array(part.offsets, np.int64).reshape(-1, 2) + begin for part, begin in zip(parts, edges, strict=False)
        ]
        places[0] = places[0][: len(places[0]) - len(behind)]
        return [*ids, *behind], np.concatenate([*places, np.full((len(behind), 2), len(written.text))])

    def _cut(self, tokens: tuple[list[int], Array], written: _Written) -> tuple[list[int], list[int], int]:
        """(ids, marks, tokens without a limit): the beginning goes, but for a mark that stands there."""
        ids, offsets = tokens
        length = round(len(ids) * (1 + written.left_out / max(1, len(written.text))))
        ids, offsets = [*written.first, *ids], np.concatenate([np.zeros((len(written.first), 2), np.int64), offsets])
        over = max(0, len(ids) - self.max_length)
        head = 1 if over and ids[0] in special_ids(str(self.tokenizer)) else 0
        keep = np.r_[0:head, head + over : len(ids)]
        begins = int(offsets[head + over, 0]) if over else 0 if not written.left_out else 1
        spans = [(start, end) for start, end in written.answers if start >= begins]
        if self.learn == LAST:
            spans = spans[-1:]
        elif self.learn == ALL:
            spans = [(0, len(written.text))]
        return [ids[place] for place in keep], _within(offsets[keep], spans).tolist(), length


@dataclass(frozen=True)
class _Written:
    """A conversation as its template writes it."""

    text: str  # its end, where it is very long
    answers: list[tuple[int, int]]  # where they stand in the text; of one that begins before it start is negative
    left_out: int  # characters before the text
    first: list[int]  # a mark at the beginning of what was left out


def _within(offsets: Array, spans: list[tuple[int, int]]) -> Array:
    """1 for each token that has a character in some span, int64 (T,). offsets: (T, 2); spans: sorted, disjoint."""
    if not spans:
        return np.zeros(len(offsets), np.int64)
    first, last = offsets.T
    starts, ends = np.array(spans, np.int64).T
    at = np.minimum(np.searchsorted(ends, first, side="right"), len(ends) - 1)
    within: Array = ((starts[at] < last) & (first < ends[at])).astype(np.int64)
    return within
