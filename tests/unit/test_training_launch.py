"""What a listener is told of a run that starts where an interrupted one left its files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from raysft.events import Silent
from raysft.storage.commit import write_json
from raysft.storage.layout import RunFolder
from raysft.training.launch import POLL_S, _Watcher


class Ear(Silent):
    def __init__(self) -> None:
        self.tables: list[list[dict[str, Any]]] = []

    def table(self, title: str, rows: list[dict[str, Any]]) -> None:
        self.tables.append(rows)


def test_the_groups_of_an_interrupted_run_are_not_told(tmp_path: Path) -> None:
    run, ear = RunFolder(tmp_path), Ear()
    old, new = [{"group": "head"}], [{"group": "layer 0"}, {"group": "head"}]
    write_json(run.groups, old)
    with _Watcher(run, ear):
        time.sleep(2 * POLL_S)
        assert ear.tables == []
        write_json(run.groups, new)
    assert ear.tables == [new]


def test_a_run_that_ended_before_it_had_groups_tells_none(tmp_path: Path) -> None:
    run, ear = RunFolder(tmp_path), Ear()
    write_json(run.groups, [{"group": "head"}])
    with _Watcher(run, ear):
        pass
    assert ear.tables == []
