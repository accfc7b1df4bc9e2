"""Bases for language models, and texts without labels."""

from __future__ import annotations

from pathlib import Path

from raysft.corpus.encode import MASKED, NEXT, Encoding
from raysft.corpus.pieces import piece_rows
from raysft.corpus.tokens import TokenizedRows, from_tables
from raysft.storage.pretrained import Base
from tests.support.jobs import corpus_rows, write_base


def write_masked_base(folder: Path) -> Path:
    """A tiny BERT without a language head, whose tokenizer names its mask."""
    from transformers import AutoTokenizer

    write_base(folder)
    AutoTokenizer.from_pretrained(folder, mask_token="[MASK]").save_pretrained(folder)
    return folder


def write_causal_base(folder: Path) -> Path:
    """A tiny GPT-2 with random weights; its tokenizer adds no special tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = dict.fromkeys(word for row in corpus_rows(300) for word in row["text"].split())
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **{w: i for i, w in enumerate(words, 1)}}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words) + 1, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def texts(count: int, seed: int = 0) -> list[str]:
    return [row["text"] for row in corpus_rows(count, seed)]


def pieces_of(base: Base, said: list[str], task: str, max_length: int = 32) -> TokenizedRows:
    """The texts as the shards of a job hold them."""
    import pyarrow as pa

    how = Encoding(MASKED if task == "masked-lm" else NEXT, base.folder / "tokenizer.json", max_length, ())
    rows = pa.table({"row_id": pa.array(range(len(said)), pa.int64()), "text": pa.array(said, pa.string())})
    return from_tables([piece_rows(rows, how)[0]])
