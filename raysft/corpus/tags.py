"""Tags of tokens -> entities, whatever the scheme: BIO (IOB2), IOB1, BIOES, BILOU, BMES, or plain types.

The rules are those of conlleval (Tjong Kim Sang and Buchholz 2000, CoNLL shared task): an I- without a B- before it
starts an entity, and so does one whose type differs from the entity before it. That is how IOB1 is written; in a corpus
whose entities begin with B- it is a slip, and which of its neighbours was meant nobody knows, so that it is refused.

E-mail is a plain type, and E-PER the last token of a PER. Which of the two a tag is can be seen from all tags together:
no scheme has E-, L- or M- without B- or I-. `plain_types` decides for the tags of a whole corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from raysft.corpus.cells import Unusable, short

PLAIN_TAGS, PREFIXED_TAGS = "plain", "prefixed"
BEGUN_TAGS = "begun"  # prefixed, and every entity begins with B- (or is S-, U- alone)
OUTSIDE = ("O", "o")
PREFIXED = re.compile(r"([BIESLUM])[-_](.*\w.*)", re.DOTALL)
PLAIN = re.compile(r"[^\W\d_][\w .:/&+-]*\w")
GOES_ON = ("I", "M", "E", "L", "")  # may follow a token of the same entity; "": a plain type
BEGUN = ("B", "S", "U")
BEGINS = {"B", "I"}  # every scheme has one of them once there is an entity of two tokens
ALONE = {"S", "U"}  # an entity of one token; they may be all that a corpus has
ENDS = ("E", "L", "S", "U")  # the last token of an entity, or its only one


def plain_types(tags: Iterable[str]) -> bool | None:
    """Whether tags are types without a scheme, such as E-mail and phone; None: there is none but O.

    Prefixes count where B- or I- is among them, or where all that are not O have S- or U-.
    """
    prefixes = {match[1] if (match := PREFIXED.fullmatch(tag)) else "" for tag in tags if tag not in OUTSIDE}
    if not prefixes:
        return None
    return not prefixes & BEGINS and not prefixes <= ALONE


def begun(tags: Iterable[Sequence[str]]) -> tuple[int, int]:
    """(entities that begin as in IOB2, entities that do not) in texts with prefixed tags."""
    as_begun = others = 0
    for text in tags:
        for prefix in _beginnings(text):
            as_begun, others = as_begun + (prefix in BEGUN), others + (prefix not in BEGUN)
    return as_begun, others


def _beginnings(tags: Sequence[str]) -> list[str]:
    """The prefix of the first tag of each entity; of tags that cannot be read none."""
    try:
        return [PREFIXED.fullmatch(tags[start])[1] for start, _, _ in entities(tags, plain=False)]  # type: ignore[index]
    except Unusable:
        return []


def entities(tags: Sequence[str], plain: bool | None = None, strict: bool = False) -> list[tuple[int, int, str]]:
    """(first token, token after the last, type) of each entity, in order.

    Tags are O, or a prefix, - or _, and a type; or all plain types: neighbours of one type are then one entity.
    plain: what `plain_types` says of the corpus; None: it is asked about these tags alone. strict: whether entities
    have to begin with B-, S- or U-.
    Raises Unusable: bad_tag, inside_without_begin.
    """
    plain = plain_types(tags) if plain is None else plain
    parts = [_parts(tag, bool(plain)) for tag in tags]
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
            if strict and prefix not in BEGUN:
                raise Unusable("inside_without_begin", f"{short(tags[index])}, token {index + 1}, follows no B-{name}")
            found.append((index, index + 1, name))
        running = prefix not in ENDS
    return found


def _parts(tag: str, plain: bool) -> tuple[str, str]:
    """(prefix, type): ("O", "") outside, ("", type) for a plain type."""
    if tag in OUTSIDE:
        return "O", ""
    match = None if plain else PREFIXED.fullmatch(tag)
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
