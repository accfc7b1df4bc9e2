"""The job file that `raysft init` writes: complete, commented, and ready to run."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
  precision: auto                  # bf16 where the processor has it, else fp32
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
    known = f"  group: {_scalar(group)}" if group else ""
    hint = "  # group: customer_id           # rows of one customer never stand in two parts"
    columns = [f"  {role}: {_scalar(name)}" for role, name in (("text", text), ("label", label)) if name is not None]
    return TEMPLATE.format(
        file="".join(c if c.isprintable() else "?" for c in str(file)),
        name=_scalar(run_name(file.stem)),
        task=task,
        base=_scalar(base),
        train=_scalar(train),
        columns="\n".join(columns) or UNNAMED,
        group=known or hint,
        **KINDS[task],
    )


def run_name(stem: str) -> str:
    """A valid run name from a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "job"


def _scalar(value: str) -> str:
    """A YAML scalar: plain where that is safe, else double-quoted (JSON, with what YAML cannot hold escaped)."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", value) and value.lower() not in _WORDS:
        return value
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))


_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}
