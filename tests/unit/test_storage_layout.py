"""The output folder is proven writable before anything is computed, and no two results share a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.errors import OutputError
from raysft.storage.layout import DataFolder, RunFolder, SweepFolder, home_path, open_output


def test_the_output_is_created_absolute_and_left_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = open_output("deep/runs")
    assert output.root == tmp_path / "deep" / "runs"
    assert output.root.is_dir() and list(output.root.iterdir()) == []
    assert output.run("x").path == output.root / "runs" / "x"
    assert output.data("0a").path == output.root / "data" / "0a"


@pytest.mark.parametrize("uri", ["s3://bucket/prefix", "gs://bucket", "file:///tmp/x"])
def test_a_uri_is_refused_in_words(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="remote URI") as caught:
        open_output(uri)
    assert uri in caught.value.message and "Use a folder" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "/runs"])
def test_a_file_is_refused_and_left_as_it_is(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(OutputError, match="cannot write to") as caught:
        open_output(f"{file}{below}")
    assert "--set output=FOLDER" in caught.value.next_step
    assert file.read_text() == "mine"


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        open_output(str(tmp_path / "runs"))


def test_a_tilde_is_the_home_folder_only_where_it_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_path("~/runs") == tmp_path / "runs"
    assert home_path("~nobody-of-this-name.csv") == Path("~nobody-of-this-name.csv")


def test_no_two_results_share_a_path() -> None:
    for folder in (RunFolder(Path("r")), DataFolder(Path("d")), SweepFolder(Path("s"))):
        found = {
            name: getattr(folder, name) for name, value in vars(type(folder)).items() if isinstance(value, property)
        }
        found = {name: each.path if isinstance(each, RunFolder) else each for name, each in found.items()}
        names = [name for name, each in found.items() if isinstance(each, Path)]
        paths = {found[name] for name in names}
        assert len(paths) == len(names) >= 4
        beside = {getattr(folder, name, None) for name in ("lock", "partial")}
        assert all(folder.path in path.parents for path in paths - beside)
    # The lock lies beside its run, under a name that no run can have.
    assert RunFolder(Path("runs/r")).lock.parent == Path("runs") and RunFolder(Path("runs/r")).lock.name.startswith(".")
    assert DataFolder(Path("d")).tokens(sealed=True) != DataFolder(Path("d")).tokens(sealed=False)
