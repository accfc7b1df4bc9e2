"""A base is a local folder with known weights, or a message that says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raysft.errors import NotFound, UsageError
from raysft.storage import pretrained
from raysft.storage.commit import sha256_file
from raysft.storage.pretrained import BaseCorrupt, Pinned, resolve_base


def test_a_folder_is_found_beside_the_job_file_then_where_the_command_is_typed(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base_folder, tmp_path / "job" / "model")
    shutil.copytree(base_folder, tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    assert resolve_base("model", None, tmp_path / "job").folder == tmp_path / "job" / "model"
    assert resolve_base("model", None, tmp_path).folder == tmp_path / "here" / "model"


def test_a_base_is_known_by_the_content_of_its_weights(base_folder: Path) -> None:
    base = resolve_base(str(base_folder))
    assert base.weights_sha256 == sha256_file(base_folder / "model.safetensors")
    assert base.tokenizer_sha256 == sha256_file(base_folder / "tokenizer.json")
    assert base.config["hidden_size"] == 32
    assert base.revision == "local folder"


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_with_its_name(base_folder: Path, tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(base_folder, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(UsageError, match=missing):
        resolve_base(str(folder))


def test_a_revision_of_a_folder_is_refused(base_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.revision"):
        resolve_base(str(base_folder), "main")


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "~/no/such", "one/two/three"])
def test_a_path_that_is_not_there_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        resolve_base(name)


@pytest.mark.parametrize(("name", "words"), [("nobody/nothing", "could not be had"), ("not an id!", "neither")])
def test_a_hub_id_that_cannot_be_had_says_so(name: str, words: str) -> None:
    with pytest.raises(NotFound, match=words):
        resolve_base(name)


def test_weights_that_are_not_the_pinned_ones_are_refused(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(base_folder)
    monkeypatch.setitem(pretrained.PINNED, name, Pinned("r", "0" * 64, "no_such_package"))
    with pytest.raises(BaseCorrupt, match="not the pinned ones"):
        resolve_base(name)
