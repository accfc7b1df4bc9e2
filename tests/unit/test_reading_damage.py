"""Whatever happens to a file: no row is lost without a word, moved, or made up; only our errors are raised."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.damage import FORMATS, TEXTS, check
from tests.support.reading import read

SEEDS = st.integers(0, 2**64)


@pytest.mark.parametrize("kind", FORMATS)
@given(seed=SEEDS)
def test_rows_survive_damage_or_say_why_not(tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int) -> None:
    assert check(tmp_path_factory.getbasetemp(), kind, Random(seed)) in {"refused", "partial", "exact"}


@pytest.mark.parametrize("kind", TEXTS)
def test_damage_is_neither_always_refused_nor_never_seen(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    """The check above would be empty, if no damaged file were read."""
    folder = tmp_path_factory.getbasetemp()
    found = Counter(check(folder, kind, Random(seed)) for seed in range(60))
    assert found["partial"] >= 5, found


@given(content=st.binary(max_size=120), ending=st.sampled_from(["csv", "tsv", "jsonl", "json", "conll"]))
def test_any_bytes_are_rows_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    start = {"csv": b"text,label\n", "tsv": b"text\tlabel\n", "json": b"[", "jsonl": b"{}\n", "conll": b"a\tO\n"}
    try:
        found = read(tmp_path_factory.getbasetemp(), start[ending] + content, f"rows.{ending}")
    except Exception as error:  # noqa: BLE001
        assert type(error).__module__ == "raysft.errors"
    else:
        lines = [row[0] for row in found]
        # Several rows of a JSON array may begin on one line.
        assert lines == (sorted(lines) if ending == "json" else sorted(set(lines)))
