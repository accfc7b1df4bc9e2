"""The two kinds of work that can be spread: reading one source, and tokenizing one shard. Neither imports Ray.

Each leaves its file and, as its last act, a small JSON file beside it; what has that is not done again after a crash.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysft.corpus.encode import MASKED, NEXT, TAGS, Encoding, encode_rows
from raysft.corpus.pieces import piece_rows
from raysft.corpus.rows import Meaning, canonical
from raysft.corpus.tokens import shard_name, write_shard
from raysft.corpus.windows import window_rows
from raysft.preparation.features import Wanted
from raysft.preparation.rowstore import ReadFacts, facts_file, write_rows
from raysft.reading.columns import Columns
from raysft.reading.encoding import encoding_of
from raysft.reading.records import read_batches
from raysft.reading.sources import Source
from raysft.storage.commit import ASIDE, read_json, settle, sha256_file, write_json
from raysft.storage.layout import DataFolder


@dataclass(frozen=True)
class ReadSource:
    """Source -> its rows with features, in one file of `folder`."""

    folder: Path
    columns: Columns
    meaning: Meaning
    wanted: Wanted

    def __call__(self, item: tuple[int, Source]) -> dict[str, Any]:
        number, source = item
        done = facts_file(self.folder, number)
        if not done.exists():
            rows, scripts = write_rows(self.folder, number, self._tables(source), self.wanted)
            facts = ReadFacts(source.path, source.origin, source.format, encoding_of(source), rows, dict(scripts))
            write_json(done, asdict(facts))
        return dict(read_json(done))

    def _tables(self, source: Source) -> Iterator[pa.Table]:
        for batch in read_batches(source, self.columns):
            yield canonical(batch, source, self.columns, self.meaning)


@dataclass(frozen=True)
class Shard:
    """One row group of the corpus, and so one file of tokens."""

    sealed: bool
    number: int


@dataclass(frozen=True)
class TokenizeShard:
    """Row group -> shard. The rows of a shard are fixed by the corpus, so its bytes do not depend on who makes it."""

    folder: DataFolder
    how: Encoding

    def __call__(self, shard: Shard) -> dict[str, Any]:
        file = self.folder.tokens(shard.sealed) / shard_name(shard.number)
        done = file.with_suffix(".json")
        if not _whole(file, done):
            # A name of its own: the child of a parent that was killed may still be at the same shard.
            aside = file.with_name(f"{file.name}{ASIDE}{uuid.uuid4().hex[:8]}")
            corpus = pq.ParquetFile(self.folder.corpus(shard.sealed))
            rows = corpus.read_row_group(shard.number, columns=["row_id", "text", "label", "label_id", "record"])
            tokens, lengths = _encoder(self.how.kind)(rows, self.how)
            write_shard(aside, tokens)
            settle(aside, file)
            write_json(done, _facts(file, tokens, lengths))
        return dict(read_json(done))


def _encoder(kind: str) -> Callable[[pa.Table, Encoding], tuple[pa.Table, list[int]]]:
    if kind in {MASKED, NEXT}:
        return piece_rows
    return window_rows if kind == TAGS else encode_rows


def _whole(file: Path, done: Path) -> bool:
    """Whether a shard is there as its facts say; after a power cut a file may be there without its content."""
    return done.exists() and file.exists() and sha256_file(file) == read_json(done)["sha256"]


def _facts(file: Path, tokens: pa.Table, lengths: list[int]) -> dict[str, Any]:
    """What the manifest and the audit say of one shard. lengths: tokens without a limit -> rows of that length."""
    return {
        "rows": tokens.num_rows,
        "texts": int(pc.count_distinct(tokens.column("row_id")).as_py()),
        "tokens": int(pc.sum(pc.list_value_length(tokens.column("input_ids"))).as_py() or 0),
        "sha256": sha256_file(file),
        "lengths": {str(length): rows for length, rows in sorted(Counter(lengths).items())},
    }
