"""Labels as a causal model says them: a text is the prompt, its label the answer, as the template writes both.

A label's tokens are those it has behind a prompt; where a token would join both, those it has alone, as when a model
writes answers. Every prompt leaves room for the longest
label, whatever its own, so that where a long text is cut says nothing of its label. It is cut at its end, as in front
of a head of classes, within the marks that the template puts around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raysft.corpus.answers import Answering
from raysft.corpus.beginnings import beginnings
from raysft.corpus.messages import ASSISTANT, USER, Turn
from raysft.corpus.special import added_behind, special_ids, untruncated
from raysft.corpus.template import Template

# Two texts that have nothing in common, in which the tokens that the template puts around any text are found.
TEXTS = ("Q", "7 .")


@dataclass(frozen=True)
class LabelWords:
    """How texts with one label each become tokens."""

    template: Template
    tokenizer: Path  # tokenizer.json
    max_length: int
    labels: tuple[str, ...] = ()  # all that there are

    @property
    def digest(self) -> str:
        """Of what the tokenizer, model.max_length and the labels do not say."""
        return f"{self.template.digest} words"

    @cached_property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of each label, up to and with the mark that ends it. Raises TemplateRefuses."""
        return tuple(self._answer(label) for label in self.labels)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest label."""
        return max(map(len, self.answers), default=0)

    @property
    def scored(self) -> int:
        """Tokens that are read behind a prompt in order to score every label."""
        return len({answer[:size] for answer in self.answers for size in range(1, len(answer))})

    @cached_property
    def around(self) -> tuple[int, int]:
        """How many tokens the template puts before a text, and behind it."""
        one, other = (ids for ids, _ in self._prompts(list(TEXTS)))
        return _alike(one, other), _alike(one[::-1], other[::-1])

    @property
    def least_length(self) -> int:
        """The model.max_length at which one token is left of each text."""
        return sum(self.around) + 1 + self.longest

    def prompts(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """(token ids, that leave room for each label; tokens without that limit and with the longest label)."""
        found = beginnings(list(texts), self.max_length, self._prompts)
        return [self._cut(ids) for ids, _ in found], [length + self.longest for _, length in found]

    def encode(self, texts: Sequence[str], labels: Sequence[str]) -> tuple[list[list[int]], list[list[int]], list[int]]:
        """(token ids, at most max_length; 1 where one is learnt, else 0; tokens without that limit) of each row."""
        answer = dict(zip(self.labels, self.answers, strict=True))
        prompts, lengths = self.prompts(texts)
        said = [answer[label] for label in labels]
        ids = [[*prompt, *own] for prompt, own in zip(prompts, said, strict=True)]
        marks = [[0] * len(prompt) + [1] * len(own) for prompt, own in zip(prompts, said, strict=True)]
        return ids, marks, lengths

    def alike(self) -> tuple[str, str] | None:
        """Two labels that are the same tokens, so that nothing could tell them apart; None: all differ."""
        seen: dict[tuple[int, ...], str] = {}
        for label, answer in zip(self.labels, self.answers, strict=True):
            if answer in seen:
                return seen[answer], label
            seen[answer] = label
        return None

    @property
    def adds_marks(self) -> bool:
        """Whether the tokenizer adds its special tokens, since the template writes none."""
        return not self.template.has_special_tokens

    @property
    def answering(self) -> Answering:
        """How rows become conversations, in tokens of prompt and label together."""
        return Answering(self.template, self.tokenizer, self.max_length)

    def turns(self, text: str, label: str) -> list[Turn]:
        """A row as a conversation."""
        return [{"role": USER, "content": text}, {"role": ASSISTANT, "content": label}]

    def _answer(self, label: str) -> tuple[int, ...]:
        text, spans = self.template.render(self.turns(TEXTS[0], label))
        start, end = spans[-1]
        before = self._ids(self._encoded([text[:start]])[0])
        whole = self._encoded([text[:end]])[0]
        ids, offsets, shift = self._ids(whole), whole.offsets, len(before)
        if ids[:shift] != before:  # its first token would stand for the prompt's last characters, too
            alone = untruncated(str(self.tokenizer)).encode(text[start:end], add_special_tokens=False)
            ids, offsets, shift = alone.ids, [(one + start, other + start) for one, other in alone.offsets], 0
        closes = end - len(self.template.closing)
        special = special_ids(str(self.tokenizer))
        ends = (at for at in range(shift, len(ids)) if ids[at] in special and offsets[at][0] >= closes)
        return tuple(ids[shift : next(ends, len(ids)) + 1])

    def _prompts(self, texts: list[str]) -> list[tuple[list[int], int]]:
        """(tokens, how many) of each text with what the template puts around it."""
        written = [self.template.prompt([{"role": USER, "content": text}]) for text in texts]
        found = [self._ids(encoding) for encoding in self._encoded(written)]
        return [(ids, len(ids)) for ids in found]

    def _cut(self, ids: list[int]) -> list[int]:
        room = self.max_length - self.longest
        if len(ids) <= room:
            return ids
        behind = self.around[1]
        return ids[: room - behind] + ids[len(ids) - behind :]

    def _encoded(self, texts: list[str]) -> list[Any]:
        found: list[Any] = untruncated(str(self.tokenizer)).encode_batch(texts, add_special_tokens=self.adds_marks)
        return found

    def _ids(self, encoding: Any) -> list[int]:
        """Without what the tokenizer adds behind a text: here it goes on."""
        ids: list[int] = encoding.ids
        return ids[: len(ids) - len(added_behind(encoding))]


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))
