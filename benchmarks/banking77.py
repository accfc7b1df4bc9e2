"""Banking77 as raysft reads it: the few-shot corpus comes as parallel line files, one for texts, one for labels."""

from __future__ import annotations

import csv
from pathlib import Path

FEWSHOT = Path("../shared/data/banking77_fewshot/Datasets/BANKING77")


def to_csv(part: Path, target: Path) -> int:
    """Write the rows of a part (a folder with seq.in and label) as CSV; returns their number."""
    texts = (part / "seq.in").read_text(encoding="utf-8").splitlines()
    labels = (part / "label").read_text(encoding="utf-8").splitlines()
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, labels, strict=True))
    return len(texts)
