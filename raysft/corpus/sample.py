"""A tokenized row as text again, in runs: what of it is learnt, what is only read, and which marks are special."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from raysft.corpus.special import special_ids

ELLIPSIS = " … "
RUN_MOST, HEAD = 400, 250  # characters shown of a run, and of these at its beginning
MOST = 1500  # characters shown of a row; the last answer stands at its end


class Run(NamedTuple):
    """Neighbouring tokens with the same fate, as text."""

    text: str
    learnt: bool  # they have a loss
    special: bool = False  # they stand for no text, such as <|end|>


def learnt_runs(ids: Sequence[int], marks: Sequence[int], tokenizer: Path) -> list[Run]:
    """The runs of a row; joined, they are what the tokenizer reads from all of its tokens.

    marks: 1 where a token is learnt; the first of a row never is, since nothing stands before it. A character of
    several tokens belongs to the run of the last of them.
    """
    from tokenizers import Tokenizer

    library, special = Tokenizer.from_file(str(tokenizer)), special_ids(str(tokenizer))
    fates = [(at > 0 and mark == 1, token in special) for at, (token, mark) in enumerate(zip(ids, marks, strict=True))]
    starts = [0, *(at for at, (before, after) in enumerate(pairwise(fates), start=1) if before != after)]
    whole = library.decode(list(ids), skip_special_tokens=False)
    places = [0]
    for start in starts[1:]:
        # Read from the beginning: a run that is read alone may lose its first space. Half a character ends the prefix.
        before = library.decode(list(ids[:start]), skip_special_tokens=False)
        places.append(max(places[-1], _same(before, whole)))
    ends = [*places[1:], len(whole)]
    runs = [Run(whole[at:end], *fates[start]) for start, at, end in zip(starts, places, ends, strict=True) if fates]
    return [run for run in runs if run.text]


def replaced(runs: Sequence[Run], places: Sequence[tuple[int, int, str]]) -> list[Run]:
    """The runs with other text at some places. places: (start, end, text) in all of their text; sorted, disjoint.

    What is put in belongs to the run in which its place begins.
    """
    found, at = [], 0
    for run in runs:
        pieces, kept, end = [], at, at + len(run.text)
        for first, last, text in places:
            if first < end and last > at:
                pieces += [run.text[kept - at : max(first, at) - at], text if first >= at else ""]
                kept = min(last, end)
        found.append(run._replace(text="".join([*pieces, run.text[kept - at :]])))
        at = end
    return [run for run in found if run.text]


def clipped(runs: Sequence[Run]) -> list[Run]:
    """What is shown of a long row: of each run its beginning and end, and of many runs the last ones."""
    short = [run._replace(text=_middle_out(run.text)) for run in runs]
    kept: list[Run] = []
    for run in reversed(short):
        if kept and sum(len(each.text) for each in kept) + len(run.text) > MOST:
            return [Run(ELLIPSIS.lstrip(), False), *kept]
        kept.insert(0, run)
    return kept


def visible(text: str) -> str:
    """The text with its line ends marked; characters that would steer a terminal are replaced."""
    shown = "".join("\ufffd" if _steers(character) else character for character in text)
    return shown.replace("\n", "⏎\n")


def _same(first: str, second: str) -> int:
    """How many characters both texts begin with."""
    if second.startswith(first):
        return len(first)
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _middle_out(text: str) -> str:
    return text if len(text) <= RUN_MOST else text[:HEAD] + ELLIPSIS + text[HEAD - RUN_MOST :]


def _steers(character: str) -> bool:
    """Controls, and marks that turn or break lines; joiners of letters and emoji do neither."""
    return character not in "\n\t\u200c\u200d" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")
