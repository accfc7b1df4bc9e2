"""What each row is known by when rows are compared: computed batch by batch where they are read, a few bytes each."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.audit.language import scripts
from raysft.audit.lengths import one_word
from raysft.audit.minhash import SKETCH_WORDS, band_shape, fingerprints
from raysft.audit.personal import MOST, personal_data
from raysft.audit.repeats import text_keys
from raysft.config.sections import AuditSection

PERSONAL = ("emails", "phones", "cards")
SKETCHES = tuple(f"sketch_{number}" for number in range(SKETCH_WORDS))
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Wanted:
    """Which features the settings ask for."""

    similarity: float

    @staticmethod
    def of(settings: AuditSection) -> Wanted:
        return Wanted(settings.similarity)

    @property
    def bands(self) -> int:
        """Band keys of each row; none where near-duplicates are not looked for."""
        return 0 if self.similarity >= 1 else band_shape(self.similarity)[0]


def band_name(number: int) -> str:
    return f"band_{number:03d}"


def add_features(rows: pa.Table, wanted: Wanted) -> tuple[pa.Table, Counter[str]]:
    """`rows` with text_key and label_key uint64, emails, phones and cards uint8, mixed bool (a word of look-alike
    scripts), one_word bool, band_000 ... uint32, sketch_0 ... uint64; and the scripts of the rows without fault."""
    texts = rows.column("text").to_pylist()
    readable = np.flatnonzero(rows.column("reason").is_null().to_numpy(zero_copy_only=False))
    found, mixed = scripts([texts[row] for row in readable])
    columns: dict[str, Array] = {
        "text_key": text_keys(texts),
        "label_key": _exact_keys(rows.column("label").to_pylist()),
        "mixed": np.isin(np.arange(len(texts)), readable[[place for place, _ in mixed]]),
    }
    columns["one_word"] = np.isin(np.arange(len(texts)), one_word(texts))
    columns |= dict(zip(PERSONAL, _personal(texts, rows.column("label").to_pylist()), strict=True))
    if wanted.bands:
        bands, sketches = fingerprints(texts, wanted.similarity)
        columns |= {band_name(number): keys for number, keys in enumerate(bands.T)}
        columns |= dict(zip(SKETCHES, sketches.T, strict=True))
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(np.ascontiguousarray(values)))
    return rows, found


def whole_row(text: str, label: str) -> str:
    """All that a person wrote in a row; of a conversation all turns, since its label is the last answer."""
    return f"{text}\n\n{label}"


def _personal(texts: list[str], labels: list[str]) -> list[Array]:
    """(emails, phones, cards) of whole rows, uint8. Each spelling of a label is read once: labels of classes repeat."""
    spellings = list(dict.fromkeys(labels))
    place = {label: number for number, label in enumerate(spellings)}
    at = [place[label] for label in labels]
    pairs = zip(personal_data(texts), personal_data(spellings), strict=True)
    return [np.minimum(of_text.astype(np.uint16) + of_label[at], MOST).astype(np.uint8) for of_text, of_label in pairs]


def _exact_keys(labels: list[str]) -> Array:
    """A 64-bit key of each label as it is written."""
    keys = {each: hashlib.blake2b(each.encode("utf-8", "replace"), digest_size=8).digest() for each in set(labels)}
    return np.frombuffer(b"".join(keys[each] for each in labels), "<u8")
