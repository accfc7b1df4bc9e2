"""A finished tagger: texts -> entities, with the characters at which they begin and end.

U units of a text (words, or pieces of words: corpus/windows.py), C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysft.corpus.encode import IGNORED, tag_names
from raysft.corpus.targets import Span
from raysft.corpus.windows import UNITS, Spans, Window, depths, offsets_of, spread_out, tags_of, unlabelled_windows
from raysft.errors import UsageError
from raysft.evaluation.evaluation import model_labels
from raysft.metrics.scores import Array
from raysft.metrics.tags import best_tags, entities_of
from raysft.model.padding import pad_id
from raysft.model.tagger import load_tagger
from raysft.storage.commit import read_json
from raysft.training.forward import evaluating
from raysft.training.objective import Batch, padded
from raysft.training.precision import Precision
from raysft.training.tagging import unit_scores


@dataclass(frozen=True)
class TaggedText:
    """One text as a tagger sees it."""

    spans: list[Span]  # the entities, sorted; offsets in characters
    confidence: float  # probability of the least sure of its units, 1 where it has none
    log_p: Array  # float32 (U, C)
    windows: list[Window]
    units: Array  # bool (tokens that belong to some window, in the order of the text): which are units


class Tagger:
    """A folder that `task: token-classification` wrote, on the device at hand.

    Raises UsageError for the folder of another tagger, whose tags mean something else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tags = tuple(model_labels(folder))
        if self.tags != tag_names(self.types):
            raise UsageError(
                f"{folder}: its labels are not O, then B- and I- of each type: {', '.join(self.tags[:6])}, ...",
                "Use the model folder of a raysft run.",
            )
        self._precision = Precision.plain(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities, in the order of their tags."""
        return tuple(tag.removeprefix("B-") for tag in self.tags[1::2])

    @cached_property
    def _facts(self) -> dict[str, Any]:
        path = self._folder / "raysft.json"
        return dict(read_json(path)) if path.is_file() else {}

    @cached_property
    def _model(self) -> torch.nn.Module:
        return load_tagger(self._folder).to(self._precision.device)

    def tag(self, texts: Sequence[str]) -> list[TaggedText]:
        """The entities of each text."""
        max_length = int(self._facts.get("max_length", 512))
        rows, windows = unlabelled_windows(texts, self._folder / "tokenizer.json", max_length)
        deepest = UNITS.index(self._facts.get("units", "words"))
        further = [depths(text, own) > deepest for text, own in zip(texts, windows, strict=True)]
        asked = [own for each, units in zip(windows, further, strict=True) for own in spread_out(each, units)]
        pad, device = pad_id(self._model), self._precision.device

        def batch_of(some: Array) -> Batch:
            ids, mask = padded(rows, some, pad)
            here = np.full(ids.shape, IGNORED, np.int64)
            for place, row in enumerate(some):
                here[place, : len(asked[row])] = np.where(asked[row] == 0, 0, IGNORED)
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            return Batch(inputs, torch.from_numpy(here))

        scores = unit_scores(evaluating(self._model, self._precision), batch_of, rows, device) if len(rows) else []
        ends = np.cumsum([len(each) for each in windows])
        log_p = [
            np.concatenate(scores[end - len(each) : end]) for each, end in zip(windows, ends.tolist(), strict=True)
        ]
        tags = best_tags(log_p)
        return [self._tagged(*each) for each in zip(texts, windows, further, log_p, tags, strict=True)]

    def true_tags(self, found: TaggedText, spans: Sequence[Span]) -> Array:
        """The tags that the units of a text should have, int64 (U,). spans: as a corpus row has them."""
        number = {tag: index for index, tag in enumerate(self.tags)}
        return tags_of(found.windows, Spans.of(spans, number))[found.units]

    def _tagged(self, text: str, windows: list[Window], further: Array, log_p: Array, tags: Array) -> TaggedText:
        """further: which of the tokens that belong to the windows are no units."""
        offsets, units = offsets_of(windows), ~further
        first = np.flatnonzero(units)
        last = np.append(first[1:], len(units)) - 1  # the last piece of each unit
        spans = []
        for start, end, kind in entities_of(tags):
            begin, stop = int(offsets[first[start], 0]), int(offsets[last[end - 1], 1])
            piece = text[begin:stop]  # some tokenizers count the space before a word to it
            begin, stop = begin + len(piece) - len(piece.lstrip()), stop - len(piece) + len(piece.rstrip())
            if begin < stop:
                spans.append((begin, stop, self.types[kind]))
        sure = log_p[np.arange(len(tags)), tags] if len(tags) else np.zeros(1)
        return TaggedText(spans, float(np.exp(sure.min())), log_p, windows, units)
