"""Which cluster a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.cluster.named import find_cluster, home, known_clusters, only_cluster, state_folder
from raysft.errors import JobFileError, NotFound, UsageError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are typed, with a home of its own."""
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYSFT_CLUSTER", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def write(path: Path, name: str = "x", port: int = 8265) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {name}\nlocal: {{port: {port}}}\n", encoding="utf-8")
    return path


def port_of(name: str) -> int:
    local = find_cluster(name).config.local
    assert local is not None
    return local.port


def test_local_needs_no_file() -> None:
    found = find_cluster("local")
    assert (found.config.name, found.config.kind, found.config.pools) == ("local", "local", ())
    assert known_clusters() == {"local"}


def test_what_is_up_comes_before_the_folder_here_and_that_before_nothing(here: Path) -> None:
    write(here / "cluster/local.yaml", "local", 9001)
    assert port_of("local") == 9001
    write(here / "cluster/local/cluster.yaml", "local", 9002)
    assert port_of("local") == 9002
    write(state_folder("local") / "cluster.yaml", "local", 9003)
    assert port_of("local") == 9003


def test_a_path_is_a_path(here: Path) -> None:
    write(here / "mine.yaml", port=9001)
    write(here / "sub/mine.yml", port=9002)
    write(here / "cluster/mine/cluster.yaml", port=9003)
    assert [
        port_of(name) for name in ("mine.yaml", "sub/mine.yml", "./mine.yaml", str(here / "mine.yaml"), "mine")
    ] == [*(9001, 9002, 9001, 9001, 9003)]
    with pytest.raises(NotFound, match="no such cluster file"):
        find_cluster("other.yaml")
    with pytest.raises(NotFound):
        find_cluster("sub/nothing")


def test_a_name_that_is_not_known_is_told_with_those_that_are(here: Path) -> None:
    write(here / "cluster/one/cluster.yaml")
    write(here / "cluster/two.yaml")
    write(state_folder("three") / "cluster.yaml")
    assert known_clusters() == {"local", "one", "two", "three"}
    for name in ("four", "..", "One"):
        with pytest.raises(NotFound, match="no cluster named") as refused:
            find_cluster(name)
        assert "Known here: local, one, three, two. " in refused.value.next_step
    for name in known_clusters():
        assert find_cluster(name)


def test_a_bad_file_is_told_with_its_line(here: Path) -> None:
    (here / "bad.yaml").write_text("name: x\nlocal: {port: 1}\n", encoding="utf-8")
    with pytest.raises(JobFileError, match=r"bad\.yaml:2"):
        find_cluster("bad.yaml")


def test_the_only_one_that_is_up_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="none is up"):
        only_cluster()
    write(state_folder("b") / "cluster.yaml")
    state_folder("half").mkdir()  # its file was not written yet
    assert only_cluster() == "b"
    write(state_folder("a") / "cluster.yaml")
    with pytest.raises(UsageError, match="several are up: a, b"):
        only_cluster()
    monkeypatch.setenv("RAYSFT_CLUSTER", "named")
    assert only_cluster() == "named"


def test_the_home_is_that_of_the_environment_else_of_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for written, meant in (("", tmp_path / ".raysft"), ("~/x", tmp_path / "x"), ("rel", Path.cwd() / "rel")):
        monkeypatch.setenv("RAYSFT_HOME", written)
        assert home() == meant
    monkeypatch.delenv("RAYSFT_HOME")
    assert home() == tmp_path / ".raysft" and state_folder("n") == tmp_path / ".raysft/clusters/n"
