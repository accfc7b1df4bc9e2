"""Texts with entities: words of some topics, each of the type of its topic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.support.jobs import TOPICS, corpus_rows

TYPES = ("account", "delivery")  # as sorted; words of the other topics are no entities
TYPE_OF = {word: name for name in TYPES for word in TOPICS[name]}


def tagged_rows(count: int, seed: int = 0, joined: int = 1) -> list[dict[str, Any]]:
    """Rows of `joined` sentences each, with their spans; neighbouring words of one type are entities of their own."""
    texts = [row["text"] for row in corpus_rows(count * joined, seed)]
    whole = [" ".join(texts[start : start + joined]) for start in range(0, len(texts), joined)]
    return [{"text": text, "spans": spans_in(text)} for text in whole]


def spans_in(text: str) -> list[list[Any]]:
    """The entities that stand in a text."""
    found = re.finditer(r"\S+", text)
    return [[*word.span(), TYPE_OF[word.group()]] for word in found if word.group() in TYPE_OF]


def write_tagged(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def tagged_sections(train: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    """Sections of a job (see write_job) whose corpus is `tagged.jsonl` beside it."""
    return {
        "task": "token-classification",
        "model": {"max_length": 16},  # so that longer texts are read in several windows
        "data": {"train": "tagged.jsonl", "text": "text", "label": "spans", "group": None, **data},
        "train": {
            "epochs": 8,
            "learning_rate": 5e-3,
            "head_learning_rate": 2e-2,
            "select": "f1_micro",
            **(train or {}),
        },
    }
