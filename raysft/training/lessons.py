"""What of a text is learnt: hidden tokens (masked-lm), the next ones (causal-lm), or those of answers (generation).

Which tokens are hidden is a pure function of seed, epoch and row, as dropout is (training/dropout.py), so that neither
workers nor micro-batches change what is learnt, and a resumed run goes on with the same masks.
T tokens of a row, M of them learnt, V tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from raysft.corpus.special import special_ids
from raysft.errors import UsageError

SHARE, AS_MASK, AS_RANDOM = 0.15, 0.8, 0.1  # Devlin et al. 2019, arXiv 1810.04805, section 3.1
HIDING = 15  # tells these generators from those of dropout, which have the same seed, epoch and row
Array = np.ndarray[Any, Any]


class Lesson(Protocol):
    """What of a row is learnt. Pure."""

    @property
    def vocabulary(self) -> int:
        """V: how many tokens the model knows."""

    @property
    def share(self) -> float:
        """About how many of a row's positions are learnt, 0 to 1."""

    @property
    def sees_padding(self) -> bool:
        """Whether a token's hidden state depends on the padding behind its row, unless a mask hides it."""

    def count(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> int:
        """How many of the row's tokens are learnt. ids: int32 (T,); marks: its targets as a shard has them."""

    def teach(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> tuple[Array, Array, Array]:
        """(what the model reads, int (T,); places at which it learns, int (M,); what it shall say there, int (M,))."""


@dataclass(frozen=True)
class HiddenTokens:
    """Masked language modelling (Devlin et al. 2019).

    Of a row's ordinary tokens 15% are learnt, rounded up or down at random so that it is 15% on average, and at least
    one. 80% of these are read as [MASK], 10% as a random ordinary token, 10% as they are.
    """

    sees_padding = True
    mask_id: int
    ordinary: Array  # bool (V,): tokens that are not special; no others are hidden, or stand in for hidden ones

    @property
    def vocabulary(self) -> int:
        return len(self.ordinary)

    @property
    def share(self) -> float:
        return SHARE

    @cached_property
    def _strangers(self) -> Array:
        return np.flatnonzero(self.ordinary)

    def count(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> int:
        return _count(int(self.ordinary[ids].sum()), _generator(seed, epoch, row))

    def teach(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> tuple[Array, Array, Array]:
        random = _generator(seed, epoch, row)
        places = np.flatnonzero(self.ordinary[ids])
        count = _count(len(places), random)
        learnt = np.sort(random.permutation(places)[:count])
        fate, strangers = random.random(count), random.choice(self._strangers, count)
        read = ids.copy()
        read[learnt] = np.where(fate < AS_MASK + AS_RANDOM, strangers, ids[learnt])
        read[learnt[fate < AS_MASK]] = self.mask_id
        return read, learnt, ids[learnt]


@dataclass(frozen=True)
class NextTokens:
    """Causal language modelling: each token but the first, from those before it.

    None sees what comes after it, so that padding, which stands at the end, needs no mask: without one torch has its
    faster attention (FlashAttention, where with one it takes the memory-efficient kernel).
    """

    sees_padding = False
    vocabulary: int
    share: float = 1.0

    def count(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> int:
        return max(0, len(ids) - 1)

    def teach(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> tuple[Array, Array, Array]:
        return ids, np.arange(max(0, len(ids) - 1)), ids[1:]


@dataclass(frozen=True)
class Answers:
    """The answers of a conversation: each token that `marks` has, but the first of the row, from those before it."""

    sees_padding = False
    vocabulary: int
    share: float = 1.0

    def count(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> int:
        return int((marks[1:] == 1).sum())

    def teach(self, ids: Array, marks: Array, seed: int, epoch: int, row: int) -> tuple[Array, Array, Array]:
        learnt = np.flatnonzero(marks[1:] == 1)
        return ids, learnt, ids[learnt + 1]


def lesson_of(task: str, folder: Path, model: nn.Module) -> Lesson:
    """The lesson of `task` for a model, with the tokenizer in `folder`.

    Raises UsageError where the tokenizer has no token that hides another.
    """
    from transformers import AutoTokenizer

    vocabulary = int(model.config.vocab_size)  # type: ignore[union-attr,arg-type]
    if task == "causal-lm":
        return NextTokens(vocabulary)
    if task == "generation":
        return Answers(vocabulary)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.mask_token_id is None:
        raise UsageError(
            f"model.base: the tokenizer of {folder} names no mask token, which task: masked-lm needs",
            "Use an encoder such as BERT or RoBERTa, or task: causal-lm with a decoder.",
        )
    ordinary = np.zeros(vocabulary, bool)
    ordinary[list(tokenizer.get_vocab().values())] = True
    ordinary[[*special_ids(str(folder / "tokenizer.json")), tokenizer.mask_token_id]] = False
    return HiddenTokens(int(tokenizer.mask_token_id), ordinary)


def _count(tokens: int, random: np.random.Generator) -> int:
    return min(tokens, max(1, int(SHARE * tokens + random.random())))


def _generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, epoch, row, HIDING]))
