"""A tokenizer learnt from texts: pairs of bytes within words (BPE), so that any text can be written and read back.

Of decoders a word begins with the space before it, and the first word of a text is given one, which reading takes away
again: `jump` is the same token wherever it stands, and words joined by _ stay whole. Of encoders words, numbers and
punctuation are kept apart, as entities need it, and no space is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MOST_TEXTS = 1_000_000
MOST_CHARACTERS = 20_000_000  # learning keeps each different word: at worst, in a script without spaces, 250 bytes each
LEAST_SEEN = 2  # times that a pair must stand in the texts to become a token
END = "<|end|>"
WORDS = r" ?\S+|\s+(?!\S)|\s+"
# A turn is its role, its content and an end, without a character between them that would be part of the content.
CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Marks:
    """The special tokens of a tokenizer, and what they are for."""

    named: dict[str, str]  # as tokenizer_config.json names them: {"pad_token": "<|pad|>", ...}
    turns: tuple[str, ...] = ()  # further ones
    chat: str | None = None  # template of conversations

    @property
    def tokens(self) -> tuple[str, ...]:
        """All of them, in the order of their ids, from 0."""
        return tuple(dict.fromkeys([*self.named.values(), *self.turns]))


DECODER = Marks(
    {"pad_token": "<|pad|>", "eos_token": END, "bos_token": END},
    ("<|system|>", "<|user|>", "<|assistant|>"),
    CHAT,
)
ENCODER = Marks({"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"})


def learn_tokenizer(texts: Iterable[str], size: int, marks: Marks) -> Any:
    """A tokenizers.Tokenizer of at most `size` tokens, the same for the same texts. marks: DECODER or ENCODER.

    Learns from the first MOST_TEXTS texts, or MOST_CHARACTERS characters. A text that is encoded without special tokens
    and decoded with them is the text again, to the character.
    """
    from tokenizers import AddedToken, trainers
    from tokenizers.pre_tokenizers import ByteLevel

    tokenizer = _of_decoders(marks) if marks == DECODER else _of_encoders()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=LEAST_SEEN,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in marks.tokens],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(bounded(texts), trainer)
    if marks == ENCODER:
        tokenizer.post_processor = _around(tokenizer)
    return tokenizer


def bounded(texts: Iterable[str]) -> Iterator[str]:
    """The first of them, the last one cut where it goes beyond MOST_CHARACTERS."""
    left = MOST_CHARACTERS
    for text, _ in zip(texts, range(MOST_TEXTS), strict=False):
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _of_decoders(marks: Marks) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # The space is given to what follows a mark, too: there it is taken away, and at the beginning.
    after = [decoders.Replace(f"{token} ", token) for token in marks.tokens]
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), *after, decoders.Strip(" ", 1, 0)])
    return tokenizer


def _of_encoders() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _around(tokenizer: Any) -> Any:
    """[CLS] before a text and [SEP] behind it; a token stands where its word does, without the space before it."""
    from tokenizers import processors

    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    return processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True, add_prefix_space=False),
            processors.TemplateProcessing(
                single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
            ),
        ]
    )
