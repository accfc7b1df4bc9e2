"""Conversations -> token ids, and which of them are learnt. Of a long one the beginning goes, never an answer.

T tokens of a conversation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysft.corpus.beginnings import LOOKED_AT, PER_TOKEN
from raysft.corpus.cells import Unusable
from raysft.corpus.special import special_ids, untruncated
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

        A token has one byte at the least, so that most conversations need no tokenizer here.
        Raises TemplateRefuses: see Template.render.
        """
        text, answers = self.template.render(turns)
        if len(text.encode("utf-8", "replace")) + self._marks <= self.max_length:
            return
        start, end = answers[-1]
        size = len(self._offsets(text[start:end]))
        if size + self._marks + 1 > self.max_length:  # one token of the prompt, from which the first is learnt
            raise Unusable("answer_too_long", f"{size} tokens, with model.max_length {self.max_length}")
        if self.long_prompts == "reject" and (whole := len(self._offsets(text))) + self._marks > self.max_length:
            raise Unusable("prompt_too_long", f"{whole} tokens with its answer, model.max_length is {self.max_length}")

    def encode(self, records: list[str]) -> tuple[list[list[int]], list[list[int]], list[int]]:
        """(token ids, at most max_length; 1 where one is learnt, else 0; tokens without that limit) of each record."""
        written = [self._written(record) for record in records]
        library = untruncated(str(self.tokenizer))
        found = library.encode_batch([text for text, _, _ in written], add_special_tokens=self.adds_marks)
        cut = [self._cut(*each) for each in zip(found, written, strict=True)]
        return [ids for ids, _, _ in cut], [marks for _, marks, _ in cut], [length for _, _, length in cut]

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

    def _written(self, record: str) -> tuple[str, list[tuple[int, int]], int]:
        """(the text of a conversation, where it is learnt, characters left out of its beginning).

        What is so far from the end that it will not be kept is not even tokenized.
        """
        text, spans = self.template.render(json.loads(record))
        if self.learn == LAST:
            spans = spans[-1:]
        elif self.learn == ALL:
            spans = [(0, len(text))]
        left_out = max(0, len(text) - max(LOOKED_AT, PER_TOKEN * self.max_length))
        return text[left_out:], [(start - left_out, end - left_out) for start, end in spans], left_out

    def _cut(self, encoding: Any, written: tuple[str, list[tuple[int, int]], int]) -> tuple[list[int], list[int], int]:
        text, spans, left_out = written
        ids, marks = encoding.ids, _within(np.array(encoding.offsets, np.int64).reshape(-1, 2), spans)
        length = round(len(ids) * (1 + left_out / max(1, len(text))))
        over = len(ids) - self.max_length
        if over <= 0:
            return ids, marks.tolist(), length
        # A mark at the beginning, such as <s>, stays.
        head = 1 if ids[0] in special_ids(str(self.tokenizer)) else 0
        keep = np.r_[0:head, head + over : len(ids)]
        return [ids[place] for place in keep], marks[keep].tolist(), length


def _within(offsets: Array, spans: list[tuple[int, int]]) -> Array:
    """1 for each token that has a character in some span, int64 (T,). offsets: (T, 2); spans: sorted, disjoint."""
    if not spans:
        return np.zeros(len(offsets), np.int64)
    first, last = offsets.T
    starts, ends = np.array(spans, np.int64).T
    at = np.minimum(np.searchsorted(ends, first, side="right"), len(ends) - 1)
    within: Array = ((starts[at] < last) & (first < ends[at])).astype(np.int64)
    return within
