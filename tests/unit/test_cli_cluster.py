"""raysft cluster: files printed, written and checked, and the programs that bring clusters up called as they should."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from raysft.cli.cluster_command import command
from raysft.cli.main import run
from raysft.cluster import clouds

FOLDER = Path(__file__).parents[2] / "cluster"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where raysft keeps what it remembers of clusters."""
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "home"


def program(path: Path, code: int = 0, refuses: str = "nothing") -> Path:
    """A program that writes its arguments to calls.json, a line a call, and ends with `code`.

    refuses: a word; calls with it end with 1.
    """
    calls = path.with_name("calls.json")
    path.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        f"sys.exit(1 if {refuses!r} in sys.argv else {code})\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return calls


def calls_in(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def cluster_file(kind: str) -> str:
    return str(FOLDER / kind / "cluster.yaml")


@pytest.mark.parametrize("verb", ["render", "check", "up", "down", "status", "doctor"])
def test_every_part_has_help_with_an_example(verb: str, capsys: Capture) -> None:
    assert run(["cluster", verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"raysft cluster {verb} " in out and "Example" in out
    part = command.commands[verb]
    assert all(each.help for each in part.params if isinstance(each, click.Option))


def test_render_prints_every_file_under_its_name(capsys: Capture) -> None:
    assert run(["cluster", "render", cluster_file("aws")]) == 0
    out = capsys.readouterr().out
    names = [line.removeprefix("# --- ") for line in out.splitlines() if line.startswith("# --- ")]
    assert names == ["head-policy.json", "network.json", "ray.yaml", "trust.json", "worker-policy.json"]


def test_render_writes_and_leaves_files_of_others_alone(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "made here"
    order = ["cluster", "render", cluster_file("azure"), "--to", str(folder)]
    assert run(order) == 0 and run(order) == 0  # the same again is no other file
    assert sorted(path.name for path in folder.iterdir()) == ["network.json", "ray.yaml", "role.json"]
    (folder / "ray.yaml").write_text("mine", encoding="utf-8")
    assert run(order) == 2
    assert "ray.yaml" in capsys.readouterr().err and (folder / "ray.yaml").read_text(encoding="utf-8") == "mine"
    assert run([*order, "--replace"]) == 0
    assert (folder / "ray.yaml").read_bytes() == (FOLDER / "azure" / "ray.yaml").read_bytes()
    assert run(["cluster", "render", cluster_file("azure"), "--to", str(folder / "ray.yaml")]) == 2


def test_check_says_everything_that_is_wrong_at_once(tmp_path: Path, capsys: Capture) -> None:
    text = (FOLDER / "aws" / "cluster.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace("image: 123456789012", "image: hf_" + "a" * 30), encoding="utf-8")
    assert run(["cluster", "check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "ray.yaml: line" in err and "looks like a token of Hugging Face" in err and "aaaa" not in err
    assert run(["cluster", "check", str(path), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "raysft.cluster-check/1" and found["name"] == "demo-aws" and found["kind"] == "aws"
    assert found["findings"] and set(found["findings"][0]) == {"file", "key", "what", "fix"}


def test_a_wrong_key_is_shown_with_its_line(tmp_path: Path, capsys: Capture) -> None:
    text = (FOLDER / "gcp" / "cluster.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace("  zone:", "  zoen:"), encoding="utf-8")
    for verb in ("check", "render", "up"):
        assert run(["cluster", verb, str(path)]) == 2
        assert "gcp.zoen: no such key" in capsys.readouterr().err


@pytest.fixture
def rays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Instead of Ray's command; returns where its calls are written."""
    calls = program(tmp_path / "ray")
    monkeypatch.setattr(clouds, "RAYS", [str(tmp_path / "ray")])
    return calls


def test_up_writes_what_nobody_else_may_read_and_calls_ray(home: Path, rays: Path, capsys: Capture) -> None:
    assert run(["cluster", "up", cluster_file("aws")]) == 0
    folder = home / "clusters" / "demo-aws"
    assert calls_in(rays) == [["up", "--yes", str(folder / "ray.yaml")]]
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    config: dict[str, Any] = yaml.safe_load((folder / "ray.yaml").read_text(encoding="utf-8"))
    (here,) = config["file_mounts"].values()
    token = (Path(here) / "auth_token").read_text(encoding="utf-8")
    assert len(token) == 64 and token == (folder / "token").read_text(encoding="utf-8")
    out, err = capsys.readouterr()
    files = [path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix in {".yaml", ".json"}]
    assert token not in out + err + "".join(files)
    assert "raysft submit train JOB --cluster demo-aws" in err
    # Again, now by its name: the same token, since nodes that are up have it.
    assert run(["cluster", "up", "demo-aws"]) == 0
    assert (folder / "token").read_text(encoding="utf-8") == token


def test_down_and_status_are_for_what_was_brought_up_here(home: Path, rays: Path, capsys: Capture) -> None:
    for verb in ("down", "status"):
        assert run(["cluster", verb, cluster_file("gcp")]) == 3
        assert "was not brought up on this machine" in capsys.readouterr().err
    assert run(["cluster", "up", cluster_file("gcp")]) == 0
    folder = home / "clusters" / "demo-gcp"
    assert run(["cluster", "status", "demo-gcp"]) == 0 and run(["cluster", "down", "demo-gcp"]) == 0
    assert calls_in(rays)[1:] == [
        ["exec", str(folder / "ray.yaml"), "ray status"],
        ["down", "--yes", str(folder / "ray.yaml")],
    ]
    assert not folder.exists()


def test_a_cloud_that_refuses_is_one_message_and_the_way_on(
    home: Path, tmp_path: Path, rays: Path, capsys: Capture
) -> None:
    program(tmp_path / "ray", code=7)
    assert run(["cluster", "up", cluster_file("azure")]) == 1
    err = capsys.readouterr().err
    assert "`ray up --yes ray.yaml` ended with code 7" in err and "raysft cluster down demo-azure" in err
    assert (home / "clusters" / "demo-azure" / "cluster.yaml").exists(), "so that down knows what to end"


def test_the_token_file_that_is_named_is_the_one_that_is_used(
    tmp_path: Path, home: Path, rays: Path, capsys: Capture
) -> None:
    path = tmp_path / "cluster.yaml"
    text = (FOLDER / "aws" / "cluster.yaml").read_text(encoding="utf-8")
    path.write_text(f"token_file: {tmp_path}/their-token\n{text}", encoding="utf-8")
    assert run(["cluster", "up", str(path)]) == 4
    assert "cluster.yaml:1: token_file" in capsys.readouterr().err and calls_in(rays) == []
    (tmp_path / "their-token").write_text("theirs\n", encoding="utf-8")
    assert run(["cluster", "up", str(path)]) == 0
    assert (home / "clusters" / "demo-aws" / "secrets" / "auth_token").read_text(encoding="utf-8") == "theirs"


def test_kubernetes_gets_the_cluster_last_and_keeps_its_claim(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls = program(tmp_path / "kubectl", refuses="get")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run(["cluster", "up", cluster_file("kubernetes")]) == 0, capsys.readouterr().err
    made = calls_in(calls)
    assert made[0][:2] == ["get", "secret"] and made[1][:3] == ["create", "secret", "generic"]
    assert [Path(each[2]).name for each in made[2:]][-1] == "raycluster.yaml" and len(made) == 8
    calls.unlink()
    name = yaml.safe_load(Path(cluster_file("kubernetes")).read_text(encoding="utf-8"))["name"]
    assert run(["cluster", "down", name]) == 0
    deleted = [Path(each[-1]).name for each in calls_in(calls)]
    assert deleted[0] == "raycluster.yaml" and "pvc.yaml" not in deleted and len(deleted) == 6


def test_without_kubectl_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["cluster", "up", cluster_file("kubernetes")]) == 3
    assert "kubectl is not on the PATH" in capsys.readouterr().err
