"""Personal data in texts: e-mail addresses, phone numbers, card numbers.

Ordinary texts cost one scan of the batch by pyarrow's RE2: 1 microsecond of CPU a row of Banking77, 2 to 3 where 1%
of the rows hold something (a busy two-core cloud machine, November 2026). Only texts with an @, or with seven digits
close together, are looked at again.

What counts:
- E-mail address: local part, @, a domain with a dot. Not: git@host:path, user:password@host of a URL, icon@2x.png.
- Card number: 13 to 19 digits, plain or in the groups that cards print, which begin as a card issuer's numbers do and
  pass Luhn's check (ISO/IEC 7812-1).
- Phone number: +49 30 1234567 and 0049 30 1234567 that Google's libphonenumber holds for valid; numbers of `region`
  where one is given; and without one: (212) 555-0123 and 212-555-0123 if valid in North America, 0171 1234567 and
  01 23 45 67 89 (a trunk zero, 9 to 12 digits in groups), and 7 to 13 digits after a word such as `tel`, `call` or
  `whatsapp`. A bare run of digits is no phone number: most are orders, accounts and amounts.

Nothing that was found leaves this module unmasked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysft.audit.finding import EXAMPLES, Example, Finding

Array = np.ndarray[Any, Any]
KINDS = ("e-mail", "phone", "card")
EXCERPT = 400  # characters
LONGEST = 700  # characters of the longest e-mail address that EMAIL finds, and more than any number has
MOST = 255  # counted in one text
WINDOW = 1 << 16  # characters of a long text that are looked at together

# RE2 syntax. The second knows the digits of all scripts but is four times slower.
WORTH_A_LOOK = r"@|(?:[0-9][^0-9]{0,4}){6}[0-9]"
WORTH_A_LOOK_ANY_SCRIPT = r"@|(?:\p{Nd}\P{Nd}{0,4}){6}\p{Nd}"

_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
EMAIL = re.compile(rf"(?<![\w.%+-])[\w%+-][\w.%+'-]{{0,63}}@(?:{_LABEL}\.){{1,8}}[^\W\d_]{{2,24}}(?![\w-])(?!:[\w/~])")
FILE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".css", ".js")  # icon@2x.png

# Not inside a longer number, nor after the head of an IBAN or its further groups.
_NOT_WITHIN = r"(?<![\w.,+])(?<![A-Z]{2}\d{2} )(?<!\d[ -])"
CARD = re.compile(
    rf"{_NOT_WITHIN}(?:\d{{13,19}}|\d{{4}}([ -])\d{{4}}\1\d{{4}}\1\d{{4}}(?:\1\d{{1,3}})?"
    rf"|\d{{4}}([ -])\d{{6}}\2\d{{4,5}})(?![\w-])(?![.,]\d)"
)
GROUPED = 19  # characters of four groups of four digits
# First digits and lengths: Visa, Mastercard, American Express, Diners, JCB, then Maestro, Discover and UnionPay.
ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[0689]\d{12,17}|35\d{14,17}"
    r"|(?:5[06-8]|6\d)\d{11,17}"
)

TRUNK = re.compile(r"0[1-9]\d{1,3}(?:[ /-]|\) ?)\d{3,8}(?:[ -]\d{2,6}){0,3}|0[1-9](?:([ .])\d{2})(?:\1\d{2}){3}")
NORTH_AMERICA = re.compile(r"(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4}")
AFTER_ZEROS = re.compile(r"00[1-9]\d{0,2}[ /-]?(?:\(0\))?\d(?:[ /-]?\d){5,13}")
AFTER_A_WORD = re.compile(
    r"\b(?:tel(?:[eé]fono?n?|ephone)?|(?:tele)?phone|mobile|cell|handy|fax|whats\s?app|m[oó]vil|t[eé]l[eé]phone|call"
    r"|ring|text)\b\.?(?:\s?(?:no|nr|number|me|us|on|at|is|my|:|#)\b\.?){0,3}"
    r"[\s:#=]{0,3}(?P<number>\(?\d[\d ()/.-]{5,18}\d)",
    re.IGNORECASE,
)
_EDGE_BEFORE = re.compile(r"(?:[\w+]|[\w][.,/-]|\d[ ])$")
_EDGE_AFTER = re.compile(r"[\w]|[.,:/-]\d|[ -]\d| ?[%€$£]")


@dataclass(frozen=True)
class Hit:
    """One place in a text."""

    kind: str  # of KINDS
    start: int  # in characters
    end: int


@dataclass(frozen=True)
class PersonalCounts:
    """What many rows hold; counts of batches are added up."""

    rows: int = 0  # looked at
    found: tuple[int, int, int] = (0, 0, 0)  # rows with each of KINDS
    any: int = 0  # rows with at least one of them

    def __add__(self, other: PersonalCounts) -> PersonalCounts:
        e, p, c = (a + b for a, b in zip(self.found, other.found, strict=True))
        return PersonalCounts(self.rows + other.rows, (e, p, c), self.any + other.any)

    @staticmethod
    def of(counts: tuple[Array, Array, Array]) -> PersonalCounts:
        """From what `personal_data` gives."""
        e, p, c = (int(np.count_nonzero(each)) for each in counts)
        return PersonalCounts(len(counts[0]), (e, p, c), int(np.count_nonzero(counts[0] | counts[1] | counts[2])))


def personal_data(texts: Sequence[str], region: str | None = None) -> tuple[Array, Array, Array]:
    """(emails, phones, cards) in each text: uint8, shape (rows,), at most 255.

    texts: clean ones, without lone surrogates. region: ISO 3166 code, such as "GB", whose way of writing phone numbers
    counts beside those of the module's head.
    """
    counts = np.zeros((len(KINDS), len(texts)), np.uint8)
    for index in _worth_a_look(texts):
        hits = [hit.kind for hit in find(texts[index], region)]
        for number, kind in enumerate(KINDS):
            counts[number, index] = min(MOST, hits.count(kind))
    return counts[0], counts[1], counts[2]


def _worth_a_look(texts: Sequence[str]) -> list[int]:
    """Rows that might hold something."""
    found = _matching(texts, WORTH_A_LOOK)
    if all(map(str.isascii, texts)):
        return found
    # Whatever the plain pattern found, the other finds too.
    others = [row for row, text in enumerate(texts) if not text.isascii()]
    more = _matching([texts[row] for row in others], WORTH_A_LOOK_ANY_SCRIPT)
    return sorted({*found, *(others[index] for index in more)})


def _matching(texts: Sequence[str], pattern: str) -> list[int]:
    hit = pc.match_substring_regex(pa.array(texts, pa.large_string()), pattern)
    return [int(row) for row in np.flatnonzero(hit.to_numpy(zero_copy_only=False))]


def find(text: str, region: str | None = None) -> list[Hit]:
    """Every e-mail address, card and phone number of one text, in order, none within another."""
    if len(text) <= WINDOW:
        return _find(text, region)
    # Each window with so much around it that what begins in it is seen as in the whole text.
    edges = [(max(0, start - LONGEST), start) for start in range(0, len(text), WINDOW)]
    windows = [text[before : start + WINDOW + LONGEST] for before, start in edges]
    hits = []
    for row in _worth_a_look(windows):
        before, start = edges[row]
        moved = (Hit(hit.kind, hit.start + before, hit.end + before) for hit in _find(windows[row], region))
        hits += [hit for hit in moved if start <= hit.start < start + WINDOW]
    return hits


def _find(text: str, region: str | None) -> list[Hit]:
    hits: list[Hit] = []
    _add(hits, "e-mail", _emails(text))
    digits = _western(text)
    _add(hits, "card", _cards(digits))
    _add(hits, "phone", _phones(digits, region))
    return sorted(hits, key=lambda hit: hit.start)


def _add(hits: list[Hit], kind: str, places: Iterator[tuple[int, int]]) -> None:
    for start, end in places:
        if all(end <= hit.start or start >= hit.end for hit in hits):
            hits.append(Hit(kind, start, end))


def _western(text: str) -> str:
    """The text with the digits of all scripts as 0 to 9; of the same length."""
    if text.isascii():
        return text
    return "".join(str(int(c)) if c.isdecimal() else c for c in text)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for match in EMAIL.finditer(text):
        address = match[0].lower()
        if not address.endswith(FILE_ENDINGS) and not _is_password(text, match.start()) and ".." not in address:
            yield match.span()


def _is_password(text: str, start: int) -> bool:
    """Whether what stands before `start` is the beginning of a URL's user:password@."""
    before = text[max(0, start - 200) : start].split()[-1:] if start and not text[start - 1].isspace() else []
    scheme, found, rest = (before[0] if before else "").partition("://")
    return bool(scheme and found) and not set("/?#") & set(rest)


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in CARD.finditer(text):
        # What follows four groups of four may be the rest of the number, or its date or check value.
        for number in dict.fromkeys((match[0], match[0][:GROUPED] if match[1] else match[0])):
            digits = re.sub(r"\D", "", number)
            if ISSUER.fullmatch(digits) and _luhn(digits):
                yield match.start(), match.start() + len(number)
                break


def _phones(text: str, region: str | None) -> Iterator[tuple[int, int]]:
    yield from _by_library(text, region)
    yield from _written_as(AFTER_ZEROS, text, lambda number: _is_valid("+" + number[2:], None))
    yield from _written_as(NORTH_AMERICA, text, lambda number: _is_valid(number, "US"))
    yield from _written_as(TRUNK, text, lambda number: 9 <= _digits(number) <= 12)
    for match in AFTER_A_WORD.finditer(text):
        if 7 <= _digits(match["number"]) <= 13 and not _EDGE_AFTER.match(text, match.end()):
            yield match.span("number")


def _by_library(text: str, region: str | None) -> Iterator[tuple[int, int]]:
    if region is None and "+" not in text and "＋" not in text:
        return
    import phonenumbers

    for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.VALID):
        # Of a region's own numbers, a bare run of digits may be anything.
        if region is None or re.search(r"\D", match.raw_string):
            yield match.start, match.end


def _written_as(pattern: re.Pattern[str], text: str, holds: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """Places of `pattern` that are not part of something longer, and whose digits hold."""
    for match in pattern.finditer(text):
        # A bracket belongs to the number that it opens.
        start = match.start() - text.endswith("(", 0, match.start())
        alone = not _EDGE_BEFORE.search(text[max(0, start - 3) : start]) and not _EDGE_AFTER.match(text, match.end())
        if alone and holds(match[0]):
            yield start, match.end()


def _is_valid(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _luhn(digits: str) -> bool:
    """Whether the last digit is the check digit (ISO/IEC 7812-1, annex B); packages for it are heavy."""
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def masked(text: str, region: str | None = None, most: int | None = None) -> str:
    """The text with what was found made unreadable: j***@e***.com, +49 *** ** 12, **** **** **** 1234.

    most: characters of the text that are kept; what is found across that edge is masked whole.
    """
    parts, end = [], 0
    most = len(text) if most is None else most
    for hit in find(text, region):
        if hit.start < most:
            parts += [text[end : hit.start], mask(hit.kind, text[hit.start : hit.end])]
            end = hit.end
    return "".join([*parts, text[end:most]])


def excerpt(text: str, most: int = EXCERPT) -> str:
    """What an audit may show of a text: its first `most` characters, with personal data masked."""
    return excerpts([text], most)[0]


def excerpts(texts: Sequence[str], most: int = EXCERPT) -> list[str]:
    """`excerpt` of many texts at once: only those that might hold something are looked at one by one.

    What stands across the cut is masked before it is cut: half a card number is no card number, and would be shown.
    """
    heads = [text[: most + LONGEST] for text in texts]
    shown = [head[:most] for head in heads]
    for row in _worth_a_look(heads):
        shown[row] = masked(heads[row], most=most)[:most]
    return shown


def mask(kind: str, found: str) -> str:
    """One address or number, made unreadable."""
    if kind == "e-mail":
        name, _, domain = found.partition("@")
        return f"{name[0]}***@{domain[0]}***.{domain.rpartition('.')[2]}"
    if kind == "card":
        return f"**** **** **** {found[-4:]}"
    country = re.match(r"(?:\+|00)\d{1,2}(?=\D)", found)
    return f"{country[0] + ' ' if country else ''}*** ** {found[-2:]}"


def personal_examples(
    texts: Sequence[str], places: Sequence[str], counts: tuple[Array, Array, Array], region: str | None = None
) -> list[Example]:
    """The first rows of a batch that hold something: the place and what it is, masked. Never the text."""
    rows = np.flatnonzero(counts[0] | counts[1] | counts[2])[:EXAMPLES]
    return [Example(places[row], detail=_shown(texts[row], region)) for row in rows]


def _shown(text: str, region: str | None) -> str:
    return ", ".join(f"{hit.kind} {mask(hit.kind, text[hit.start : hit.end])}" for hit in find(text, region)[:5])


def personal_finding(counts: PersonalCounts, examples: Sequence[Example], action: str) -> Finding:
    """The finding `personal_data`: rows with at least one address or number."""
    listed = ", ".join(
        f"{number} with {'an' if kind == 'e-mail' else 'a'} {kind + (' address' if kind == 'e-mail' else ' number')}"
        for kind, number in zip(KINDS, counts.found, strict=True)
        if number
    )
    return Finding(
        name="personal_data",
        title="Personal data",
        found=counts.any,
        unit="rows",
        action=action,
        level="warning" if counts.any else "fine",
        explanation=(
            f"Rows: {listed}. A model can repeat what it was trained on; take these out or replace them."
            if counts.any
            else "No e-mail address, phone number or card number was found."
        ),
        examples=tuple(examples[:EXAMPLES]),
    )
