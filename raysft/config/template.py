"""The job file that `raysft init` writes: complete, commented, and ready to run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

TEMPLATE = """\
# A raysft job. Run it:      raysft train {file}
# Look before you run:       raysft check {file}
# Every key and its meaning: docs/reference.md (or `raysft schema` for your editor)
name: {name}
task: {task}
model:
  base: {base}   # a hub id or a local folder
  max_length: 128                  # {length}
data:
  train: {train}
  # test: held_out.csv             # your own test rows; else a sealed share of train, see folds
{columns}
{group}
  audit: {{duplicates: drop, conflicts: quarantine, leakage: drop, max_rejected: 5%}}
folds: {{k: 5, test: 15%, seed: 7}}  # one fold validates, the test part stays sealed until the end
train:
  epochs: {epochs}
  batch_size: 16                   # whatever the number of workers
  learning_rate: 2e-4
  head_learning_rate: 1e-2
  precision: auto                  # bf16 where the hardware has it, else fp16 on a GPU, else fp32
{select}  workers: 1
  seed: 7
output: results
"""
KINDS = {
    "classification": {"length": "tokens kept of each text", "epochs": "12", "select": ""},
    "token-classification": {
        "length": "tokens of a window; longer texts are read in several, nothing is cut",
        "epochs": "8",
        "select": "  select: f1_micro                 # keep the checkpoint that finds the most entities right\n",
    },
}

CHAT = """\
# A raysft job that learns answers. Run it:  raysft train {file}
# Look before you run:       raysft data {file}   (it shows, in colour, what will be learnt)
# Ask the finished model:    raysft predict {file} --text "..."
# Every key and its meaning: docs/reference.md (or `raysft schema` for your editor)
name: {name}
task: generation
model:
  # A small model from random weights, with a tokenizer learnt from these texts: it needs no network, and no more than a
  # processor, but knows nothing except what stands in your file.
  init: {{architecture: llama, layers: 4, hidden: 128, heads: 4, vocabulary: 2048}}
  # A pretrained one writes better. Put these in place of init, and set learning_rate: 1e-3 and epochs: 3 below:
  # base: HuggingFaceTB/SmolLM2-135M-Instruct     # or Qwen/Qwen2.5-0.5B-Instruct, or a folder
  # lora: {{r: 16, alpha: 32}}       # adapters beside its weights, merged when all is done
  max_length: {max_length}                  # tokens; a longer conversation loses its beginning, never its last answer
data:
  train: {train}
  # test: held_out.jsonl           # your own test rows; else a sealed share of train, see folds
{columns}
{group}
  audit: {{duplicates: drop, leakage: drop, max_rejected: 5%}}
generation:
  learn: answers                   # of every answer; last: of the last one alone; all: of the prompts too
  max_new_tokens: {max_new_tokens}              # of an answer that is written
  rows: 200                        # of each part that are answered for scores; null: all
folds: {{k: 5, test: 15%, seed: 7}}  # one fold validates, the test part stays sealed until the end
train:
  epochs: 12
  batch_size: 16                   # whatever the number of workers
  learning_rate: 2e-3              # random weights take larger steps than pretrained ones
  precision: auto                  # bf16 where the hardware has it, else fp16 on a GPU, else fp32
  workers: 1
  seed: 7
output: results
"""
BYTES_PER_TOKEN = 2.5  # fewer than most texts have, so that most of them fit
SHORTEST, LONGEST = 64, 1024  # model.max_length
STEP = 32
MOST_TOKENS = 8192  # that model.max_length and generation.max_new_tokens may say

UNNAMED = "  format: conll                    # a token and its tag a line, an empty line between texts"
DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"


def job_text(
    file: Path,
    train: str,
    text: str | None,
    label: str | None,
    group: str | None,
    base: str = DEFAULT_BASE,
    task: str = "classification",
) -> str:
    """The commented job file for one training file; `group` may be unknown, and columns may have no names."""
    return TEMPLATE.format(
        **_of_file(file, train, group),
        task=task,
        base=scalar(base),
        columns=_roles({"text": text, "label": label}) or UNNAMED,
        **KINDS[task],
    )


def chat_text(
    file: Path, train: str, columns: Mapping[str, str | None], group: str | None, sizes: tuple[int, int]
) -> str:
    """The commented job file of a task: generation. columns: role -> name, None where there is none. sizes: bytes of
    a long conversation, and of a long answer."""
    whole, answer = (math.ceil(size / BYTES_PER_TOKEN / STEP) * STEP for size in sizes)
    return CHAT.format(
        **_of_file(file, train, group),
        columns=_roles(columns),
        # Answers that do not fit are rejected, so the limit is not for them.
        max_length=min(max(SHORTEST, answer + STEP, min(whole + STEP, LONGEST)), MOST_TOKENS),
        max_new_tokens=min(max(STEP, answer), MOST_TOKENS),
    )


def _of_file(file: Path, train: str, group: str | None) -> dict[str, str]:
    """What every job file says of its own name and of its data."""
    hint = "  # group: customer_id           # rows of one customer never stand in two parts"
    return {
        "file": printable(file),
        "name": scalar(run_name(file.stem)),
        "train": scalar(train),
        "group": f"  group: {scalar(group)}" if group else hint,
    }


def _roles(columns: Mapping[str, str | None]) -> str:
    return "\n".join(f"  {role}: {scalar(name)}" for role, name in columns.items() if name is not None)


def printable(file: Path) -> str:
    """A path as a command in a comment may hold it: on one line, quoted where a shell would read it otherwise."""
    return quote("".join(c if c.isprintable() else "?" for c in str(file)))


def run_name(stem: str) -> str:
    """A valid run name from a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "job"


def scalar(value: str) -> str:
    """A YAML scalar: plain where that is safe, else double-quoted (JSON, with what YAML cannot hold escaped)."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", value) and value.lower() not in _WORDS:
        return value
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))


_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}
