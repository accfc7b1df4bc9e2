"""Cells -> what the model shall say, as one canonical string, and back.

One label is the label itself. Several labels are a JSON list, sorted, without repeats. Tags and spans are a JSON list
of [start, end, "TYPE"], sorted, with offsets in characters (code points) of the clean text.
"""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise
from typing import Any

from raysft.corpus.cells import Unusable, as_text, kind, list_of, short, text_of
from raysft.corpus.offsets import clean_with_offsets
from raysft.corpus.tags import entities

SEPARATORS = ";|,"
TYPE_KEYS = ("label", "type", "tag", "entity")
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

Span = tuple[int, int, str]


def one_label(cell: Any) -> str:
    """The label of a row that has one. Raises Unusable: several_labels, missing_label, label_is_not_text."""
    several = list_of(cell)
    if several is not None:
        raise Unusable("several_labels", f"{kind(several)}, {short(cell)}; set data.multi_label: true")
    label = text_of(cell, "label")
    if not label:
        raise Unusable("missing_label")
    return label


def label_set(cell: Any, separator: str | None, found_separator: str | None = None) -> str:
    """The labels of a row that may have several: a JSON list, sorted, without repeats.

    A list is a list. A text is cut at `separator`, which the person wrote; without one it is a JSON list, or it is cut
    at `found_separator`, the one that the first rows of the corpus have. Another of ; | , in it is refused: nobody
    knows whether it stands between labels or inside of one.
    Raises Unusable: missing_label, bad_labels, label_is_not_text.
    """
    found = {text_of(item, "label") for item in _label_items(cell, separator, found_separator)} - {""}
    if not found:
        raise Unusable("missing_label")
    return compact(sorted(found))


def labels_of(label: str) -> tuple[str, ...]:
    """The labels of a row whose label is a JSON list of them."""
    return tuple(json.loads(label))


def spans_of(label: str) -> list[Span]:
    """(start, end, type) of a row whose label is a JSON list of spans."""
    return [(start, end, name) for start, end, name in json.loads(label)]


def compact(value: Any) -> str:
    """JSON in the one form in which equal values are equal strings."""
    return ENCODER.encode(value)


def separators_in(cell: Any) -> set[str]:
    """Which of ; | , stand in a text that is no list."""
    if not isinstance(cell, str) or list_of(cell) is not None:
        return set()
    return set(SEPARATORS) & set(cell)


def tags_in(cell: Any) -> list[str]:
    """The tags of a cell; none where it holds spans, or what is no tag."""
    try:
        return [_tag(item) for item in _tags_or_spans(cell)]
    except Unusable:
        return []


def tagged_text(text_cell: Any, label_cell: Any, plain: bool | None = None, strict: bool = False) -> tuple[str, str]:
    """(text, spans) of a row with tokens and tags, or with a text and spans in it.

    plain, strict: how the tags of the corpus are written; see `entities`.
    Raises Unusable: blank_text, missing_label, tags_do_not_match, bad_tag, inside_without_begin, bad_span, blank_token,
    X_is_not_text.
    """
    items = _tags_or_spans(label_cell)
    tokens = list_of(text_cell)
    if items and all(isinstance(item, list | tuple | dict) for item in items):
        return _spanned(text_cell, items)
    if not items and tokens is None:
        return _spanned(text_cell, [])
    return _tagged(text_of(text_cell, "text").split() if tokens is None else tokens, items, plain, strict)


def plain_text(text_cell: Any) -> str:
    """The text of a row that needs no tags: a text, or tokens."""
    tokens = list_of(text_cell)
    if tokens is None:
        return text_of(text_cell, "text")
    return " ".join(filter(None, map(_token, tokens)))


def _label_items(cell: Any, separator: str | None, found_separator: str | None) -> list[Any]:
    if not isinstance(cell, str):
        found = list_of(cell)
        return [cell] if found is None else found
    if separator is not None:
        return cell.split(separator)
    found = list_of(cell)
    if found is not None:
        return found
    text = cell.strip()
    if text.startswith("[") and text.endswith("]"):
        raise Unusable("bad_labels", f"{short(text)} is no JSON list; write one, or set data.label_separator")
    others = [mark for mark in SEPARATORS if mark in cell and mark != found_separator]
    if others:
        usual = f"have {found_separator} between labels" if found_separator else "have no separator"
        detail = f"{others[0]} in {short(text)}, while the first rows {usual}; set data.label_separator"
        raise Unusable("bad_labels", detail)
    return cell.split(found_separator) if found_separator else [cell]


def _tags_or_spans(cell: Any) -> list[Any]:
    found = list_of(cell)
    if found is not None:
        return found
    tags = text_of(cell, "label").split()
    if not tags:
        raise Unusable("missing_label")
    return list(tags)


def _tagged(tokens: list[Any], tags: list[Any], plain: bool | None, strict: bool) -> tuple[str, str]:
    """Tokens joined by one space; a token of which nothing is left goes, if it is outside of every entity."""
    words = [_token(token) for token in tokens]
    if not any(words):
        raise Unusable("blank_text")
    if len(words) != len(tags):
        raise Unusable("tags_do_not_match", f"{len(words)} tokens and {len(tags)} tags")
    found = entities([_tag(tag) for tag in tags], plain, strict)
    for start, end, name in found:
        if not all(words[start:end]):
            raise Unusable("blank_token", f"nothing is left of token {start + words[start:end].index('') + 1}, {name}")
    places, size = [], 0
    for word in words:
        places.append(size)
        size += len(word) + 1 if word else 0
    spans = [(places[start], places[end - 1] + len(words[end - 1]), name) for start, end, name in found]
    return " ".join(filter(None, words)), compact(spans)


def _token(token: Any) -> str:
    """A clean token without any space in it."""
    return unicodedata.normalize("NFC", "".join(text_of(token, "text").split()))


def _tag(tag: Any) -> str:
    if isinstance(tag, list | tuple | dict):
        raise Unusable("bad_tag", f"{kind(tag)} among tags")
    return text_of(tag, "label")


def _spanned(cell: Any, items: list[Any]) -> tuple[str, str]:
    """Spans count characters of the text as it stands in the file; cleaning moves them along."""
    if isinstance(cell, list | tuple):
        raise Unusable("bad_span", "spans beside a list of tokens; write one tag for each token")
    text = as_text(cell, "text")
    if not text_of(text, "text"):
        raise Unusable("blank_text")
    cleaned = clean_with_offsets(text)
    spans: list[Span] = []
    for start, end, name in sorted({_span(item, len(text)) for item in items}):
        start, end = cleaned.move(start, end)
        if start >= end:
            raise Unusable("bad_span", f"nothing is left of a {name}: it covers space or control characters only")
        spans.append((start, end, name))
    spans = sorted(set(spans))
    for first, second in pairwise(spans):
        if second[0] < first[1]:
            raise Unusable("bad_span", f"{list(first)} and {list(second)} overlap in the clean text")
    return cleaned.text, compact(spans)


def _span(item: Any, size: int) -> Span:
    """[start, end, type] or an object with these, checked against a text of `size` characters."""
    start, end, name = _span_parts(item)
    if type(start) is not int or type(end) is not int:
        raise Unusable("bad_span", f"start and end must be whole numbers, found {short(item)}")
    if not 0 <= start < end <= size:
        raise Unusable("bad_span", f"{short(item)} does not fit a text of {size} characters")
    found = text_of(name, "label")
    if not found:
        raise Unusable("bad_span", f"{short(item)} has no type")
    return start, end, found


def _span_parts(item: Any) -> tuple[Any, Any, Any]:
    if isinstance(item, dict):
        name = next((item[key] for key in TYPE_KEYS if item.get(key) is not None), None)
        return item.get("start"), item.get("end"), name
    if len(item) != 3:
        raise Unusable("bad_span", f"found {kind(item)}, wanted [start, end, type]")
    return item[0], item[1], item[2]
