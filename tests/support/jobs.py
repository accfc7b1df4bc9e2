"""A job small enough for tests: a tiny BERT with random weights, a learnable corpus, a job file."""

from __future__ import annotations

import csv
import io
import os
import random
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

TOPICS = {
    "delivery": ["parcel", "courier", "doorstep", "late", "van", "track", "arrive"],
    "refund": ["money", "back", "bank", "paid", "return", "amount", "credit"],
    "account": ["password", "login", "email", "locked", "reset", "profile", "sign"],
    "product": ["size", "colour", "material", "stock", "fits", "weight", "model"],
}
COMMON = ["the", "my", "please", "is", "it", "for", "with", "hello", "when", "can", "you", "a", "and", "today", "order"]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_base(folder: Path, hidden: int = 32, layers: int = 2) -> Path:
    """A BERT of some 20,000 parameters with random weights and a word tokenizer that knows the corpus."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*MARKS, *COMMON, *(word for words in TOPICS.values() for word in words), *letters]
    pieces += [f"##{letter}" for letter in letters] + list("0123456789.,!?'-")
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def corpus_rows(rows: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of four topics with a customer each; two or three messages a customer; every text different."""
    draw = random.Random(seed)
    found: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(found) < rows:
        label = draw.choice(list(TOPICS))
        words = draw.sample(TOPICS[label], draw.randint(1, 3)) + draw.sample(COMMON, draw.randint(2, 9))
        draw.shuffle(words)
        text = " ".join([*words, str(len(found))])
        if text not in seen:
            seen.add(text)
            found.append({"text": text, "label": label, "customer": f"c{len(found) // 3}"})
    return found


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    """Rows as CSV; the columns are the keys of the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_job(folder: Path, base: Path, rows: list[dict[str, str]] | None = None, **sections: Any) -> Path:
    """A job file with its corpus in `folder`. Sections are merged over small, fast settings."""
    from ruamel.yaml import YAML

    write_csv(folder / "rows.csv", rows or corpus_rows(240))
    job: dict[str, Any] = {
        "name": "tiny",
        "model": {"base": str(base), "max_length": 32},
        "data": {"train": "rows.csv", "group": "customer"},
        "folds": {"k": 4, "test": "20%"},
        "train": {"epochs": 6, "batch_size": 16, "learning_rate": 5e-3, "precision": "fp32"},
        "output": str(folder / "out"),
    }
    for name, values in sections.items():
        job[name] = {**job.get(name, {}), **values} if isinstance(values, dict) else values
    if "init" in job["model"]:  # stands in place of a base
        del job["model"]["base"]
    path = folder / "job.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(job, file)
    return path


def command(*arguments: str | Path, python: str | Path = sys.executable) -> list[str]:
    """The raysft command line of this environment."""
    return [str(python), "-m", "raysft", *map(str, arguments)]


def run_cli(
    *arguments: str | Path,
    cwd: Path | None = None,
    timeout: float = 300,
    python: str | Path = sys.executable,
    hidden_gpus: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run raysft as a person does, in a process of its own, offline."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    environment |= {"CUDA_VISIBLE_DEVICES": ""} if hidden_gpus else {}
    return subprocess.run(
        command(*arguments, python=python),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_here(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As run_cli, in this process, which has loaded what another takes seconds to load. environment: more of it."""
    from raysft.cli.main import run

    words = [str(each) for each in arguments]
    with (
        redirect_stdout(io.StringIO()) as printed,
        redirect_stderr(io.StringIO()) as said,
        mock.patch.dict(os.environ, {"COLUMNS": "200", **environment}),
    ):
        code = run(words)
    return subprocess.CompletedProcess(words, code, printed.getvalue(), said.getvalue())
