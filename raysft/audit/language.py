"""Which scripts and languages the texts are written in.

Scripts are counted over all rows. Languages are guessed on a sample by py3langid (a naive Bayes over byte n-grams, 0.1
ms a text), which errs on short texts. Hence the rule: only texts of 20 letters or more, and only guesses of which it
is at least 70% sure. Share called English under this rule (and without it, over all texts):

    Banking77, first 3,000 training rows    100.0% of 2,791 (99.8%)
    HINT3 training, three corpora           100.0% of 591   (84.4%)
    HINT3 test, sofmattress                 100.0% of 175   (81.4%)
    HINT3 test, curekart                     99.8% of 400   (74.7%)
    HINT3 test, powerplay11                  98.2% of 385   (71.0%); the rest is Hindi in Latin letters
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from raysft.audit.finding import EXAMPLES, Example, Finding

SAMPLE = 3000  # texts looked at for their language
LETTERS = 20  # least letters of a text
SURE = 0.7  # least probability of a guess
LEAST_TEXTS = 50  # sure guesses, before anything is said of a part
SECOND_SHARE = 0.05  # of the second language that is worth saying
MIX_DISTANCE = 0.10  # total variation between the languages of two parts

LATIN = re.compile(r"[\u0000-\u024F\u1E00-\u1EFF\u2000-\u206F\u20A0-\u20CF]*")
A_LETTER = re.compile(r"[^\W\d_]")
NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")  # Thai, Chinese, ...
CYRILLIC = re.compile(r"[\u0400-\u04FF]")
WORD_OF_BOTH = re.compile(r"\b(?=\w*[A-Za-z])(?=\w*[\u0400-\u04FF])\w+")
OTHERWISE_NAMED = {"CJK": "Han", "FULLWIDTH": "Latin", "HALFWIDTH": "Katakana", "MATHEMATICAL": "Latin"}
# Letters that look the same in both scripts.
LATIN_TWINS = frozenset("AaBCcEeHhIiJjKkMOoPpSsTXxYyu")
CYRILLIC_TWINS = frozenset("АаВСсЕеНһІіЈјКкМОоРрЅѕТХхУуҮү")


def scripts(texts: Sequence[str]) -> tuple[Counter[str], list[tuple[int, str]]]:
    """(texts by the script that most of their letters have, words of mixed script as (row of the batch, word)).

    A text without a letter counts as "none". Counts of batches add up. Costs 0.5 microseconds of CPU an ASCII text,
    some 30 another.
    """
    counts: Counter[str] = Counter()
    mixed = []
    for row, text in enumerate(texts):
        if text.isascii() or LATIN.fullmatch(text):
            counts["Latin" if A_LETTER.search(text) else "none"] += 1
            continue
        counts[_dominant(text)] += 1
        if CYRILLIC.search(text):
            mixed += [(row, word) for word in WORD_OF_BOTH.findall(text) if _is_disguised(word)]
    return counts, mixed


def _dominant(text: str) -> str:
    found: Counter[str] = Counter()
    for letter, number in Counter(text).items():
        script = _script(letter)
        if script:
            found[script] += number
    if found["Hiragana"] + found["Katakana"]:  # Japanese is written in three scripts at once
        found["Japanese"] = sum(found.pop(each, 0) for each in ("Hiragana", "Katakana", "Han"))
    return max(found, key=lambda each: (found[each], each)) if found.total() else "none"


@lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    """The script of a letter, by the first word of its Unicode name; "" of anything else."""
    if not letter.isalpha():
        return ""
    name = unicodedata.name(letter, "").split(" ")[0].split("-")[0]
    return OTHERWISE_NAMED.get(name, name.capitalize())


def _is_disguised(word: str) -> bool:
    """Whether all letters of one script have twins in the other: `pаypal` with a Cyrillic а, but not `iPhoneом`."""
    letters = [c for c in word if c.isalpha()]
    latin = {c for c in letters if c.isascii()}
    return latin <= LATIN_TWINS or {c for c in letters if CYRILLIC.match(c)} <= CYRILLIC_TWINS


def mixed_words_finding(mixed: Sequence[Example], found: int) -> Finding:
    """Rows with words of Latin and Cyrillic look-alikes. mixed: the first of them, with the word as detail."""
    return Finding(
        name="mixed_scripts",
        title="Words of two scripts",
        found=found,
        unit="rows",
        action="",
        level="note" if found else "fine",
        explanation=(
            "Latin and Cyrillic letters that look alike stand in one word; a tokenizer sees other words than people do."
            if found
            else "No word mixes Latin and Cyrillic letters that look alike."
        ),
        examples=tuple(mixed[:EXAMPLES]),
    )


def languages(texts: Sequence[str]) -> dict[str, Any]:
    """{"sampled", "sure", "shares": {language: share of the sure ones, largest first}} of at most SAMPLE texts.

    Languages are ISO 639 codes. Of more texts, ones at even distances are taken.
    """
    step = max(1, -(-len(texts) // SAMPLE))
    sample = [text for text in texts[::step] if _has_letters(text)]
    guesses = [_identifier().classify(text[:2000]) for text in sample]
    found = Counter(language for language, probability in guesses if probability >= SURE)
    total = max(1, found.total())
    return {
        "sampled": len(sample),
        "sure": found.total(),
        "shares": {name: round(number / total, 4) for name, number in sorted(found.items(), key=_most_first)},
    }


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _has_letters(text: str) -> bool:
    return len(text) >= LETTERS and sum(map(str.isalpha, text)) >= LETTERS


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """The model that comes with the package; 0.8 s to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_section(parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The `language` of audit.json. parts: train, validation, test -> a sample of their texts.

    {"sampled", "sure", "shares"} of all parts together, by their sampled texts, and `parts` with the same of each.
    """
    found = {name: languages(texts) for name, texts in parts.items() if len(texts)}
    sure = sum(each["sure"] for each in found.values())
    names = {name for each in found.values() for name in each["shares"]}
    shares = {n: sum(e["shares"].get(n, 0) * e["sure"] for e in found.values()) / max(1, sure) for n in names}
    return {
        "sampled": sum(each["sampled"] for each in found.values()),
        "sure": sure,
        "shares": {name: round(share, 4) for name, share in sorted(shares.items(), key=lambda s: (-s[1], s[0]))},
        "parts": found,
    }


def language_finding(section: Mapping[str, Any]) -> Finding:
    """Whether a second language is common, and whether train and test are of the same mix."""
    shares = list(section["shares"].items()) if section["sure"] >= LEAST_TEXTS else []
    second = [name for name, share in shares[1:] if share > SECOND_SHARE]
    distance = mix_distance(section)
    said = []
    if second:
        common = ", ".join(f"{name} {share:.0%}" for name, share in shares if share > SECOND_SHARE)
        said.append(f"Texts are in {common}")
    if distance is not None:
        said.append(f"Training and test differ in {distance:.0%} of their texts")
    if said:
        explanation = f"{'. '.join(said)}. Choose a base model that knows these languages, and score each on its own."
    elif shares:
        name, share = shares[0]
        explanation = f"One language: {name}, {share:.1%} of {section['sure']:,} texts that are long enough."
    else:
        explanation = f"Too few texts of {LETTERS} letters or more to tell the language."
    return Finding(
        name="language",
        title="Languages",
        found=len(second) + (distance is not None),
        unit="differences",
        action="",
        level="warning" if distance is not None else "note" if second else "fine",
        explanation=explanation,
    )


def mix_distance(section: Mapping[str, Any]) -> float | None:
    """Total variation between the languages of train and test where it is worth a word, else None."""
    a, b = (section.get("parts", {}).get(name, {"sure": 0, "shares": {}}) for name in ("train", "test"))
    if min(a["sure"], b["sure"]) < LEAST_TEXTS:
        return None
    names = a["shares"].keys() | b["shares"].keys()
    distance = sum(abs(a["shares"].get(n, 0) - b["shares"].get(n, 0)) for n in names) / 2
    by_chance = (1 / a["sure"] + 1 / b["sure"]) ** 0.5  # two standard errors of a share near one half
    return distance if distance > max(MIX_DISTANCE, by_chance) else None
