"""Texts as points of the frozen base, kept block by block: this costs more than all the rest of the audit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from raysft.corpus.encode import encode_texts
from raysft.events import Listener
from raysft.storage.commit import write_bytes
from raysft.storage.pretrained import Base

BLOCK = 2000  # texts: some seconds of work, the most that a crash can lose
Array = np.ndarray[Any, Any]


def points_of(texts: list[str], base: Base, max_length: int, folder: Path, listener: Listener) -> Array:
    """A point of unit length for each text, float32 (texts, hidden). Blocks that `folder` holds are not computed again.

    Blocks are cut from the sorted texts: a point depends, by rounding, on the texts that it is computed beside, and
    these must depend neither on the order of the rows nor on where we were killed.
    """
    order = np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
    blocks = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
    files = [folder / f"{number:05d}.npy" for number in range(len(blocks))]
    missing = [(file, rows) for file, rows in zip(files, blocks, strict=True) if not file.exists()]
    if missing:
        _compute(missing, texts, base, max_length, listener)
    found = np.concatenate([np.load(file) for file in files])
    points = np.empty_like(found)
    points[order] = found
    return points


def _compute(
    missing: list[tuple[Path, Array]], texts: list[str], base: Base, max_length: int, listener: Listener
) -> None:
    from raysft.model.embed import Embedder

    embed = Embedder(base)
    done = len(texts) - sum(len(rows) for _, rows in missing)

    def progress(here: int, _: int) -> None:
        listener.progress(done + here, len(texts), "rows read for wrong labels")

    for file, rows in missing:
        ids, _ = encode_texts([texts[row] for row in rows.tolist()], base.folder / "tokenizer.json", max_length)
        buffer = io.BytesIO()
        np.save(buffer, embed(ids, progress))
        write_bytes(file, buffer.getvalue())
        done += len(rows)
