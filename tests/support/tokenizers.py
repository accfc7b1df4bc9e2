"""Small tokenizers of three kinds, as files; beside the WordPiece of tests/support/jobs.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

MARKS = ("<|im_start|>", "<|im_end|>")
TEXTS = ["where is my parcel", "the answer is 42, of course", "größer als naïve 你好", "one two three four five"]


def write_bytes_tokenizer(path: Path) -> Path:
    """Byte-level BPE (GPT-2's kind): every text can be decoded back; nothing is put around a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    tokenizer.save(str(path))
    return path


def write_roberta_tokenizer(path: Path) -> Path:
    """The same as RoBERTa has it: marks around a text, and offsets without the space that belongs to a piece, so that
    the mark of a space alone covers nothing."""
    tokenizer = Tokenizer.from_file(str(write_bytes_tokenizer(path)))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    first, last = ((mark, int(tokenizer.token_to_id(mark) or 0)) for mark in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True, add_prefix_space=False)
    tokenizer.save(str(path))
    return path


def write_unigram_tokenizer(path: Path) -> Path:
    """Unigram with Metaspace (T5's kind): </s> behind a text."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("er", -4.0)]
    pieces += [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(path))
    return path


def unlimited(path: Path) -> Any:
    """The tokenizer as the library reads it: nothing cut, nothing padded."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
