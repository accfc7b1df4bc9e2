"""Which encoding a file has that is neither marked nor UTF-8: the one in which its words read most like a language.

A wrong encoding leaves the ASCII letters as they are and turns the others into letters that the language does not have
(`atualizaçăo`). So the words of a file are decoded each way, and py3langid tells how far they speak for their language
above all others. Of 480 files made of messages in 24 languages and 40 pairs of language and encoding, each of 5 to 300
lines, 477 are read right. Weak: one word that repeats, lines all in capitals, and encodings that are not in USUAL.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import fmean
from typing import Any

# What people's files come in, the most common first: of encodings that are as likely, the first is taken.
USUAL = [
    *("cp1252", "cp1250", "cp1251", "koi8_r", "koi8_u", "cp1254", "cp1253", "cp1257", "cp1255", "cp1256"),
    *("iso8859_2", "iso8859_5", "cp850", "cp866", "cp852", "cp857", "mac_roman"),
    *("cp932", "gb18030", "euc_jp", "big5", "cp949", "cp874"),
]
FEW = 3  # places: below that bad bytes are dirt in a UTF-8 file
CLEARLY = 0.9  # share of the places with non-ASCII bytes that are not UTF-8, in a file that clearly is something else
NEAR = 0.1  # difference of evidence that is chance
ONE_WORD = 3.0  # and where one place is all there is
CAPITALS = 4.0  # and against capitals there: KOI8-R and cp1251 read each other's small letters as capitals
# A language that has a script for itself is told by any of its letters, in whatever order they stand.
OWN_SCRIPT, ALONE = {"cp874", "cp1253", "cp1255"}, 0.75
LOOKED_AT = 4096  # bytes of words; twice that, since words of ASCII tell the language
STRANGE = re.compile(r"[^\x00-\x7f]")
PLACE = re.compile(rb"[\x80-\xff]+")
# What no second byte of a Chinese, Japanese or Korean letter is, ends a word.
WORD = re.compile(rb"[^\x00-\x2f\x3a-\x3f]+")
NO_LETTER = re.compile("[\x7f-\x9f\ufffd]")  # control characters, which no text has, and bytes that do not decode
BETWEEN = b" ,;\t\r\n"
UTF_16_SHARE = 0.05  # of zeros at every other place; line ends, commas and spaces are that much in any script


@dataclass(frozen=True)
class Guess:
    """An encoding, and others that are as likely and would read other letters."""

    name: str
    rivals: tuple[str, ...] = ()
    sure: bool = False  # whether the file or the person says so


def guess_wide(sample: bytes) -> Guess | None:
    """UTF-16 or UTF-32 without a mark: the zero bytes of ASCII letters stand at even places, or at odd ones."""
    zeros = [sample[start::4].count(0) for start in range(4)]
    quarter = len(sample) // 4
    if quarter and min(zeros[2:]) >= CLEARLY * quarter and zeros[0] * 10 < quarter:
        return Guess("utf-32-le")
    if quarter and min(zeros[:2]) >= CLEARLY * quarter and zeros[3] * 10 < quarter:
        return Guess("utf-32-be")
    for name, high, low in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        found, other = zeros[high] + zeros[high + 2], zeros[low] + zeros[low + 2]
        many = found >= FEW and found >= UTF_16_SHARE * len(sample) / 2 and found > 10 * other
        if many and _zeros_go_with(BETWEEN, sample[low::2], sample[high::2]):
            return Guess(name)
    return None


def _zeros_go_with(marks: bytes, low: bytes, high: bytes) -> bool:
    """Whether most of these marks have a zero beside them: so not where a text of single bytes holds stray zeros."""
    beside = [zero == 0 for mark, zero in zip(low, high, strict=False) if mark in marks]
    return 2 * sum(beside) > len(beside)


def guess_legacy(sample: bytes) -> Guess | None:
    """One of USUAL where the sample is clearly not UTF-8."""
    if _is_utf8(sample, whole=False) or not _is_something_else(sample):
        return None
    return _likeliest(_words(sample))


@lru_cache(maxsize=64)  # since a file is opened for its header, for its rows, and for what is told of it
def _likeliest(words: bytes) -> Guess:
    # By the text they give: encodings that read the same letters are no rivals.
    first = {words.decode(name, "replace"): name for name in reversed(USUAL)}
    # One word that repeats tells little, many different ones tell much.
    scarce = 1 / len(set(PLACE.findall(words)))
    evidence = {
        name: _evidence(text) * (ALONE if name in OWN_SCRIPT else 1) - CAPITALS * scarce * _capitals(text)
        for text, name in first.items()
    }
    least = max(evidence.values()) - NEAR - ONE_WORD * scarce**2
    chosen, *rivals = sorted((name for name, each in evidence.items() if each >= least), key=USUAL.index)
    return Guess(codecs.lookup(chosen).name, tuple(codecs.lookup(name).name for name in rivals))


def _is_something_else(sample: bytes) -> bool:
    """Whether most places with non-ASCII bytes are not UTF-8; counted by places, since a file may be one line."""
    places = [found.span() for found in PLACE.finditer(sample)]
    bad = sum(not _is_utf8(sample[start:end], whole=end < len(sample)) for start, end in places)
    return bad >= FEW and bad >= CLEARLY * len(places)


def _is_utf8(piece: bytes, whole: bool = True) -> bool:
    """Whether it decodes; with `whole` false the last letter may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece, whole)
    except UnicodeDecodeError:
        return False
    return True


def _words(sample: bytes) -> bytes:
    """Different words that are not UTF-8, and some that are ASCII; each once, since lines may repeat each other."""
    words = list(dict.fromkeys(WORD.findall(sample)))
    strange = b" ".join(word for word in words if not _is_utf8(word))[:LOOKED_AT]
    plain = b" ".join(word for word in words if word.isascii())[: len(strange)]
    return strange + b" " + plain


def _evidence(text: str) -> float:
    """How far a text speaks for one language above the others, whatever its length; less for what no text has."""
    lower = text.lower()  # the languages were learned from ordinary sentences
    scores = [score for _, score in _identifier().rank(lower)]
    # The root of the length is what makes texts of different length comparable in py3langid's own probabilities.
    clear = fmean(scores[0] - score for score in scores) / sqrt(len(lower.encode()))
    return clear - len(NO_LETTER.findall(text))


def _capitals(text: str) -> float:
    """The share of capitals among what is not ASCII."""
    strange = STRANGE.findall(text)
    return sum(map(str.isupper, strange)) / max(1, len(strange))


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
