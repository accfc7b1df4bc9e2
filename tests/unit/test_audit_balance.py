"""Odd labels are named with their numbers."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from raysft.audit.balance import alike, imbalance, label_findings, label_names, missing_labels, small_labels
from raysft.audit.finding import Finding

ACTIONS = {"small_labels": "report", "label_names": "report"}


def spread(rows: int, k: int = 5, test: int = 1) -> dict[str, int]:
    """`rows` over k folds, and some in the sealed test part."""
    return {"-1": test, **{str(fold): len(range(fold, rows, k)) for fold in range(k)}}


def shown(finding: Finding) -> list[tuple[str, str]]:
    return [(example.label, example.detail) for example in finding.examples]


def test_a_sound_corpus_gives_nothing_but_fine() -> None:
    findings = label_findings({"refund": spread(40, test=8), "card": spread(30, test=6)}, 5, True, ACTIONS)
    assert [each.name for each in findings] == ["small_labels", "imbalance", "label_names", "missing_labels"]
    assert {(each.level, each.found) for each in findings} == {("fine", 0)}
    assert label_findings({}, 5, True, ACTIONS) == []


def test_labels_with_fewer_rows_than_parts() -> None:
    labels = {"large": spread(50), "five": spread(4), "six": spread(5), "two": {"-1": 1, "0": 1}}
    finding = small_labels(labels, 5, True, "fail")
    assert shown(finding) == [("two", "2 rows"), ("five", "5 rows")]
    assert (finding.level, finding.found, finding.action, finding.unit) == ("warning", 2, "fail", "labels")


def test_rows_of_the_persons_own_files_make_no_label_large() -> None:
    labels = {"large": spread(50), "small": {"-1": 100, "-2": 100, "0": 1, "1": 1}}
    assert shown(small_labels(labels, 5, False, "report")) == [("small", "2 rows")]
    assert small_labels({"unseen": {"-1": 9}}, 5, False, "report").found == 0


def test_labels_of_unlike_size() -> None:
    finding = imbalance({"a": spread(100, test=10), "b": spread(10, test=1), "c": spread(9, test=1)})
    assert (finding.level, finding.found) == ("note", 1)
    assert shown(finding) == [("a", "110 rows"), ("c", "10 rows")]
    assert "11 times" in finding.explanation
    assert imbalance({"a": spread(99), "b": spread(9)}).level == "fine"
    assert imbalance({"only": spread(3)}).level == "fine"


def test_names_that_look_like_one() -> None:
    labels: Mapping[str, Mapping[str, int]] = {
        "Card arrival": {"0": 5},
        "card_arrival": {"0": 9},
        "CARD-ARRIVAL ": {"1": 1},
        "refund": {"0": 3},
        "ｒｅｆｕｎｄ": {"0": 1},
        "refunds": {"0": 1},
    }
    finding = label_names(labels, "report")
    assert shown(finding) == [
        ("card_arrival", "9 rows; also written 'Card arrival' (5 rows), 'CARD-ARRIVAL ' (1 row)"),
        ("refund", "3 rows; also written 'ｒｅｆｕｎｄ' (1 row)"),
    ]
    assert (finding.level, finding.found) == ("warning", 5)


def test_names_that_only_seem_alike() -> None:
    assert alike(["C", "C++", "C#", "1", "-1", "1.0", "10", "?", "!", "A", "B"]) == []
    assert alike(["straße", "STRASSE", "é", "e\u0301"]) == [["STRASSE", "straße"], ["e\u0301", "é"]]


@given(st.lists(st.text(max_size=8), unique=True, max_size=12))
def test_groups_are_apart_and_each_has_two_or_more(labels: list[str]) -> None:
    groups = alike(labels)
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names)) and set(names) <= set(labels)
    assert all(len(group) > 1 for group in groups)
    assert groups == alike(reversed(labels))


def test_labels_missing_in_a_part() -> None:
    labels: Mapping[str, Mapping[str, int]] = {
        "sound": {"-1": 2, "0": 3, "1": 3},
        "only tested": {"-1": 4, "0": 0},
        "one fold": {"-1": 1, "1": 7},
        "untested": {"0": 2, "1": 2},
    }
    finding = missing_labels(labels)
    assert shown(finding) == [
        ("one fold", "all training rows in fold 1: cannot be learnt while it validates"),
        ("only tested", "no training row: cannot be learnt"),
        ("untested", "no test row: not measured"),
    ]
    assert finding.level == "warning"
    assert missing_labels({"a": {"0": 1, "1": 1}, "b": {"-1": 1, "0": 1, "1": 2}}).level == "note"
    assert missing_labels({"a": {"0": 5}, "b": {"0": 4}}).level == "fine"  # one fold for all, no test part
