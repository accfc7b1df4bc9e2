"""Scores of a tagger on labelled texts: an entity is right where its edges and its type are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from raysft.corpus.rows import where
from raysft.corpus.targets import Span, compact, spans_of
from raysft.evaluation.evaluation import WORST, ClassScore, Evaluation, LabelSetBaseline, Mistake, Scores
from raysft.evaluation.tagger import TaggedText, Tagger
from raysft.metrics.scores import Array
from raysft.metrics.tags import Counts, count, tag_difference, tag_estimates, type_estimates
from raysft.preparation.prepared import Prepared

WORD = re.compile(r"\w+|[^\w\s]")
Words = tuple[str, ...]
Dictionary = dict[str, list[tuple[Words, str]]]


def evaluate_tags(prepared: Prepared, folder: Path) -> tuple[Evaluation, pa.Table]:
    """Scores on validation and on the sealed test part, and a line for each of their texts. folder: the artifact."""
    tagger = Tagger(folder)
    parts, tables, counts = {}, [], {}
    for name in ("validation", "test"):
        corpus = prepared.part(name)
        if corpus.num_rows:
            found = tagger.tag(corpus.column("text").to_pylist())
            counts[name] = count_tags(tagger, corpus, found)
            parts[name] = score_tags(tagger, corpus, found, counts[name])
            tables.append(_predictions(corpus, name, found, counts[name]))
    headline = "test" if "test" in parts else "validation"
    beside = {}
    if headline in parts:
        beside = _baselines(tagger.types, prepared.part("train"), prepared.part(headline), counts[headline])
    lines = pa.concat_tables(tables) if tables else pa.table({"row_id": pa.array([], pa.int64())})
    return Evaluation(list(tagger.types), parts.get("test"), parts.get("validation"), beside, headline), lines


def count_tags(tagger: Tagger, corpus: pa.Table, found: Sequence[TaggedText]) -> Counts:
    """corpus: with `label`, spans as JSON, all of types that the tagger knows."""
    true = [spans_of(label) for label in corpus.column("label").to_pylist()]
    tags = [tagger.true_tags(each, spans) for each, spans in zip(found, true, strict=True)]
    losses = [-each.log_p[np.arange(len(own)), own].sum() for each, own in zip(found, tags, strict=True)]
    given = [each.spans for each in found]
    units = np.array([len(each) for each in tags])
    return _count(tagger.types, true, given, np.array(losses, np.float64), units)


def score_tags(tagger: Tagger, corpus: pa.Table, found: Sequence[TaggedText], counts: Counts) -> Scores:
    """All that is known of the tagger on these texts. corpus: also with `unit`, `source`, `line` and `text`."""
    units = corpus.column("unit").to_numpy()
    return Scores(
        metrics=tag_estimates(counts, units),
        classes=_type_scores(tagger.types, counts, units),
        confusion=[],
        worst=_worst(corpus, found, counts),
    )


def _count(
    types: Sequence[str],
    true: Sequence[Sequence[Span]],
    given: Sequence[Sequence[Span]],
    losses: Array | None = None,
    units: Array | None = None,
) -> Counts:
    number = {name: index for index, name in enumerate(types)}

    def numbered(each: Sequence[Span]) -> list[tuple[int, int, int]]:
        return [(start, end, number[name]) for start, end, name in each]

    return count([numbered(each) for each in true], [numbered(each) for each in given], len(types), losses, units)


def _type_scores(types: Sequence[str], counts: Counts, units: Array) -> list[ClassScore]:
    f1 = type_estimates(counts, units)
    hits, true, given = (each.sum(axis=0) for each in (counts.hits, counts.true, counts.given))
    precision, recall = hits / np.maximum(given, 1), hits / np.maximum(true, 1)
    return [
        ClassScore(name, float(precision[k]), float(recall[k]), f1[k], int(given[k])) for k, name in enumerate(types)
    ]


def _worst(corpus: pa.Table, found: Sequence[TaggedText], counts: Counts) -> list[Mistake]:
    """Of the texts with a wrong entity those of which the model was most sure."""
    wrong = np.flatnonzero(~counts.exact)
    sure = np.array([found[row].confidence for row in wrong.tolist()])
    order = wrong[np.argsort(-sure, kind="stable")][:WORST]
    mistakes = []
    for row, line in zip(order, corpus.take(order).to_pylist(), strict=True):
        true, given = spans_of(line["label"]), found[row].spans
        mistakes.append(
            Mistake(
                where=where(line["source"], line["line"]),
                text=line["text"],
                label=_named(line["text"], true),
                predicted=_named(line["text"], given),
                confidence=found[row].confidence,
                spans=true,
                predicted_spans=given,
            )
        )
    return mistakes


def _named(text: str, spans: Iterable[Span]) -> str:
    return ", ".join(f"{name}: {text[start:end]}" for start, end, name in spans) or "(none)"


def _predictions(corpus: pa.Table, part: str, found: Sequence[TaggedText], counts: Counts) -> pa.Table:
    """One line a text: where it stands, its entities, those it was given, and the probability of the true tags."""
    columns = corpus.select(["row_id", "source", "line", "text", "label"])
    extra = {
        "part": pa.array([part] * corpus.num_rows, pa.string()),
        "predicted": pa.array([compact(each.spans) for each in found], pa.string()),
        "confidence": pa.array([each.confidence for each in found], pa.float64()),
        "log_probability_of_label": pa.array(-counts.losses, pa.float64()),
    }
    for name, column in extra.items():
        columns = columns.append_column(name, column)
    return columns


def _baselines(types: Sequence[str], train: pa.Table, part: pa.Table, ours: Counts) -> dict[str, LabelSetBaseline]:
    """What was an entity in training, wherever it stands: the baseline of CoNLL-2002 (Tjong Kim Sang 2002)."""
    true = [spans_of(label) for label in part.column("label").to_pylist()]
    known = dictionary(train.column("text").to_pylist(), map(spans_of, train.column("label").to_pylist()))
    given = [look_up(text, known) for text in part.column("text").to_pylist()]
    theirs, units = _count(types, true, given), part.column("unit").to_numpy()
    found = tag_estimates(theirs, units)
    gain = tag_difference(ours, theirs, units)
    return {"dictionary": LabelSetBaseline(found["accuracy"], found["f1_macro"], found["f1_micro"], gain)}


def dictionary(texts: Iterable[str], spans: Iterable[Sequence[Span]]) -> Dictionary:
    """The words of every entity -> the type they have most often; by their first word, the longest first."""
    seen: dict[Words, Counter[str]] = defaultdict(Counter)
    for text, entities in zip(texts, spans, strict=True):
        for start, end, name in entities:
            seen[tuple(WORD.findall(text[start:end]))][name] += 1
    found: Dictionary = defaultdict(list)
    for words, names in sorted(seen.items(), key=lambda each: -len(each[0])):
        if words:
            found[words[0]].append((words, min(names, key=lambda name: (-names[name], name))))
    return dict(found)


def look_up(text: str, known: Dictionary) -> list[Span]:
    """The entities of a text that a dictionary knows, the longest at each place, from left to right."""
    places = [found.span() for found in WORD.finditer(text)]
    words = tuple(text[start:end] for start, end in places)
    spans: list[Span] = []
    at = 0
    while at < len(words):
        for entity, name in known.get(words[at], ()):
            if words[at : at + len(entity)] == entity:
                spans.append((places[at][0], places[at + len(entity) - 1][1], name))
                at += len(entity) - 1
                break
        at += 1
    return spans
