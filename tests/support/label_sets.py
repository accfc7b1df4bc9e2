"""A small corpus of rows with several labels each, in memory and as a job's file."""

from __future__ import annotations

import random

from raysft.corpus.encode import encode_texts
from raysft.corpus.tokens import TokenizedRows, from_lists
from raysft.storage.pretrained import Base
from tests.support.jobs import COMMON, TOPICS

LABELS = tuple(sorted(TOPICS))
SEPARATOR = ";"


def label_set_rows(rows: int, seed: int = 0, most: int = 3) -> list[dict[str, str]]:
    """Rows with words of one to `most` topics, whose names are their labels; every text different."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        topics = draw.sample(LABELS, draw.randint(1, most))
        words = [word for topic in topics for word in draw.sample(TOPICS[topic], 2)] + draw.sample(COMMON, 4)
        draw.shuffle(words)
        text = " ".join([*words, str(number)])
        found.append({"text": text, "label": SEPARATOR.join(sorted(topics)), "customer": f"c{number // 2}"})
    return found


def tokenized(base: Base, rows: list[dict[str, str]]) -> TokenizedRows:
    """These rows as training reads them."""
    ids, _ = encode_texts([row["text"] for row in rows], base.folder / "tokenizer.json", 32)
    targets = [[LABELS.index(name) for name in row["label"].split(SEPARATOR)] for row in rows]
    return from_lists(ids, [-1] * len(rows), targets)
