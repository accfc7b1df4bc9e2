"""Tags of tokens -> entities, whatever the scheme: BIO (IOB2), IOB1, BIOES, BILOU, BMES, or plain types.

The rules are those of conlleval (Tjong Kim Sang and Buchholz 2000, CoNLL shared task): an I- without a B- before it
starts an entity, and so does one whose type differs from the entity before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from raysft.corpus.cells import Unusable, short

OUTSIDE = ("O", "o")
PREFIXED = re.compile(r"([BIESLUM])[-_](.*\w.*)", re.DOTALL)
PLAIN = re.compile(r"[^\W\d_][\w .:/&+-]*\w")
GOES_ON = ("I", "M", "E", "L", "")  # may follow a token of the same entity; "": a plain type
ENDS = ("E", "L", "S", "U")  # the last token of an entity, or its only one


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first token, token after the last, type) of each entity, in order.

    Tags are O, or a prefix, - or _, and a type; or all plain types: neighbours of one type are then one entity.
    Raises Unusable: bad_tag.
    """
    parts = [_parts(tag) for tag in tags]
    _refuse_mixture(tags, [prefix for prefix, _ in parts])
    found: list[tuple[int, int, str]] = []
    running = False
    for index, (prefix, name) in enumerate(parts):
        if prefix == "O":
            running = False
            continue
        if running and prefix in GOES_ON and found[-1][2] == name:
            found[-1] = (found[-1][0], index + 1, name)
        else:
            found.append((index, index + 1, name))
        running = prefix not in ENDS
    return found


def _parts(tag: str) -> tuple[str, str]:
    """(prefix, type): ("O", "") outside, ("", type) for a plain type."""
    if tag in OUTSIDE:
        return "O", ""
    match = PREFIXED.fullmatch(tag)
    if match:
        return match[1], match[2].strip()
    if tag.isdecimal():
        raise Unusable("bad_tag", f"{tag} is a number without a name; write tags such as B-PER")
    if not PLAIN.fullmatch(tag):
        raise Unusable("bad_tag", f"found {short(tag)}; known are O, a type, and a type after B- I- E- S- L- U- or M-")
    return "", tag


def _refuse_mixture(tags: Sequence[str], prefixes: Sequence[str]) -> None:
    """Plain types beside B- and I- are most likely slips: PER for I-PER."""
    seen = set(prefixes) - {"O"}
    if "" in seen and len(seen) > 1:
        raise Unusable("bad_tag", f"{short(tags[prefixes.index('')])} has no B- or I- as the others have")
