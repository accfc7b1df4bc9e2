"""Personal data is found where it stands, look-alikes are left alone, and nothing is shown unmasked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.audit.finding import EXAMPLES
from raysft.audit.personal import (
    WINDOW,
    PersonalCounts,
    _luhn,
    excerpt,
    excerpts,
    find,
    mask,
    masked,
    personal_data,
    personal_examples,
    personal_finding,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def kinds(text: str, region: str | None = None) -> list[str]:
    return [hit.kind for hit in find(text, region)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to joe.bloggs+tickets@mail.example.co.uk.", "joe.bloggs+tickets@mail.example.co.uk"),
        ("Mail:jürgen@müller.de, danke", "jürgen@müller.de"),
        ("<o'neil@example.com>", "o'neil@example.com"),
        ("see https://shop.example/reset?user=joe@example.com", "joe@example.com"),
        ("+49 30 901820 is my number", "+49 30 901820"),
        ("ring 0049 30 901820 please", "0049 30 901820"),
        ("(212) 555-0123 after six", "(212) 555-0123"),
        ("it is 212-555-0123.", "212-555-0123"),
        ("0171 1234567", "0171 1234567"),
        ("07911 123456, thanks", "07911 123456"),
        ("06 12 34 56 78", "06 12 34 56 78"),
        ("Plz send details on my whatsapp no 7021645199", "7021645199"),
        ("call me 9876543210 now", "9876543210"),
        ("Tel.: 555 0123 4", "555 0123 4"),
        ("card 4111 1111 1111 1111 12/27", "4111 1111 1111 1111"),
        ("4111 1111 1111 1111 123", "4111 1111 1111 1111"),
        ("4111-1111-1111-1111", "4111-1111-1111-1111"),
        ("my 378282246310005 was declined", "378282246310005"),
        ("3782 822463 10005", "3782 822463 10005"),
        ("(5555555555554444)", "5555555555554444"),
        ("رقمي +٤٩ ٣٠ ٩٠١٨٢٠ شكرا", "+٤٩ ٣٠ ٩٠١٨٢٠"),
    ],
)
def test_found_exactly_where_it_stands(text: str, found: str) -> None:
    assert [text[hit.start : hit.end] for hit in find(text)] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "order 4938271640 has not arrived",
        "order number 123-4567890-1234567",
        "ticket #20240117093000",
        "on 2024-01-17 at 09:30:00",
        "from 01/02/2023 to 28.02.2023 10:30",
        "between 2019 2020 2021 2022",
        "it costs 1,234,567.89 EUR or 12 000 000 $",
        "IBAN DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "version 10.0.19045.3803 and 1.2.3-rc4+5678901",
        "192.168.100.254:8080 is down",
        "uuid 123e4567-e89b-12d3-a456-426614174000",
        "isbn 978-3-16-148410-0",
        "4111 1111 1111 1112",  # fails the check digit
        "1234567890123452",  # passes it, but no issuer's number begins with 1
        "clone git@github.com:org/repo.git",
        "https://user:secret@host.example/path",
        "icon@2x.png and @someone, a@b",
        "pi is 3.14159265358979",
        "coordinates 52.5200066, 13.4049540",
        "123-456-7890 is no area code",
        "I text 20 people in 2023, 2024",
        "we call at 10:30 and 11:45, 12:30",
    ],
)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert kinds(text) == []


def test_numbers_of_a_region_count_where_it_is_named() -> None:
    assert kinds("please dial 020 7031 3000") == ["phone"]
    assert kinds("appelez 0 892 70 12 39") == []
    assert kinds("appelez 0 892 70 12 39", "FR") == ["phone"]
    assert kinds("order 0892701239", "FR") == []  # a bare run of digits may be anything


def test_counts_of_a_batch() -> None:
    texts = ["nothing", "a@example.com b@example.com", "4111 1111 1111 1111 or +49 30 901820", "", "année 2024 à Paris"]
    emails, phones, cards = personal_data(texts)
    assert (emails.tolist(), phones.tolist(), cards.tolist()) == ([0, 2, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0])
    assert emails.dtype == phones.dtype == cards.dtype == np.uint8
    counts = PersonalCounts.of((emails, phones, cards))
    assert counts == PersonalCounts(5, (1, 1, 1), 2)
    assert counts + counts == PersonalCounts(10, (2, 2, 2), 4)
    assert [each.tolist() for each in personal_data([])] == [[], [], []]
    assert personal_data(["x@example.com "] * 1 + ["x@example.com " * 300])[0].tolist() == [1, 255]


@given(st.lists(TEXTS, max_size=5))
def test_the_quick_look_hides_nothing(texts: list[str]) -> None:
    emails, phones, cards = personal_data(texts)
    for row, text in enumerate(texts):
        found = kinds(text)
        assert [emails[row], phones[row], cards[row]] == [found.count(kind) for kind in ("e-mail", "phone", "card")]


@given(before=TEXTS, digits=st.integers(10**14, 10**15 - 1), after=TEXTS)
def test_a_card_number_among_other_words_is_found_and_never_shown(before: str, digits: int, after: str) -> None:
    number = "4" + str(digits)[1:]
    number += next(digit for digit in "0123456789" if _luhn(number + digit))
    text = f"{before}\n{number}\n{after}"
    assert "card" in kinds(text)
    assert number not in masked(text)


@given(TEXTS, TEXTS)
def test_masking_leaves_the_rest_as_it_is(before: str, after: str) -> None:
    text = f"{before} joe@example.com {after}"
    assert "joe@example.com" not in masked(text)
    if not find(before + " ") and not find(" " + after):
        assert "j***@e***.com" in masked(text)
    assert masked(before) == before or find(before)


@given(st.integers(0, 60), st.sampled_from(["jane.doe@example.com", "0171 1234567", "4012 8888 8888 1881"]), TEXTS)
def test_an_excerpt_shows_no_part_of_what_it_cuts(place: int, private: str, after: str) -> None:
    """Wherever the cut falls within it, nothing but the mask is shown; of a card that has the last four digits."""
    found = excerpt(f"{'ab ' * 20}{private} {after}", most=60 + place)
    assert found.startswith("ab ab ") and len(found) <= 60 + place
    for start in range(len(private) - 5):
        assert private[start : start + 6] not in found


def test_excerpts_of_many_texts() -> None:
    texts = ["plain " * 100, "call +49 30 901820", "", "a@example.com " * 200]
    assert excerpts(texts, 50) == [excerpt(text, 50) for text in texts]
    assert excerpts(texts, 50)[0] == texts[0][:50]
    assert excerpts([]) == []


def test_masks() -> None:
    assert mask("e-mail", "john@example.com") == "j***@e***.com"
    assert mask("card", "4111 1111 1111 1234") == "**** **** **** 1234"
    assert mask("phone", "+49 30 901812") == "+49 *** ** 12"
    assert mask("phone", "0171 1234567") == "*** ** 67"


def test_the_finding_shows_places_and_masks_only() -> None:
    texts = [f"I am joe{number}@example.com" for number in range(30)]
    counts = personal_data(texts)
    examples = personal_examples(texts, [f"t.csv:{n}" for n in range(30)], counts)
    finding = personal_finding(PersonalCounts.of(counts), examples, "quarantine")
    assert (finding.found, finding.level, finding.action, len(finding.examples)) == (
        30,
        "warning",
        "quarantine",
        EXAMPLES,
    )
    assert finding.examples[3].where == "t.csv:3" and finding.examples[3].detail == "e-mail j***@e***.com"
    assert "joe" not in json.dumps(finding.to_json())
    assert "30 with an e-mail address" in finding.explanation
    assert personal_finding(PersonalCounts(), [], "report").level == "fine"


@pytest.mark.timeout(60)
def test_hostile_texts_end() -> None:
    """Long texts that make careless expressions run for hours."""
    for piece in ("a.", "a!", "1 ", "1-", "+1", "tel ", "0049 ", "a@", "(", "4111 "):
        assert find(piece * 3000 + "@") is not None


# --- long texts


@pytest.mark.parametrize("shift", range(-40, 41, 5))
def test_what_stands_across_the_edge_of_a_window_is_found_once(shift: int) -> None:
    for number in ("joe@example.com", "4111 1111 1111 1111", "+49 30 901820", "call me 9876543210"):
        before = ("word " * WINDOW)[: WINDOW + shift - len(number) // 2]
        text = f"{before} {number} , {'word ' * WINDOW}"
        (hit,) = find(text)
        assert number.endswith(text[hit.start : hit.end]) and hit.start >= len(before)


def test_a_long_text_is_as_its_parts() -> None:
    part = f"mail joe@example.com or call 9876543210. {'word ' * 100}\n"
    text = part * (3 * WINDOW // len(part))
    hits = find(text)
    assert [hit.kind for hit in hits] == ["e-mail", "phone"] * text.count(part)
    assert {text[hit.start : hit.end] for hit in hits} == {"joe@example.com", "9876543210"}
    assert [each.tolist() for each in personal_data([text])] == [[255], [255], [0]]
