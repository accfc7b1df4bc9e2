"""Every task by the console command on a real Ray: checked, trained, reported, scored again and used. Classification
has more of it in test_journey.py; other folds of the same data are trained in test_sweep.py."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raysft.cli.main import run
from raysft.result import RunResult
from tests.support.answering import asked
from tests.support.jobs import TOPICS, write_job
from tests.support.tagged import TYPES, tagged_rows, tagged_sections, write_tagged

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Case:
    """A task, and what its job file, its result and its report hold."""

    task: str
    file: str
    rows: list[dict[str, Any]]
    sections: dict[str, Any]
    labels: list[str]
    measure: str
    least: float  # of that measure on the test part, far above what knowing nothing gives
    baseline: str
    page: tuple[str, ...]
    card: str
    readable: Callable[[str], bool]  # whether a predicted label is what the task gives


OPENINGS = ("tell me of", "what is", "help with", "my", "the", "where is", "how about", "please,", "again:", "hello,")
CASES = [
    Case(
        "token-classification", "tagged.jsonl", tagged_rows(120) + tagged_rows(12, 1, joined=4), tagged_sections(),
        list(TYPES), "f1_micro", 0.8, "dictionary", ("Entity F1", "delivery"), "token-classification",
        lambda label: isinstance(json.loads(label), list),
    ),
    Case(
        "generation", "chats.jsonl",
        [
            {"messages": asked(f"{opening} {word}", f"this is about {topic}")}
            for topic, words in TOPICS.items() for word in words for opening in OPENINGS
        ],
        {
            "task": "generation",
            "model": {"max_length": 64, "init": {"layers": 2, "hidden": 48, "heads": 2, "vocabulary": 400}},
            "data": {"train": "chats.jsonl", "text": None, "label": None, "group": None},
            "train": {"epochs": 25, "learning_rate": 2e-3},
            "generation": {"max_new_tokens": 8},
        },
        [], "exact_match", 0.5, "commonest_answer", ("Exact match", "Reference"), "text-generation",
        lambda label: "about" in label,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.task for case in CASES])
def test_the_journey(cluster: None, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: Case) -> None:
    corpus = write_tagged(tmp_path / case.file, case.rows)
    job = write_job(tmp_path, base, **case.sections)
    assert run(["check", str(job)]) == 0
    assert run(["train", str(job)]) == 0
    folder = tmp_path / "out" / "runs" / "tiny"
    result = RunResult.read(folder / "result.json")
    assert result.task == case.task and result.labels == case.labels
    found = result.measure(case.measure)
    assert found is not None and found.low <= found.value <= found.high and found.value > case.least
    assert set(result.baselines) == {case.baseline}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(words in page for words in case.page) and "Confusion matrix" not in page
    assert f"pipeline_tag: {case.card}" in (folder / "model_card.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run(["evaluate", str(job), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["test"]["metrics"][case.measure]["value"] == pytest.approx(found.value, abs=1e-6)
    out = tmp_path / "found.csv"
    assert run(["predict", str(job), str(corpus), "--output", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(case.rows) and all(case.readable(row["label"]) for row in rows[:5])
    assert run(["train", str(job)]) == 0  # finished: the same result, without training
