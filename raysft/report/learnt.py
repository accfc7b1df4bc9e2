"""What is learnt of conversations, on a few of them: for a terminal and the audit page. Training rows alone are shown,
with personal data masked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysft.audit.personal import find, mask
from raysft.corpus.answers import Answering
from raysft.corpus.rows import where
from raysft.corpus.sample import Run, clipped, learnt_runs, replaced, visible
from raysft.corpus.tokens import TokenizedRows
from raysft.preparation.prepared import Prepared

QUANTILES = (0.25, 0.75, 1.0)  # of the rows by their tokens, which of them are shown; the longest is cut where any is
TRIED = 20  # rows around one of these that are tried
FRAGMENT = 3  # characters from which a piece of an address or number is masked, where a cut has left it
HIDDEN = "***"


class Lesson(NamedTuple):
    """One conversation as it is learnt."""

    where: str
    tokens: int
    learnt: int  # of these
    cut: bool  # it lost its beginning
    runs: tuple[Run, ...]

    @property
    def facts(self) -> str:
        """What is said beside it."""
        cut = "; its beginning was cut at model.max_length" if self.cut else ""
        return f"{self.learnt} of {self.tokens} tokens are learnt{cut}"


def lessons(prepared: Prepared, answering: Answering) -> list[Lesson]:
    """Two or three training rows, from a short one to the longest; fewer where there are fewer, or where nothing tells
    whether personal data is masked."""
    tokens = prepared.tokens("train")
    order = np.argsort(tokens.lengths, kind="stable").tolist()
    found: dict[int, Lesson] = {}
    for share in QUANTILES if order else ():
        place = round(share * (len(order) - 1))
        near = sorted(range(len(order)), key=lambda other: abs(other - place))[:TRIED]
        rows = _rows(prepared, [int(tokens.row_id[order[other]]) for other in near])
        for at in (order[other] for other in near):
            lesson = _lesson(tokens, at, rows[int(tokens.row_id[at])], answering)
            if lesson is not None:
                found.setdefault(at, lesson)
                break
    return list(found.values())


def _lesson(tokens: TokenizedRows, at: int, row: dict[str, Any], answering: Answering) -> Lesson | None:
    """One row; None where its text, as its tokens give it back, is not the one in which personal data was found."""
    ids, marks = tokens.tokens(at).tolist(), tokens.targets(at).tolist()
    _, _, (length,) = answering.encode([row["record"]])
    runs, cut = learnt_runs(ids, marks, answering.tokenizer), length > len(ids)
    whole = answering.template.render(json.loads(row["record"]))[0]
    if not _found_again(runs, whole, cut):
        return None
    shown = [run._replace(text=visible(run.text)) for run in clipped(masked(runs, whole if cut else ""))]
    learnt = sum(mark == 1 for mark in marks[1:])
    return Lesson(where(row["source"], row["line"]), len(ids), learnt, cut, tuple(shown))


def _found_again(runs: Sequence[Run], whole: str, cut: bool) -> bool:
    """Whether all personal data of a conversation stands in what its tokens give back as it was written; of one that
    was cut, what ends before the part that was kept need not. Some tokenizers put spaces around signs."""
    text = "".join(run.text for run in runs)
    mark = len(runs[0].text) if runs and runs[0].special else 0  # which stays at the beginning
    kept = len(whole) - (len(text) - mark) if cut else 0
    return all(whole[hit.start : hit.end] in text or hit.start < kept for hit in find(whole))


def masked(runs: Sequence[Run], whole: str = "") -> list[Run]:
    """The runs without personal data. whole: of a conversation whose beginning was cut, all of it.

    Half a card number is no card number, so what the cut has left of one is looked for by what it was.
    """
    text = "".join(run.text for run in runs)
    places = [(hit.start, hit.end, mask(hit.kind, text[hit.start : hit.end])) for hit in find(text)]
    start = len(runs[0].text) if runs and runs[0].special else 0  # behind a mark that stays at the beginning
    left = max((_left(text, start, whole[hit.start : hit.end]) for hit in find(whole)), default=0)
    if left:
        places = [(start, start + left, HIDDEN), *(place for place in places if place[0] >= start + left)]
    return replaced(runs, places)


def _left(text: str, start: int, found: str) -> int:
    """How many characters at `start` are the end of what was found, and not all of it."""
    sizes = range(len(found) - 1, FRAGMENT - 1, -1)
    return next((size for size in sizes if text.startswith(found[-size:], start)), 0)


def _rows(prepared: Prepared, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """row_id -> source, line and record of some training rows; the sealed file stays closed."""
    columns = ["row_id", "source", "line", "record"]
    wanted = [("row_id", "in", list(ids))]
    rows: pa.Table = pq.read_table(prepared.folder.corpus(sealed=False), columns=columns, filters=wanted)
    return {row["row_id"]: row for row in rows.to_pylist()}
