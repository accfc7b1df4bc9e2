"""What a node says of the output folder as it sees it."""

from __future__ import annotations

from pathlib import Path

from raysft.training.shared import look


def test_a_folder_that_is_the_drivers_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "marker").write_text("driver")
    assert look(str(tmp_path), "marker") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["marker"]


def test_another_folder_of_the_same_name_is_found_out(tmp_path: Path) -> None:
    assert "sees another folder" in look(str(tmp_path), "marker")
    assert "sees another folder" in look(str(tmp_path / "missing"), "marker")


def test_a_folder_that_cannot_be_written_is_told_with_its_path() -> None:
    assert look("/proc", "version").startswith("cannot write to /proc: ")
