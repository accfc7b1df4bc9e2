"""The words of a text as people write them: what stands between spaces, without the punctuation at its edges.

A tokenizer takes more apart: @ann_lee, #cats and https://ex.org are many of its words, and one word here. Where
entities are made of whole words, their other parts carry no tag of their own, and a model that has to call them outside
learns that the names in them are none (docs/benchmarks.md, Entities).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

RUN = re.compile(r"\S+")
OPENING = "\"'([{<«“„‘‚¿¡"
CLOSING = ".,;:!?…\"')]}>»”“’。，、；：！？"
POSSESSIVE = ("'s", "’s")
Array = np.ndarray[Any, Any]


def word_starts(text: str) -> Array:
    """The offsets at which a word begins, ascending, int64. Each character that is no space belongs to the word that
    begins at or last before it.

    Of a run between spaces the opening punctuation is a word, and so is the closing one, with an 's before it. A run of
    nothing else is one word: :) and ... are.
    """
    starts: list[int] = []
    for match in RUN.finditer(text):
        begin, run = match.start(), match[0]
        core = run.rstrip(CLOSING)
        word = core.lstrip(OPENING)
        starts.append(begin)
        if not word or core.lower() in POSSESSIVE:
            continue
        first, last = len(core) - len(word), len(core)
        if len(word) > len(POSSESSIVE[0]) and word.lower().endswith(POSSESSIVE):
            last -= len(POSSESSIVE[0])
        starts += [begin + first] * (first > 0) + [begin + last] * (last < len(run))
    return np.array(starts, np.int64)
