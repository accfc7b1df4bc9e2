"""Wrong labels: changed labels are found, right ones are left alone, and nothing a corpus may hold stops the search."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.audit import wrong_labels
from raysft.audit.finding import EXAMPLES
from raysft.audit.probe import out_of_fold
from raysft.audit.wrong_labels import Pair, Suspects, find_suspects, finding, row_keys

Array = np.ndarray[Any, Any]


def clusters(labels: int = 12, each: int = 50, seed: int = 0, spread: float = 0.1) -> tuple[Array, Array]:
    """(points of unit length, label of each), a cluster a label, in mixed order."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(labels, 32))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    label = draw.permutation(np.repeat(np.arange(labels), each))
    return unit_length(centres[label] + spread * draw.normal(size=(len(label), 32))), label


def unit_length(points: Array) -> Array:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def with_changes(label: Array, share: float, seed: int = 1) -> tuple[Array, Array]:
    """(labels of which a share are others, which those are)."""
    draw = np.random.default_rng(seed)
    count = int(label.max()) + 1
    changed = draw.permutation(len(label))[: round(share * len(label))]
    given_labels = label.copy()
    given_labels[changed] = (label[changed] + draw.integers(1, count, len(changed))) % count
    return given_labels, given_labels != label


def alone(label: Array) -> Array:
    return np.arange(len(label))


def suspects_in(points: Array, label: Array, units: Array | None = None, k: int = 5, seed: int = 0) -> Suspects:
    """What is found among rows of different texts, each a unit of its own unless `units` says otherwise."""
    keys = row_keys(alone(label), label, seed)
    return find_suspects(points, label, alone(label) if units is None else units, keys, k)


@pytest.mark.parametrize("share", [0.05, 0.10, 0.20])
@pytest.mark.parametrize(("labels", "each"), [(2, 150), (12, 50), (40, 15)])
def test_changed_labels_are_found_and_the_right_ones_suggested(share: float, labels: int, each: int) -> None:
    points, truth = clusters(labels, each)
    label, wrong = with_changes(truth, share)
    suspects = suspects_in(points, label)
    flagged = suspects.flagged
    assert wrong[flagged].mean() > 0.9
    assert wrong[flagged].sum() > 0.9 * wrong.sum()
    found = flagged[wrong[flagged]]
    assert (suspects.suggested[found] == truth[found]).mean() > 0.95


def test_the_worst_come_first_and_the_scores_say_so() -> None:
    points, truth = clusters(spread=0.2)
    label, wrong = with_changes(truth, 0.15)
    suspects = suspects_in(points, label)
    scores = suspects.doubt[suspects.ranked]
    assert len(scores) > len(suspects.flagged) > 50
    assert (np.diff(scores) <= 0).all()
    assert suspects.ranked[: len(suspects.flagged)].tolist() == suspects.flagged.tolist()
    assert set(suspects.ranked.tolist()) == set(np.flatnonzero(suspects.score > 0).tolist())
    assert len(suspects.flagged) <= suspects.estimated <= len(suspects.ranked)
    assert wrong[suspects.flagged[:40]].all()
    assert ((suspects.probability > 0) & (suspects.probability <= 1)).all()


def test_right_labels_are_left_alone() -> None:
    points, label = clusters()
    suspects = suspects_in(points, label)
    assert len(suspects.flagged) <= 0.01 * len(label)
    assert suspects.accuracy > 0.98
    assert suspects.baseline == pytest.approx(1 / 12)


def test_mixed_up_labels_are_counted_in_pairs() -> None:
    zeros = np.zeros(7, np.float32)
    suspects = Suspects(
        flagged=np.array([5, 0, 3, 2, 4]),
        given=np.array([7, 7, 1, 7, 3, 1, 7]),
        suggested=np.array([3, 3, 5, 3, 7, 5, 0]),
        probability=zeros,
        score=zeros,
        doubt=zeros,
        judged=np.ones(7, bool),
        accuracy=0.9,
        baseline=0.5,
        estimated=5,
        overlap=False,
    )
    assert suspects.pairs == (Pair(1, 5, 2), Pair(7, 3, 2), Pair(3, 7, 1))


def test_two_labels_that_are_mixed_up_lead_the_pairs() -> None:
    points, truth = clusters(each=100)
    label = truth.copy()
    label[np.flatnonzero(truth == 3)[:15]] = 7
    first = suspects_in(points, label).pairs[0]
    assert (first.given, first.suggested) == (7, 3)
    assert first.count >= 4


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_one_way_are_found(seed: int) -> None:
    """A twelfth of one label carries one other, which the probe learns too, among labels that overlap a little."""
    points, truth = clusters(4, 400, seed, spread=0.3)
    label = truth.copy()
    label[np.flatnonzero(truth == 0)[:34]] = 1
    suspects = suspects_in(points, label)
    wrong = label != truth
    assert suspects.accuracy < 0.96 and not suspects.overlap
    assert wrong[suspects.flagged].mean() > 0.7
    assert wrong[suspects.flagged].sum() > 0.75 * wrong.sum()


@pytest.mark.parametrize(("labels", "spread"), [(4, 0.8), (4, 1.2), (2, 1.0)])
def test_labels_that_overlap_are_not_called_wrong(labels: int, spread: float) -> None:
    """Every label is right, but the probe cannot tell."""
    points, label = clusters(labels, 1500 // labels, spread=spread)
    suspects = suspects_in(points, label)
    found = finding(suspects, [""] * len(label), [""] * len(label), list("abcd"), "report")
    assert suspects.accuracy < 0.8 and suspects.overlap
    assert len(suspects.flagged) < 0.3 * len(suspects.ranked)
    assert found.level != "warning" and found.explanation.startswith("The labels overlap, or the base cannot tell")
    assert f"of {len(suspects.ranked)} with which it disagrees" in found.explanation


def test_rows_of_a_unit_do_not_vouch_for_each_other() -> None:
    draw = np.random.default_rng(0)
    twins = np.repeat(unit_length(draw.normal(size=(120, 256))), 2, axis=0)  # and nothing else to be learnt
    points = unit_length(twins + 1e-3 * draw.normal(size=twins.shape))
    label = np.repeat(draw.permutation(np.repeat(np.arange(6), 20)), 2)
    apart = suspects_in(points, label)
    together = suspects_in(points, label, np.repeat(np.arange(120), 2))
    assert apart.accuracy > 0.7
    assert together.accuracy < 0.4


def test_a_label_with_too_few_rows_to_be_learnt_is_not_judged() -> None:
    points, label = clusters()
    label[:2] = [100, 101]
    label[2:4] = 102
    suspects = suspects_in(points, label)
    assert not suspects.judged[:4].any()
    assert suspects.judged[4:].all()
    assert not set(suspects.flagged.tolist()) & {0, 1, 2, 3}
    assert (suspects.score[:4] == 0).all()


def test_labels_may_be_any_numbers() -> None:
    points, truth = clusters()
    label, _ = with_changes(truth, 0.1)
    keys = row_keys(alone(label), label, 0)
    plain, other = (find_suspects(points, numbers, alone(label), keys) for numbers in (label, 10 * label - 33))
    assert len(plain.flagged) > 0
    np.testing.assert_array_equal(other.flagged, plain.flagged)
    np.testing.assert_array_equal(other.suggested, 10 * plain.suggested - 33)
    np.testing.assert_array_equal(other.given, 10 * label - 33)


def assert_same(a: Suspects, b: Suspects, order: Array) -> None:
    """Row i of `b` is row order[i] of `a`."""
    np.testing.assert_array_equal(order[b.flagged], a.flagged)
    for name in ("given", "suggested", "probability", "score", "doubt", "judged"):
        np.testing.assert_array_equal(getattr(b, name), getattr(a, name)[order], err_msg=name)
    assert (b.accuracy, b.baseline, b.pairs) == (a.accuracy, a.baseline, a.pairs)


@pytest.mark.parametrize("size", [1, 3])
def test_the_order_of_the_rows_means_nothing(size: int) -> None:
    points, truth = clusters(spread=0.25)
    label, _ = with_changes(truth, 0.1)
    units = alone(label) // size
    order = np.random.default_rng(5).permutation(len(label))
    keys = row_keys(alone(label), label, 0)
    first = find_suspects(points, label, units, keys)
    assert len(first.flagged) > 30
    assert_same(first, find_suspects(points[order], label[order], 1000 - units[order], keys[order]), order)


def test_the_order_of_texts_that_differ_in_case_only_means_nothing() -> None:
    """They have one key and are of one unit, but other points."""
    points, truth = clusters(spread=0.25)
    label, units = np.repeat(with_changes(truth, 0.1)[0][::2], 2), alone(truth) // 2
    keys = row_keys(units, label, 0)
    order = np.random.default_rng(5).permutation(len(label))
    first = find_suspects(points, label, units, keys)
    assert_same(first, find_suspects(points[order], label[order], units[order], keys[order]), order)


def test_the_rounding_of_points_moves_no_row_to_another_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine or number of threads rounds otherwise, and must name the same rows."""
    points, truth = clusters()
    label, _ = with_changes(truth, 0.1)
    otherwise = (points * (1 + 1e-6 * np.random.default_rng(3).normal(size=points.shape))).astype(np.float32)
    seen: list[tuple[Array, Array]] = []

    def probe(points: Array, codes: Array, folds: Array, labels: int) -> tuple[Array, Array]:
        seen.append((codes, folds))
        return out_of_fold(points, codes, folds, labels)

    monkeypatch.setattr(wrong_labels, "out_of_fold", probe)
    first, second = suspects_in(points, label), suspects_in(otherwise, label)
    assert (points != otherwise).mean() > 0.9
    np.testing.assert_array_equal(seen[0], seen[1])
    assert len(first.flagged) > 40
    assert first.flagged.tolist() == second.flagged.tolist()
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-3)


def test_the_key_of_a_row_follows_from_its_text_label_and_seed_alone() -> None:
    text, label = np.array([5, 5, 6, 5]), np.array([1, 1, 1, 2])
    keys = row_keys(text, label, 7)
    assert keys.dtype == np.uint64
    assert keys[0] == keys[1] and len(set(keys.tolist())) == 3
    np.testing.assert_array_equal(row_keys(text[2:], label[2:], 7), keys[2:])
    assert not set(keys.tolist()) & set(row_keys(text, label, 8).tolist())
    assert row_keys(label, text, 7)[0] != keys[0]


def test_the_seed_decides_and_nothing_else() -> None:
    points, truth = clusters(spread=0.25)
    label, _ = with_changes(truth, 0.1)
    first, again, other = (suspects_in(points, label, seed=seed) for seed in (4, 4, 5))
    assert_same(first, again, alone(label))
    assert (first.score != other.score).any()


LABELS_AND_UNITS = st.integers(0, 40).flatmap(
    lambda rows: st.tuples(
        st.lists(st.integers(0, 5), min_size=rows, max_size=rows),
        st.lists(st.integers(0, 12), min_size=rows, max_size=rows),
    )
)


@given(LABELS_AND_UNITS, st.integers(2, 12), st.integers(0, 3), st.booleans())
def test_whatever_the_corpus_it_ends_and_holds_together(
    rows: tuple[list[int], list[int]], k: int, seed: int, all_alike: bool
) -> None:
    label, units = (np.array(column, np.int64) for column in rows)
    points = unit_length(np.random.default_rng(seed).normal(size=(len(label), 8)))
    if all_alike and len(label):
        points[:] = points[0]
    suspects = suspects_in(points, label, units, k, seed)
    for name in ("given", "suggested", "probability", "score", "judged"):
        assert getattr(suspects, name).shape == label.shape
    assert len(set(suspects.flagged.tolist())) == len(suspects.flagged)
    assert suspects.judged[suspects.flagged].all()
    assert (suspects.score[suspects.flagged] > 0).all()
    assert np.isfinite(suspects.score).all()
    assert (suspects.suggested != label)[suspects.judged].all()
    assert 0 <= suspects.accuracy <= 1
    assert sum(pair.count for pair in suspects.pairs) == len(suspects.flagged)


def test_points_that_are_all_alike_condemn_no_row() -> None:
    label = np.repeat([0, 1, 2], [60, 30, 10])
    suspects = suspects_in(np.full((100, 8), 8**-0.5, np.float32), label)
    assert len(suspects.flagged) == 0
    assert suspects.judged.all()


@pytest.mark.parametrize("label", [[], [0], [0] * 9, [0, 1], list(range(9)), [0] * 8 + [1]])
def test_a_corpus_that_teaches_nothing_gives_nothing(label: list[int]) -> None:
    points = unit_length(np.random.default_rng(0).normal(size=(len(label), 4)))
    suspects = suspects_in(points, np.array(label, np.int64))
    assert len(suspects.flagged) == 0
    assert suspects.given.tolist() == label


def test_rows_that_all_stay_together_are_not_judged() -> None:
    points, label = clusters(3, 20)
    suspects = suspects_in(points, label, np.zeros(60, np.int64))
    assert not suspects.judged.any()
    assert len(suspects.flagged) == 0


def test_hundreds_of_labels_with_three_rows_each() -> None:
    points, truth = clusters(300, 3, spread=0.05)
    label, wrong = with_changes(truth, 0.05)
    suspects = suspects_in(points, label, k=10)
    assert suspects.accuracy > 0.5
    assert wrong[suspects.flagged[:10]].mean() >= 0.5  # of 45 among 900; chance is 0.05


@pytest.mark.parametrize(
    ("k", "rows", "keys", "message"),
    [(1, 4, 4, "k must be at least 2"), (5, 3, 4, "lengths differ"), (5, 4, 3, "lengths differ.* 3 keys")],
)
def test_wrong_use_is_refused(k: int, rows: int, keys: int, message: str) -> None:
    some = np.arange(4, dtype=np.uint64)[:keys]
    with pytest.raises(ValueError, match=message):
        find_suspects(np.zeros((4, 2), np.float32), np.array([0, 1] * 2)[:rows], np.arange(4), some, k)


def test_the_finding_shows_the_worst_rows() -> None:
    points, truth = clusters()
    label, _ = with_changes(truth, 0.1)
    suspects = suspects_in(points, label)
    names = [f"topic {number}" for number in range(12)]
    wheres = [f"a.csv:{row + 2}" for row in range(len(label))]
    found = finding(suspects, wheres, [f"text {row}" for row in range(len(label))], names, "quarantine")
    worst = int(suspects.flagged[0])
    assert (found.name, found.found, found.unit) == ("wrong_labels", len(suspects.flagged), "rows")
    assert (found.action, found.level) == ("quarantine", "warning")
    assert len(found.examples) == EXAMPLES
    first = found.examples[0]
    assert (first.where, first.text, first.label) == (f"a.csv:{worst + 2}", f"text {worst}", f"topic {label[worst]}")
    assert first.detail == f"suggested: topic {truth[worst]} ({suspects.probability[worst]:.2f})"
    assert f"of {len(suspects.ranked)} with which it disagrees, {suspects.estimated} are" in found.explanation
    assert json.loads(json.dumps(found.to_json()))["found"] == len(suspects.flagged)


def test_the_finding_says_when_nothing_is_wrong_or_can_be_told() -> None:
    def explained(points: Array, label: Array) -> tuple[str, str]:
        suspects = suspects_in(points, label)
        found = finding(suspects, [""] * len(label), [""] * len(label), ["a", "b", "c"], "report")
        assert (found.found, found.examples) == (0, ())
        return found.level, found.explanation.split(":")[0]

    points, label = clusters(3, 30, spread=0.01)
    assert explained(points, label) == ("fine", "None stands out")
    assert explained(np.ones_like(points), label) == ("fine", "Cannot be told")
    assert explained(points[:3], np.arange(3)) == ("fine", "Not looked at")


def test_a_few_suspects_are_a_note() -> None:
    points, label = clusters()
    label[0] = (label[0] + 1) % 12
    suspects = suspects_in(points, label)
    assert suspects.flagged.tolist()[:1] == [0]
    assert finding(suspects, [""] * 600, [""] * 600, [str(n) for n in range(12)], "report").level == "note"
