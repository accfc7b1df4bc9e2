"""Tagged texts -> windows of tokens: a long text becomes several, which overlap, so that nothing of it is cut.

A token of an overlap stands in two windows. It belongs to the one in which it has more context: there it is learnt and
predicted, in the other it is context alone. So each token of a text belongs to one window, in the order of the text.

Numbers of targets: a tag of the C tags of a job for the first piece of a word, C more for a piece that goes on in a
word, IGNORED for special tokens and for those that belong to another window. What a word is the tokenizer says.
T tokens of a window, S spans of a text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.corpus.encode import IGNORED, Encoding
from raysft.corpus.targets import Span, spans_of
from raysft.corpus.tokens import TOKENS, TokenizedRows, from_lists, lists_of

OVERLAP = 4  # the share of a window that stands in the next one too: 1 / OVERLAP
AT_ONCE = 256  # texts whose encodings, some hundred bytes a token, are in memory together
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """Some consecutive tokens of one text."""

    ids: Sequence[int]  # special tokens included
    offsets: Array  # int64 (T, 2): where each token stands in the text
    belongs: Array  # bool (T,): not special, and not of another window
    goes_on: Array  # bool (T,): a further piece of the word before it


def windows_of(texts: Sequence[str], tokenizer: Path, max_length: int) -> Iterator[list[Window]]:
    """The windows of each text; of one without any token a single window of special tokens alone."""
    library, shared = _windowing(str(tokenizer), max_length)
    for start in range(0, len(texts), AT_ONCE):
        for encoding in library.encode_batch(list(texts[start : start + AT_ONCE])):
            parts = [encoding, *encoding.overflowing]
            yield [
                _window(part, shared * (index > 0), shared * (index + 1 < len(parts)))
                for index, part in enumerate(parts)
            ]


@functools.lru_cache(maxsize=4)
def _windowing(file: str, max_length: int) -> tuple[Any, int]:
    """(the fast tokenizer of a base, which cuts a text into windows; tokens that two windows share)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    # Two at the least: what belongs to a window has a token before it, in every window but the first.
    shared = max(2, (max_length - tokenizer.num_special_tokens_to_add(False)) // OVERLAP)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, stride=shared)
    return tokenizer, shared


def _window(encoding: Any, before: int, after: int) -> Window:
    """before, after: tokens that it shares with the window before it, and with the one after it."""
    special = np.array(encoding.special_tokens_mask, bool)
    words = np.array([-1 if word is None else word for word in encoding.word_ids])
    places = np.flatnonzero(~special)
    belongs = np.zeros(len(special), bool)
    # Of what two windows share the first half, rounded down, belongs to the first of them.
    belongs[places[before // 2 : len(places) - (after - after // 2)]] = True
    goes_on = np.zeros(len(special), bool)
    goes_on[1:] = (words[1:] == words[:-1]) & (words[1:] >= 0)
    return Window(encoding.ids, np.array(encoding.offsets, np.int64).reshape(-1, 2), belongs, goes_on)


def window_rows(rows: pa.Table, how: Encoding) -> tuple[pa.Table, list[int]]:
    """(windows in schema TOKENS in the order of the texts, tokens of each text) of corpus rows: row_id, text, label.

    Every window carries the row_id of its text.
    """
    number = {tag: index for index, tag in enumerate(how.labels)}
    ids: list[Sequence[int]] = []
    targets: list[list[int]] = []
    owners: list[int] = []
    lengths: list[int] = []
    found = windows_of(rows.column("text").to_pylist(), how.tokenizer, how.max_length)
    for row_id, label, windows in zip(
        rows.column("row_id").to_pylist(), rows.column("label").to_pylist(), found, strict=True
    ):
        spans = spans_of(label)
        ids += [window.ids for window in windows]
        targets += [_numbers(window, spans, number).tolist() for window in windows]
        owners += [row_id] * len(windows)
        lengths.append(length_of(windows))
    labels = pa.array([-1] * len(ids), pa.int32())
    columns = [pa.array(owners, pa.int64()), labels, lists_of(ids), lists_of(targets)]
    return pa.table(columns, schema=TOKENS), lengths


def length_of(windows: Sequence[Window]) -> int:
    """Tokens of a text without a limit, special ones included."""
    special = len(windows[0].ids) - int((windows[0].offsets[:, 1] > 0).sum()) if windows else 0
    return sum(int(window.belongs.sum()) for window in windows) + special


def _numbers(window: Window, spans: Sequence[Span], number: dict[str, int]) -> Array:
    """What the targets of a window are, int64 (T,)."""
    tags = tags_at(window, spans, number) + window.goes_on * len(number)
    return np.where(window.belongs, tags, IGNORED)


def tags_at(window: Window, spans: Sequence[Span], number: dict[str, int]) -> Array:
    """The tag of each token, int64 (T,): B- where it is the first that lies in a span or reaches into it, I- on those
    after it, O outside. spans: sorted, none of which overlaps another. number: of each tag.

    A token that reaches into two spans counts to the first.
    """
    outside = number["O"]
    if not spans:
        return np.full(len(window.ids), outside)
    start, end = np.array([span[0] for span in spans]), np.array([span[1] for span in spans])
    begin = np.array([number[f"B-{span[2]}"] for span in spans])
    inside = np.array([number[f"I-{span[2]}"] for span in spans])
    first, last = window.offsets.T
    at = np.searchsorted(end, first, side="right")
    within = at < len(spans)
    at = np.minimum(at, len(spans) - 1)
    within &= (start[at] < last) & (first < last)
    at = np.where(within, at, -1)
    before = np.concatenate([[-1], at[:-1]])
    # In a window that begins within a span, that is no token of its own: see `belongs`.
    return np.where(within, np.where(at == before, inside[at], begin[at]), outside)


def unlabelled_windows(
    texts: Sequence[str], tokenizer: Path, max_length: int
) -> tuple[TokenizedRows, list[list[Window]]]:
    """(windows of texts without tags as rows by position, the windows of each text)."""
    found = list(windows_of(texts, tokenizer, max_length))
    ids = [window.ids for windows in found for window in windows]
    return from_lists(ids, [-1] * len(ids)), found
