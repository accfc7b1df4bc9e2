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
from raysft.audit.near import band_keys, band_shape
from raysft.audit.personal import personal_data
from raysft.audit.repeats import text_keys
from raysft.config.sections import AuditSection

PERSONAL = ("emails", "phones", "cards")
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
    scripts), one_word bool, band_000 ... uint32; and the scripts of the rows that were read without fault."""
    texts = rows.column("text").to_pylist()
    readable = np.flatnonzero(rows.column("reason").is_null().to_numpy(zero_copy_only=False))
    found, mixed = scripts([texts[row] for row in readable])
    columns: dict[str, Array] = {
        "text_key": text_keys(texts),
        "label_key": _exact_keys(rows.column("label").to_pylist()),
        "mixed": np.isin(np.arange(len(texts)), readable[[place for place, _ in mixed]]),
    }
    columns["one_word"] = np.isin(np.arange(len(texts)), one_word(texts))
    columns |= dict(zip(PERSONAL, personal_data(texts), strict=True))
    if wanted.bands:
        columns |= {band_name(i): keys for i, keys in enumerate(band_keys(texts, wanted.similarity).T)}
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(np.ascontiguousarray(values)))
    return rows, found


def _exact_keys(labels: list[str]) -> Array:
    """A 64-bit key of each label as it is written."""
    keys = {each: hashlib.blake2b(each.encode("utf-8", "replace"), digest_size=8).digest() for each in set(labels)}
    return np.frombuffer(b"".join(keys[each] for each in labels), "<u8")
