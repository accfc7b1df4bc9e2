"""Which folds validate, what belongs together, and labels that some fold would not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysft.config import Job, JobConfig
from raysft.corpus.tokens import TOKENS, shard_name, write_shard
from raysft.errors import JobFileError
from raysft.folds.assign import GIVEN
from raysft.preparation.prepared import Prepared
from raysft.storage.commit import write_json
from raysft.storage.layout import DataFolder
from raysft.tuning.folds import (
    OWN,
    cv_folds,
    refuse_nested,
    refuse_other_rows,
    refuse_other_targets,
    refuse_small_classes,
    units_of,
)


def job(**values: Any) -> Job:
    given = {"name": "tiny", "data": {"train": "rows.csv"}, **values}
    return Job(JobConfig.model_validate(given), Path("job.yaml"), values=given)


def prepared(
    folder: Path,
    k: int = 4,
    order: str = "random",
    folds: tuple[int, ...] = (0, 1, 2, 3),
    units: tuple[int, ...] | None = None,
    labels: dict[str, dict[str, int]] | None = None,
) -> Prepared:
    data = DataFolder(folder)
    data.corpus(sealed=False).parent.mkdir(parents=True)
    ids = [10 * row for row in range(len(folds))]
    columns = {"row_id": ids, "fold": list(folds), "unit": list(units or range(len(folds)))}
    pq.write_table(pa.table({name: pa.array(each, pa.int64()) for name, each in columns.items()}), data.corpus(False))
    write_json(data.audit, {"labels": labels or {}})
    return Prepared("digest", data, tuple(labels or {}), validation=0, k=k, order=order)


def test_each_fold_validates_once(tmp_path: Path) -> None:
    assert cv_folds(job(), prepared(tmp_path)) == [0, 1, 2, 3]


def test_by_time_the_oldest_fold_has_nothing_to_learn_from(tmp_path: Path) -> None:
    assert cv_folds(job(), prepared(tmp_path, order="time")) == [1, 2, 3]


def test_rows_that_the_person_brought_are_the_only_fold(tmp_path: Path) -> None:
    found = prepared(tmp_path, k=0, folds=(0, 0, GIVEN))
    assert cv_folds(job(), found) == [OWN]


def test_without_rows_that_validate_there_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        cv_folds(job(), prepared(tmp_path, k=0, folds=(0, 0)))
    assert caught.value.problems[0].key == "folds.k" and "rows that validate" in caught.value.problems[0].text


COUNTS = {"often": {"-1": 9, "0": 5, "1": 5}, "thrice": {"-1": 9, "0": 3}, "twice": {"-1": 9, "1": 1, "2": 1}}


def test_labels_with_fewer_rows_than_folds_are_named_the_sealed_ones_not_counted(tmp_path: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        refuse_small_classes(job(), prepared(tmp_path, labels=COUNTS))
    (problem,) = caught.value.problems
    assert problem.key == "folds.k"
    assert "fewer rows have twice (2), thrice (3); use folds.k: 2" in problem.text


def test_of_many_such_labels_the_smallest_are_named(tmp_path: Path) -> None:
    labels = {f"label {number}": {"0": number} for number in range(1, 9)}
    with pytest.raises(JobFileError) as caught:
        refuse_small_classes(job(), prepared(tmp_path, k=8, labels=labels))
    text = caught.value.problems[0].text
    assert "label 1 (1), label 2 (2), label 3 (3), label 4 (4), label 5 (5) and 2 more" in text
    assert text.endswith("leave them out or label more rows")


@pytest.mark.parametrize("k", [0, 2])
def test_labels_with_as_many_rows_as_folds_will_do(tmp_path: Path, k: int) -> None:
    refuse_small_classes(job(), prepared(tmp_path, k=k, labels=COUNTS))


def test_entities_and_texts_have_no_classes_that_could_be_too_small(tmp_path: Path) -> None:
    for task in ("token-classification", "causal-lm"):
        refuse_small_classes(job(task=task), prepared(tmp_path / task, labels=COUNTS))


def test_a_nested_search_needs_three_folds_and_none_by_time(tmp_path: Path) -> None:
    refuse_nested(job(), prepared(tmp_path / "three"), [0, 1, 2])
    for name, order, folds, words in (
        ("few", "random", [0, 1], "at least 3 folds"),
        ("time", "time", [1, 2, 3], "newer"),
    ):
        with pytest.raises(JobFileError, match=words) as caught:
            refuse_nested(job(), prepared(tmp_path / name, order=order), folds)
        assert caught.value.problems[0].key == "tune.nested"


def test_settings_that_leave_out_other_rows_than_the_rest_have_no_common_folds(tmp_path: Path) -> None:
    same = [prepared(tmp_path / str(number)) for number in range(2)]
    refuse_other_rows(job(), same)
    refuse_other_rows(job(), same[:1])
    with pytest.raises(JobFileError, match="do not have the same rows"):
        refuse_other_rows(job(), [*same, prepared(tmp_path / "fewer", folds=(0, 1, 2))])


def test_answers_of_which_other_tokens_are_learnt_have_losses_that_cannot_be_compared(tmp_path: Path) -> None:
    def answers(name: str, learnt: list[tuple[int, int]]) -> Prepared:
        """learnt: number of a row and learnt tokens of each of its pieces."""
        found = prepared(tmp_path / name)
        targets = [[0] * (9 - tokens) + [1] * tokens for _, tokens in learnt]
        rows = pa.table(
            {
                "row_id": [row for row, _ in learnt],
                "label": [-1] * len(learnt),
                "input_ids": targets,
                "targets": targets,
            }
        )
        found.folder.tokens(sealed=False).mkdir(parents=True)
        write_shard(found.folder.tokens(sealed=False) / shard_name(0), rows.cast(TOKENS))
        return found

    first, pieces = answers("first", [(0, 5), (1, 4)]), answers("pieces", [(1, 1), (0, 5), (1, 3)])
    refuse_other_targets(job(task="generation"), [first, pieces])
    cut = answers("cut", [(0, 5), (1, 3)])
    with pytest.raises(JobFileError, match="do not score the same tokens"):
        refuse_other_targets(job(task="generation"), [first, cut])
    refuse_other_targets(job(), [first, cut])


def test_rows_of_one_unit_belong_together(tmp_path: Path) -> None:
    found = units_of(prepared(tmp_path, folds=(0, 1, 2, 3), units=(70, 3, 70, 9)))
    assert found.row_id.tolist() == [0, 10, 20, 30] and found.unit.tolist() == [2, 0, 2, 1]
