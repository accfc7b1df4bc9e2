"""The corpora of train_cpu.py: Banking77 as it is, and longer texts made of it. The same in every call."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

CORPORA = {"banking77": 77, "joined": 10}  # and the number of labels that are used
SHORTEST = 20  # tokens of a joined text
Rows = list[tuple[str, str]]  # text, label


def write_corpus(name: str, data: Path, counts: dict[str, int], longest: int, base: str, folder: Path) -> None:
    """train.csv and test.csv below `folder`, from those of Banking77 in `data`, at most counts[part] rows each."""
    draw = np.random.default_rng(0)
    labels = set(sorted({label for _, label in read(data / "train.csv")})[: CORPORA[name]])
    for part in ("train", "test"):
        known = [row for row in read(data / f"{part}.csv") if row[1] in labels]
        if name == "joined":
            rows = joined(known, counts[part], longest, base, draw)
        else:
            rows = [known[place] for place in draw.permutation(len(known))[: counts[part]]]
        labels = {label for _, label in rows}  # a label that no training row has cannot be learnt
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *rows])


def joined(known: Rows, count: int, longest: int, base: str, draw: np.random.Generator) -> Rows:
    """Texts of one label, drawn until they have at least so many tokens; log-uniform from SHORTEST to `longest`.

    The last one goes beyond the limit, where the tokenizer cuts it.
    """
    from raysft.corpus.encode import encode_texts
    from raysft.storage.pretrained import resolve_base

    texts = [text for text, _ in known]
    ids, _ = encode_texts(texts, resolve_base(base).folder / "tokenizer.json", longest)
    tokens = {text: len(each) - 2 for text, each in zip(texts, ids, strict=True)}
    found = []
    for _ in range(count):
        label = known[draw.integers(len(known))][1]
        alike = [text for text, its in known if its == label]
        left, chosen = SHORTEST * (longest / SHORTEST) ** draw.random() - 2, []
        while left > 0:
            chosen.append(alike[draw.integers(len(alike))])
            left -= tokens[chosen[-1]]
        found.append((" ".join(chosen), label))
    return found


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]
