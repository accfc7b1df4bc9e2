"""No row is lost or counted twice, whatever is wrong with it; and every finding is acted on as the setting says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.errors import DataError
from raysft.preparation.prepared import Prepared
from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import finding, job_of, kept, left_out, quarantine, run

Row = dict[str, str]
GOOD = corpus_rows(60)
LABELS = sorted({row["label"] for row in GOOD})
HELD = corpus_rows(24, seed=5)
LONG = "hello the courier came late with my parcel and left it at the wrong doorstep of an other house today"
BAD = ("copy", "shouted", "other label", "leak", "blank text", "blank label", "new")


def other(label: str) -> str:
    return LABELS[LABELS.index(label) - 1]


# --- the books


@st.composite
def mixtures(draw: st.DrawFn) -> list[Row]:
    """Good rows in any order with bad ones among them, and copies of those."""
    rows = [dict(row) for row in GOOD]
    for number, kind in enumerate(draw(st.lists(st.sampled_from(BAD), max_size=25))):
        row = dict(draw(st.sampled_from(rows)))
        match kind:
            case "shouted":
                row["text"] = f"  {row['text'].upper()} "
            case "other label":
                row["label"] = other(row["label"]) if row["label"] in LABELS else "refund"
            case "leak":
                row["text"] = draw(st.sampled_from(HELD))["text"]
            case "blank text":
                row["text"] = " \t"
            case "blank label":
                row["label"] = " "
            case "new":
                row["text"] = f"one more text {number}"
        rows.insert(draw(st.integers(0, len(rows))), row)
    return rows


def expected_reasons(rows: list[Row]) -> list[str | None]:
    """What the settings ask for, counted by hand in the order in which it is looked for."""
    found: list[str | None] = [
        "blank_text" if not row["text"].strip() else "missing_label" if not row["label"].strip() else None
        for row in rows
    ]
    alike: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if found[number] is None:
            alike.setdefault(" ".join(row["text"].casefold().split()), []).append(number)
    held = {row["text"].casefold() for row in HELD}
    for text, numbers in alike.items():
        if len({rows[number]["label"] for number in numbers}) > 1:
            reason = "conflicting_labels"
        elif text in held:
            reason = "leakage"
        else:
            reason, numbers = "duplicate", numbers[1:]
        for number in numbers:
            found[number] = reason
    return found


@settings(max_examples=8)
@given(rows=mixtures())
def test_the_books_balance(base_folder: Path, tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    folder = tmp_path_factory.mktemp("books")
    write_csv(folder / "held.csv", HELD)
    data = {"test": "held.csv", "group": None, "audit": {"max_rejected": "60%"}}
    prepared = run(job_of(folder, base_folder, rows, data=data))
    staying, leaving = kept(prepared), left_out(prepared)
    books = prepared.audit["rows"]
    assert books["read"] == len(rows) + len(HELD) == len(staying) + len(leaving)
    assert books["kept"] == len(staying)
    assert sum(books["rejected"].values()) == sum(not row["quarantined"] for row in leaving)
    assert sum(books["quarantined"].values()) == sum(row["quarantined"] for row in leaving) == len(quarantine(prepared))

    everything = sorted(staying + leaving, key=lambda row: row["row_id"])
    assert [row["row_id"] for row in everything] == list(range(len(rows) + len(HELD)))
    assert [row["line"] for row in everything] == [*range(2, len(rows) + 2), *range(2, len(HELD) + 2)]
    assert [row["text"] for row in everything] == [row["text"].strip() for row in rows + HELD]
    assert [row["label"] for row in everything] == [row["label"].strip() for row in rows + HELD]

    reasons = {row["row_id"]: row["reason"] for row in leaving}
    expected = {number: reason for number, reason in enumerate(expected_reasons(rows)) if reason}
    assert reasons == expected
    for row in leaving:
        assert row["source"].endswith("/rows.csv") and row["quarantined"] == (row["reason"] == "conflicting_labels")
        if row["reason"] in {"duplicate", "conflicting_labels", "leakage"}:
            assert ".csv:" in row["detail"], "the other row is named"


# --- every action for every finding


@dataclass(frozen=True)
class Planted:
    """Rows that show one finding, put behind good ones."""

    reason: str
    train: list[str]  # texts
    found: list[int]  # of them, those that are left out
    test: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=lambda: ["refund", "refund"])


PLANTED = {
    "duplicates": Planted("duplicate", ["Twice, the same", "twice,  THE same"], [1]),
    "conflicts": Planted("conflicting_labels", ["said twice", "Said twice"], [0, 1], labels=["refund", "account"]),
    "leakage": Planted("leakage", ["Seen before", "not seen"], [0], test=["seen before"]),
    "near_duplicates": Planted("near_duplicate", [LONG, LONG + "s"], [1]),
    "near_leakage": Planted("near_leakage", [LONG, "unlike"], [0], test=[LONG + "s"]),
    "personal_data": Planted("personal_data", ["write to ann@example.org", "no address"], [0]),
}


def prepare_planted(folder: Path, base: Path, name: str, action: str) -> tuple[Prepared, list[int]]:
    """(what became of it, row ids that the finding is about)."""
    planted = PLANTED[name]
    new = [
        {"text": text, "label": label, "customer": f"x{number}"}
        for number, (text, label) in enumerate(zip(planted.train, planted.labels, strict=True))
    ]
    data: dict[str, Any] = {"audit": {name: action, "max_rejected": "10%"}}
    if planted.test:
        rows = [*HELD, *({"text": text, "label": "refund", "customer": "y"} for text in planted.test)]
        data["test"] = str(write_csv(folder / "held.csv", rows))
    prepared = run(job_of(folder, base, GOOD + new, data=data))
    return prepared, [len(GOOD) + place for place in planted.found]


@pytest.mark.parametrize("action", ["report", "drop", "quarantine"])
@pytest.mark.parametrize("name", list(PLANTED))
def test_a_finding_is_acted_on(base_folder: Path, tmp_path: Path, name: str, action: str) -> None:
    prepared, rows = prepare_planted(tmp_path, base_folder, name, action)
    reason = PLANTED[name].reason
    told = finding(prepared, name)
    assert (told["found"], told["action"], told["unit"]) == (len(rows), action, "rows")
    assert len(told["examples"]) == len(rows)
    assert f"rows.csv:{rows[0] + 2}" in told["examples"][0]["where"]
    expected = {reason: len(rows)}
    assert prepared.audit["rows"]["rejected"] == (expected if action == "drop" else {})
    assert prepared.audit["rows"]["quarantined"] == (expected if action == "quarantine" else {})
    leaving = left_out(prepared)
    assert [row["row_id"] for row in leaving] == ([] if action == "report" else rows)
    assert all(row["quarantined"] == (action == "quarantine") and row["detail"] for row in leaving)
    aside = quarantine(prepared)
    assert [int(row["line"]) - 2 for row in aside] == (rows if action == "quarantine" else [])
    assert {row["row_id"] for row in kept(prepared)} >= set(range(len(GOOD))), "nothing else is left out"


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_finding_that_shall_stop_the_job_leaves_nothing(base_folder: Path, tmp_path: Path, name: str) -> None:
    first = len(GOOD) + PLANTED[name].found[0] + 2
    with pytest.raises(DataError, match=rf"{PLANTED[name].reason}, the first at .*rows\.csv:{first} "):
        prepare_planted(tmp_path, base_folder, name, "fail")
    assert not [each for each in (tmp_path / "out/data").iterdir() if each.is_dir()]


def test_labels_that_hold_personal_data_are_masked_in_examples(base_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": text, "label": "ann@example.org", "customer": "x"} for text in ("it is", "It is", "so be it")]
    prepared = run(job_of(tmp_path, base_folder, GOOD + rows))
    (shown,) = finding(prepared, "duplicates")["examples"]
    assert shown["label"] == "a***@e***.org" and "ann@example" not in shown["detail"]


def test_earlier_checks_come_first(base_folder: Path, tmp_path: Path) -> None:
    """Two copies and a contradiction of a text in the test file: one reason, conflicts before leakage."""
    write_csv(tmp_path / "held.csv", HELD)
    copies = [{**HELD[0], "customer": "x"}, {**HELD[0], "customer": "x"}]
    rows = [*GOOD, *copies, {**HELD[0], "label": other(HELD[0]["label"]), "customer": "x"}]
    prepared = run(job_of(tmp_path, base_folder, rows, data={"test": "held.csv"}))
    assert prepared.audit["rows"]["quarantined"] == {"conflicting_labels": 3}
    assert prepared.audit["rows"]["rejected"] == {} and finding(prepared, "leakage")["found"] == 0


@pytest.mark.parametrize("name", ["small_labels", "label_names", "drift"])
def test_notices_that_shall_stop_the_job(base_folder: Path, tmp_path: Path, name: str) -> None:
    odd = [{"text": f"odd one {number}", "label": "Re-Fund", "customer": f"x{number}"} for number in range(2)]
    strange = [{**row, "text": f"zebra quartz {row['text']}", "label": "refund"} for row in HELD * 4]
    strange = [{**row, "text": f"{row['text']} {number}"} for number, row in enumerate(strange)]
    write_csv(tmp_path / "held.csv", strange)
    data: dict[str, Any] = {"test": "held.csv"}
    for action in ("report", "fail"):
        data["audit"] = {name: action}
        job = job_of(tmp_path, base_folder, GOOD + odd, data=data)
        if action == "report":
            assert finding(run(job), name)["level"] == "warning"
            continue
        with pytest.raises(DataError, match=r".") as caught:
            run(job)
        assert f"set data.audit.{name}: report" in str(caught.value)
