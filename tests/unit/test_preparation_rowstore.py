"""Rows on disk, read back column by column, are the rows that were written; and what each is known by."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.audit.pieces import overlap
from raysft.corpus.encode import ANSWERS, SEVERAL, SINGLE, TAGS
from raysft.corpus.rows import ROW
from raysft.preparation.features import Wanted, add_features
from raysft.preparation.labels import find_labels
from raysft.preparation.rowstore import ReadFacts, RowStore, facts_file, rows_file, write_rows
from raysft.storage.commit import write_json

WANTED = Wanted(0.8)
ORIGINS = ("train", "validation", "test")
WORDS = ["parcel", "Parcel", "где", "ann@example.org", "+49 170 1234567", "1", "рaypal", "x" * 30, "🙂"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)


def canonical(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows in schema ROW; what is not given is as for a plain kept training row."""
    usual = {
        "origin": "train",
        "source": "/a b/rows.csv",
        "line": 1,
        "text": "",
        "label": "",
        "group": "",
        "detail": "",
    }
    return pa.Table.from_pylist([{**usual, **row} for row in rows], schema=ROW)


def store_of(rows: list[dict[str, Any]]) -> RowStore:
    return RowStore.of_table(canonical(rows), WANTED)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "origin": st.sampled_from(ORIGINS),
            "line": st.integers(1, 10**9),
            "text": TEXT,
            "label": st.sampled_from(["a", "b", "größe"]),
            "group": st.sampled_from(["", "g1", "g2"]),
            "time": st.none() | st.floats(-1e9, 1e9),
            "reason": st.none() | st.sampled_from(["blank_text", "missing_label"]),
        }
    ),
    max_size=6,
)


@settings(max_examples=20)
@given(sources=st.lists(st.lists(ROWS, max_size=3), min_size=1, max_size=3), draw=st.data())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, sources: list[list[list[dict[str, Any]]]], draw: st.DataObject
) -> None:
    """Several sources, some of them empty, of several batches each."""
    folder = tmp_path_factory.mktemp("rows")
    for number, batches in enumerate(sources):
        count, scripts = write_rows(folder, number, map(canonical, filter(None, batches)), WANTED)
        assert count == sum(map(len, batches)) and rows_file(folder, number).exists()
        write_json(facts_file(folder, number), asdict(ReadFacts("p", "train", "csv", "utf-8", count, dict(scripts))))
    store = RowStore.open(folder, len(sources))
    rows = [row for batches in sources for batch in batches for row in batch]
    assert store.rows == len(rows)
    assert [ORIGINS[code] for code in store.origin] == [row["origin"] for row in rows]
    assert store.numbers("line").tolist() == [row["line"] for row in rows]
    assert [None if np.isnan(t) else t for t in store.numbers("time").astype(float)] == [row["time"] for row in rows]
    for name in ("reason", "group", "label"):
        codes, names = store.codes(name)
        assert [None if code < 0 else names[code] for code in codes.tolist()] == [row[name] for row in rows]
        assert len(set(names)) == len(names)
    picked = np.array(draw.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else [], np.int64)
    assert store.texts(picked) == [rows[row]["text"] for row in picked]
    assert store.where(picked) == [f"rows.csv:{rows[row]['line']}" for row in picked]
    seen: list[str] = []
    for start, table in store.tables(["text"]):
        assert start == len(seen)
        seen += table.column("text").to_pylist()
    assert seen == [row["text"] for row in rows]
    whole = add_features(canonical(rows), WANTED)[0]
    assert whole.column("text_key").to_pylist() == store.text_key.tolist()
    for keys, number in zip(store.bands(WANTED), range(WANTED.bands), strict=True):
        assert keys.tolist() == whole.column(f"band_{number:03d}").to_pylist()


def test_rows_appear_only_when_they_are_complete(tmp_path: Path) -> None:
    def breaking() -> Any:
        yield canonical([{"text": "a"}])
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write_rows(tmp_path, 0, breaking(), WANTED)
    assert not rows_file(tmp_path, 0).exists()
    assert write_rows(tmp_path, 0, [canonical([{"text": "a"}])], WANTED)[0] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["00000.arrow"]


# --- what a row is known by


@given(first=TEXT, second=TEXT)
def test_keys_say_which_texts_and_labels_are_the_same(first: str, second: str) -> None:
    rows = canonical([{"text": first, "label": first}, {"text": second, "label": second}])
    table, _ = add_features(rows, WANTED)
    text, label = (table.column(name).to_pylist() for name in ("text_key", "label_key"))
    assert (text[0] == text[1]) == (first.casefold() == second.casefold())
    assert (label[0] == label[1]) == (first == second)


def test_flags_of_each_row() -> None:
    texts = [
        "write to ann@example.org or bob@example.org",
        "call +49 170 1234567",
        "4111 1111 1111 1111",
        "one",
        "log in at рaypal now",
        "nothing here",
    ]
    table, scripts = add_features(canonical([{"text": text} for text in texts]), WANTED)
    flags = {name: table.column(name).to_pylist() for name in ("emails", "phones", "cards", "one_word", "mixed")}
    assert flags["emails"] == [2, 0, 0, 0, 0, 0]
    assert flags["phones"] == [0, 1, 0, 0, 0, 0]
    assert flags["cards"] == [0, 0, 1, 0, 0, 0]
    assert flags["one_word"] == [False, False, False, True, False, False]
    assert flags["mixed"] == [False, False, False, False, True, False]
    assert sum(scripts.values()) == 6


def test_rejected_rows_are_no_example_of_a_script() -> None:
    rows = [{"text": "рaypal", "reason": "x"}, {"text": "parcel", "reason": "missing_label"}, {"text": "где посылка"}]
    table, scripts = add_features(canonical(rows), WANTED)
    assert scripts == Counter({"Cyrillic": 1}) and table.column("mixed").to_pylist() == [False] * 3


@pytest.mark.parametrize(("similarity", "some"), [(0.5, True), (0.8, True), (1.0, False)])
def test_bands_where_near_duplicates_are_looked_for(similarity: float, some: bool) -> None:
    text = "where is my parcel that the courier should bring to me today"
    table, _ = add_features(
        canonical([{"text": text}, {"text": text + "!"}, {"text": text + " x"}]), Wanted(similarity)
    )
    bands = [name for name in table.column_names if name.startswith("band_")]
    assert len(bands) == Wanted(similarity).bands and bool(bands) == some
    if some:
        assert overlap([text, text + " x"], np.array([[0, 1]]))[0] > 0.9
        assert any(table.column(name)[0] == table.column(name)[2] for name in bands)
        assert all(table.column(name)[0] == table.column(name)[1] for name in bands), "punctuation does not count"


# --- labels


def test_names_are_those_of_kept_training_rows() -> None:
    rows = [
        {"label": "b"},
        {"label": "a"},
        {"label": "test only", "origin": "test"},
        {"label": "left out", "reason": "missing_label"},
        {"label": "b", "origin": "validation"},
    ]
    store = store_of(rows)
    labels = find_labels(store, np.array([True, True, True, False, True]), SINGLE)
    assert (labels.names, labels.unseen) == (("a", "b"), ("test only",))
    assert labels.label_id.tolist() == [1, 0, 2, -1, 1]
    assert labels.has_unseen.tolist() == [False, False, True, False, False]


@given(
    sets=st.lists(st.sets(st.sampled_from("abcdé"), min_size=1), min_size=1, max_size=10),
    draw=st.data(),
    kind=st.sampled_from([SEVERAL, TAGS]),
)
def test_several_names_a_row(sets: list[set[str]], draw: st.DataObject, kind: str) -> None:
    origins = draw.draw(st.lists(st.sampled_from(ORIGINS), min_size=len(sets), max_size=len(sets)))
    alive = np.array(draw.draw(st.lists(st.booleans(), min_size=len(sets), max_size=len(sets))))

    def written(names: set[str]) -> list[Any]:
        return sorted(names) if kind == SEVERAL else [[n, n + 1, name] for n, name in enumerate(sorted(names) * 2)]

    rows = [
        {"origin": origin, "label": json.dumps(written(names))} for origin, names in zip(origins, sets, strict=True)
    ]
    labels = find_labels(store_of(rows), alive, kind)
    kept = [(origin, names) for origin, names, stays in zip(origins, sets, alive, strict=True) if stays]
    trained = set().union(*(names for origin, names in kept if origin == "train"))
    assert labels.names == tuple(sorted(trained))
    assert labels.unseen == tuple(sorted(set().union(*(names for _, names in kept)) - trained))
    every = [*labels.names, *labels.unseen]
    start, ids = labels.carried.start, labels.carried.ids
    for row, names in enumerate(sets):
        assert {every[label] for label in ids[start[row] : start[row + 1]]} == (names if alive[row] else set())
        assert labels.has_unseen[row] == bool(alive[row] and names - trained)
    assert labels.label_id.tolist() == [-1] * len(sets)


def test_answers_have_no_names() -> None:
    labels = find_labels(store_of([{"label": "an answer"}] * 3), np.ones(3, bool), ANSWERS)
    assert labels.names == () and labels.label_id.tolist() == [-1] * 3 and not labels.has_unseen.any()
