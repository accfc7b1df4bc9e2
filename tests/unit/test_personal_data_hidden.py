"""Personal data, planted wherever an audit shows something of a row, is seen and is in nothing that an audit shows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysft.cli.audit_table import audit_table
from raysft.preparation.prepared import Prepared
from raysft.report.audit_page import audit_page
from tests.support.jobs import TOPICS, corpus_rows, write_csv
from tests.support.preparing import finding, job_of, run, write_lines

MAIL, PHONE, CARD = "jane.doe@example.com", "0171 1234567", "4111 1111 1111 1111"
PRIVATE = f"{MAIL} or {PHONE} or {CARD}"
OTHERS = "hugo.roe@sample.org or 0172 7654321 or 5500 0000 0000 0004"  # words that tell a test part apart
# Parts of them too: half a number is what a careless cut leaves.
NEVER = (
    MAIL,
    "jane",
    "doe@",
    PHONE,
    "1234567",
    "0171",
    CARD,
    "4111",
    "1111 1111",
    "hugo",
    "roe",
    "0172",
    "7654321",
    "5500",
)


def edge(most: int) -> str:
    """A text in which a card number stands across the place where an excerpt of `most` characters ends."""
    return f"{'hello ' * (most // 6 - 2)}{'x' * (most % 6)} {CARD} parcel"


def shown(prepared: Prepared) -> dict[str, str]:
    """All that a person sees of an audit."""
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(audit_table(prepared.audit))
    return {
        "audit.json": prepared.folder.audit.read_text(encoding="utf-8"),
        "audit.html": audit_page(prepared.audit, "job"),
        "table": out.getvalue(),
    }


def leaks(prepared: Prepared) -> list[tuple[str, str]]:
    return [(name, part) for name, text in shown(prepared).items() for part in NEVER if part in text]


def planted_rows() -> list[dict[str, str]]:
    """Every kind of row that is shown: duplicate, conflicting, almost the same, left out, and wrongly labelled."""
    rows = [
        {
            "text": f"{' '.join([*words[n % 7 :], *words] * 2)} {n} {PRIVATE}",
            "label": label,
            "customer": f"{label}{n}",
        }
        for label, words in TOPICS.items()
        for n in range(30)
    ]
    wrong = [{**rows[n], "text": f"{rows[n]['text']} {n}", "label": "refund", "customer": f"w{n}"} for n in range(3)]
    long = f"hello the courier came late with my parcel and left it at the wrong doorstep {PRIVATE}"
    return [
        {"text": f"same again {PRIVATE}", "label": "refund", "customer": "a"},
        {"text": f"same again {PRIVATE}", "label": "refund", "customer": "a"},
        {"text": f"two labels {PRIVATE}", "label": "refund", "customer": "b"},
        {"text": f"two labels {PRIVATE}", "label": "account", "customer": "b"},
        {"text": edge(400), "label": "delivery", "customer": "c"},
        {"text": edge(400), "label": "delivery", "customer": "c"},
        {"text": f"{long} ok", "label": "delivery", "customer": "d"},
        {"text": f"{long} oks", "label": "delivery", "customer": "e"},
        {"text": f"no label {PRIVATE}", "label": "", "customer": "f"},
        {"text": f"{corpus_rows(1)[0]['text']} {OTHERS}", "label": "refund", "customer": "i"},
        {"text": CARD.replace(" ", ""), "label": "product", "customer": "g"},
        *wrong,
        *rows,
    ]


def test_of_classes(base_folder: Path, tmp_path: Path) -> None:
    held = [{**row, "text": f"{row['text']} {OTHERS}", "customer": f"h{n}"} for n, row in enumerate(corpus_rows(120))]
    write_csv(tmp_path / "held.csv", [*held, {"text": f"two labels {PRIVATE}", "label": "refund", "customer": "h"}])
    data = {"test": "held.csv", "audit": {"max_rejected": "50%"}}
    prepared = run(job_of(tmp_path, base_folder, planted_rows(), data=data))
    for name in ("duplicates", "conflicts", "leakage", "near_duplicates", "personal_data"):
        assert finding(prepared, name)["found"] and finding(prepared, name)["examples"], name
    assert prepared.audit["near_duplicates"]["examples"]
    assert {"missing_label", "duplicate"} <= {each["reason"] for each in prepared.audit["rejected_examples"]}
    assert prepared.audit["drift"]["words"]["second"]
    assert leaks(prepared) == []
    assert "j***@e***.com" in shown(prepared)["audit.html"]


def test_of_wrong_labels(base_folder: Path, tmp_path: Path) -> None:
    audit = {"wrong_labels": "report", "max_rejected": "50%", "similarity": 1.0}  # else these rows are one unit
    prepared = run(job_of(tmp_path, base_folder, planted_rows(), data={"audit": audit}))
    assert finding(prepared, "wrong_labels")["examples"] and prepared.audit["wrong_labels"]["examples"]
    assert leaks(prepared) == []


def answered(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def chats(base_folder: Path, tmp_path: Path) -> Prepared:
    rows = [answered(f"what is {n * 7919}", f"ask {PRIVATE} about {n}") for n in range(40)]
    rows += [answered(f"how is {n * 104729}", f"fine, thank you, {n}") for n in range(80)]
    rows += [
        answered("who", f"it is {PRIVATE}"),
        answered("who", f"it is {PRIVATE}"),
        answered(f"and who of the people that came here yesterday {PRIVATE}", edge(80)),
        answered(f"and who of the people that came here yesterdays {PRIVATE}", edge(80)),
        answered("", f"nothing was asked {PRIVATE}"),
        {"messages": [{"role": "user", "content": f"nothing was answered {PRIVATE}"}]},
    ]
    write_lines(tmp_path / "rows.jsonl", rows)
    data = {"train": "rows.jsonl", "group": None, "audit": {"max_rejected": "50%"}}
    # Answers that do not fit are left out, and would not be looked at.
    return run(job_of(tmp_path, base_folder, data=data, task="generation", model={"max_length": 256}))


def test_of_conversations(chats: Prepared) -> None:
    found = finding(chats, "personal_data")
    assert found["found"] == 40 + 1 + 2, "answers count as questions do"
    assert f"{40 + 1 + 1 + 1} with a card number" in found["explanation"]
    assert finding(chats, "duplicates")["found"] and finding(chats, "near_duplicates")["found"]
    assert len(chats.audit["rejected_examples"]) >= 3
    assert leaks(chats) == []
