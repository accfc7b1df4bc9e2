"""What the first rows of all files decide for every row: separator, form of times, scheme of tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysft.config.sections import DataSection
from raysft.corpus.forms import SAMPLE_ROWS, with_forms
from raysft.errors import JobFileError, Problem
from raysft.reading.records import Columns
from raysft.reading.sources import find_sources
from tests.support.reading import write


def problem(key: str, text: str) -> JobFileError:
    return JobFileError([Problem("job.yaml:1", key, text)])


def forms(
    folder: Path, files: list[list[Any]], task: str = "classification", role: str = "label", **data: Any
) -> Columns:
    """What is found in files whose rows have these labels or times."""
    for number, cells in enumerate(files):
        write(folder, "".join(json.dumps({"text": "a b", role: cell}) + "\n" for cell in cells), f"{number}.jsonl")
    section = DataSection.model_validate({"train": [f"{number}.jsonl" for number in range(len(files))], **data})
    columns = Columns("text", None if role == "time" else "label", time="time" if role == "time" else None)
    return with_forms(columns, section, task, find_sources(section, folder, str), problem)


SEPARATORS: list[tuple[list[list[Any]], str | None]] = [
    ([["a;b", "c"]], ";"),
    ([["a"], ["a|b"]], "|"),
    ([["New York, NY"]], ","),  # announced, and overridden with data.label_separator
    ([["a", 3, None]], None),
    ([[["a, b", "c;d"], '["a, b", "c|d"]', "a;b"]], ";"),  # lists are cut already
    ([["a;b"] * SAMPLE_ROWS + ["c,d"]], ";"),  # rejected when it is read
]


@pytest.mark.parametrize(("files", "found"), SEPARATORS)
def test_one_separator_for_the_corpus(tmp_path: Path, files: list[list[Any]], found: str | None) -> None:
    assert forms(tmp_path, files, multi_label=True).separator == found
    assert forms(tmp_path, files).separator is None


@pytest.mark.parametrize("files", [[["Food, Drink;Travel"]], [["a;b"], ["c,d"]]])
def test_two_separators_are_a_question(tmp_path: Path, files: list[list[Any]]) -> None:
    with pytest.raises(JobFileError, match=r"data\.label_separator: the cells of 'label' have , and ;; write the one"):
        forms(tmp_path, files, multi_label=True)
    assert forms(tmp_path, files, multi_label=True, label_separator=";").separator is None


TIMES: list[tuple[list[Any], str | None]] = [
    ([1, 2.5, "3"], "numbers"),
    (["2024-01-31", "31.01.2024 10:00"], "dates"),
    ([20240131, "20230501"], "dates"),
    ([2024, "2023-05-01", 20240131, 1700000000, 1700000000000], "dates"),
    ([1700000000] * 30 + ["2023-05-01"], "numbers"),
    ([20240131, 5, 6], "numbers"),
    (["", None, "soon"], None),
]


@pytest.mark.parametrize(("cells", "form"), TIMES)
def test_times_have_one_form(tmp_path: Path, cells: list[Any], form: str | None) -> None:
    assert forms(tmp_path, [cells], role="time", time="time").times == form
    assert forms(tmp_path, [[None], cells], role="time", time="time").times == form


TAGS: list[tuple[list[list[Any]], str | None]] = [
    ([["O B-PER"], ["O E-PER"]], "prefixed"),
    ([[["S-PER", "O"], ["O", "U-LOC"]]], "prefixed"),
    ([["B-PER I-PER O"] * 9, ["O I-PER"]], "begun"),
    ([["B-PER I-PER O"] * 8], "prefixed"),  # too few to tell
    ([["I-PER I-PER O"] * 9 + ["I-PER B-PER"]], "prefixed"),  # IOB1
    ([["O E-mail"], ["phone O"]], "plain"),
    ([["S-Bahn O", "O bus"]], "plain"),
    ([["O O"]], None),
    ([[[[0, 1, "E-mail"]], []]], None),  # spans
]


@pytest.mark.parametrize(("files", "found"), TAGS)
def test_tags_have_one_scheme(tmp_path: Path, files: list[list[Any]], found: str | None) -> None:
    assert forms(tmp_path, files, task="token-classification").tags == found
