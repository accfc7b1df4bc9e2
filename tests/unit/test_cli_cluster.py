"""raysft cluster: files printed, written and checked, and the programs that bring clusters up called as they should."""

from __future__ import annotations

import base64
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
from raysft.cluster.named import find_cluster
from raysft.cluster.pools.catalogue import pools_of
from raysft.cluster.render import render
from raysft.cluster.state import alone

FOLDER = Path(__file__).parents[2] / "cluster"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where raysft keeps what it remembers of clusters."""
    monkeypatch.setenv("RAYSFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "home"


def program(path: Path, code: int = 0, answers: dict[str, tuple[int, str]] | None = None) -> Path:
    """A program that writes its arguments to calls.json, a line a call, and ends with `code`.

    answers: by a word; calls with it end with that code and say that instead.
    """
    calls = path.with_name("calls.json")
    path.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        f"found = [each for word, each in {answers or {}!r}.items() if word in sys.argv] or [({code}, '')]\n"
        "print(found[0][1], end='')\n"
        "sys.exit(found[0][0])\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return calls


def calls_in(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


NO_HEAD = (1, "RuntimeError: Head node of cluster (demo-aws) not found!\n")  # as Ray 2.60 has it, with much before it
USUAL = {clouds.JOBS: NO_HEAD, "down": (0, "Requested 1 nodes to shut down. [interval=1s]\nNo nodes remaining.\n")}
# As `ray job list` prints them, in part.
JOB = (
    "[JobDetails(type=<JobType.SUBMISSION: 'SUBMISSION'>, job_id='01000000', submission_id='{}', driver_info=None, "
    "status=<JobStatus.{}: '{}'>, entrypoint='raysft train', message='JobDetails(')]\n"
)


def told(calls: Path) -> list[list[str]]:
    """What Ray was told to do; whether jobs run is only asked."""
    return [each for each in calls_in(calls) if each[-1] != clouds.JOBS]


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
    calls = program(tmp_path / "ray", answers=USUAL)
    monkeypatch.setattr(clouds, "RAYS", [str(tmp_path / "ray")])
    return calls


def test_up_writes_what_nobody_else_may_read_and_calls_ray(home: Path, rays: Path, capsys: Capture) -> None:
    assert run(["cluster", "up", cluster_file("aws")]) == 0
    folder = home / "clusters" / "demo-aws"
    assert [each[0] for each in calls_in(rays)] == ["exec", "up"]
    assert told(rays) == [["up", "--yes", str(folder / "ray.yaml")]]
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
    assert told(rays)[1:] == [
        ["exec", str(folder / "ray.yaml"), "ray status"],
        ["down", "--yes", str(folder / "ray.yaml")],
    ]
    assert not folder.exists()


def test_down_with_the_credentials_of_another_account_forgets_nothing(
    home: Path, tmp_path: Path, rays: Path, capsys: Capture
) -> None:
    """Ray then says that nothing is left, and ends with 0."""
    assert run(["cluster", "up", cluster_file("aws")]) == 0
    program(tmp_path / "ray", answers={"down": (0, "No nodes remaining.\n")})
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(["cluster", "down", "demo-aws"]) == 3
    assert "no node of demo-aws was found with these credentials" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    program(tmp_path / "ray", answers=USUAL)
    assert run(["cluster", "down", "demo-aws"]) == 0 and not (home / "clusters" / "demo-aws").exists()


PLACES = [
    ("aws", "region: eu-west-1", "region: us-east-1"),
    ("gcp", "zone: europe-west4-a", "zone: europe-west4-b"),
    ("azure", "resource_group: ", "resource_group: other-"),
    ("kubernetes", "namespace: ", "namespace: other-"),
]


@pytest.mark.parametrize(("kind", "before", "after"), PLACES)
def test_a_cluster_in_another_place_does_not_make_the_first_one_forgotten(
    home: Path,
    tmp_path: Path,
    rays: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    kind: str,
    before: str,
    after: str,
) -> None:
    program(tmp_path / "kubectl")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = tmp_path / "cluster.yaml"
    path.write_text(Path(cluster_file(kind)).read_text(encoding="utf-8"), encoding="utf-8")
    assert run(["cluster", "up", str(path)]) == 0
    kept = {each: each.read_bytes() for each in home.rglob("*") if each.is_file()}
    rays.unlink()
    text = path.read_text(encoding="utf-8")
    assert before in text
    name = find_cluster(str(path)).config.name
    local = f"name: {name}\nlocal: {{}}\n"
    for other in (text.replace(before, after), local):
        path.write_text(other, encoding="utf-8")
        assert run(["cluster", "up", str(path)]) == 4
        assert f"First `raysft cluster down {name}`" in " ".join(capsys.readouterr().err.split())
    assert run(["cluster", "down", str(path)]) == 4  # of the one on this machine
    assert calls_in(rays) == [] and {each: each.read_bytes() for each in home.rglob("*") if each.is_file()} == kept


def test_the_token_of_installed_hosts_is_not_that_of_a_cluster_on_this_machine(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    token = home / "clusters" / "lab" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("t", encoding="utf-8")
    path = tmp_path / "lab.yaml"
    path.write_text("name: lab\nlocal: {}\n", encoding="utf-8")
    for verb in ("up", "down"):
        assert run(["cluster", verb, str(path)]) == 4
        assert "holds the token of another cluster named lab" in " ".join(capsys.readouterr().err.split())
    assert token.read_text(encoding="utf-8") == "t"


def test_a_cloud_that_refuses_is_one_message_and_the_way_on(
    home: Path, tmp_path: Path, rays: Path, capsys: Capture
) -> None:
    program(tmp_path / "ray", code=7, answers={clouds.JOBS: NO_HEAD})
    assert run(["cluster", "up", cluster_file("azure")]) == 1
    err = capsys.readouterr().err
    assert "`ray up --yes ray.yaml` ended with code 7" in err and "raysft cluster down demo-azure" in err
    assert f"raysft cluster up {cluster_file('azure')} --restart" in " ".join(err.split())
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


def test_jobs_that_run_are_not_ended_unless_that_is_said(
    home: Path, tmp_path: Path, rays: Path, capsys: Capture
) -> None:
    assert run(["cluster", "up", cluster_file("aws")]) == 0
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    both = JOB.format("done-1", "SUCCEEDED", "SUCCEEDED") + JOB.format("long-train-1", "RUNNING", "RUNNING")
    program(tmp_path / "ray", answers={clouds.JOBS: (0, both)})
    rays.unlink()
    capsys.readouterr()
    # By its file, which may have been edited since it was brought up: its name would mean what it was then.
    assert run(["cluster", "up", cluster_file("aws")]) == 4
    err = " ".join(capsys.readouterr().err.split())
    assert "on demo-aws run 1 jobs" in err and "long-train-1" in err and "done-1" not in err
    assert f"raysft cluster up {cluster_file('aws')} --restart" in err
    assert told(rays) == [] and {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert run(["cluster", "up", "demo-aws", "--restart"]) == 0
    assert [each[:2] for each in told(rays)] == [["up", "--yes"]]


@pytest.mark.parametrize("said", ["", JOB.format("done-1", "FAILED", "FAILED"), "[]\n"])
def test_a_cluster_without_running_jobs_is_brought_up_to_date(tmp_path: Path, rays: Path, said: str) -> None:
    assert run(["cluster", "up", cluster_file("gcp")]) == 0
    program(tmp_path / "ray", answers={clouds.JOBS: (0, said)})
    assert run(["cluster", "up", "demo-gcp"]) == 0
    assert [each[0] for each in told(rays)] == ["up", "up"]


def test_a_head_that_does_not_say_whether_jobs_run_is_left_as_it_is(
    tmp_path: Path, rays: Path, capsys: Capture
) -> None:
    assert run(["cluster", "up", cluster_file("gcp")]) == 0
    program(tmp_path / "ray", answers={clouds.JOBS: (255, "warning\nssh: connection timed out\n")})
    assert run(["cluster", "up", "demo-gcp"]) == 4
    err = capsys.readouterr().err
    assert "whether jobs run on demo-gcp is not known: ssh: connection timed out" in err and "--restart" in err
    assert run(["cluster", "up", "demo-gcp", "--restart"]) == 0
    assert [each[0] for each in told(rays)] == ["up", "up"]


def test_only_clusters_in_a_cloud_are_started_anew(capsys: Capture) -> None:
    for kind in ("kubernetes", "slurm", "local"):
        assert run(["cluster", "up", cluster_file(kind) if kind != "local" else kind, "--restart"]) == 2
        assert "--restart: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((0, "[]"), "demo-aws is up already, and its token is not on this machine"),
        ((255, "ssh: no key"), "whether demo-aws is up already is not known: ssh: no key"),
        # As where somebody brings a first cluster up without having logged in.
        (
            (1, "Traceback\nNoCredentialsError: x\n"),
            "whether demo-aws is up already is not known: NoCredentialsError: x",
        ),
    ],
)
@pytest.mark.parametrize("more", [[], ["--restart"]])
def test_a_second_machine_makes_no_token_of_its_own(
    home: Path, tmp_path: Path, rays: Path, capsys: Capture, answer: tuple[int, str], said: str, more: list[str]
) -> None:
    program(tmp_path / "ray", answers={clouds.JOBS: answer})
    assert run(["cluster", "up", cluster_file("aws"), *more]) == 4
    err = " ".join(capsys.readouterr().err.split())
    assert said in err and "token_file" in err
    assert told(rays) == [] and not (home / "clusters" / "demo-aws").exists()
    (tmp_path / "theirs").write_text("their-token\n", encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    text = (FOLDER / "aws" / "cluster.yaml").read_text(encoding="utf-8")
    path.write_text(f"token_file: {tmp_path}/theirs\n{text}", encoding="utf-8")
    assert run(["cluster", "up", str(path), "--restart"]) == 0
    assert (home / "clusters/demo-aws/secrets/auth_token").read_text(encoding="utf-8") == "their-token"


@pytest.mark.parametrize("kind", ["aws", "kubernetes"])
def test_a_cluster_is_brought_up_by_one_command_at_a_time(
    tmp_path: Path, rays: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, kind: str
) -> None:
    program(tmp_path / "kubectl")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with alone(find_cluster(cluster_file(kind)).config.name):
        assert run(["cluster", "up", cluster_file(kind)]) == 4
    assert "is in use by another process" in capsys.readouterr().err and calls_in(rays) == []


def test_kubernetes_gets_the_cluster_last_and_keeps_its_claim(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls = program(tmp_path / "kubectl")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run(["cluster", "up", cluster_file("kubernetes")]) == 0, capsys.readouterr().err
    made = [each for each in calls_in(calls) if each[0] != "config"]
    assert made[0][:2] == ["get", "secret"] and made[1][:3] == ["create", "secret", "generic"]
    files = [name for name in render(find_cluster(cluster_file("kubernetes"))) if name.endswith(".yaml")]
    applied = [Path(each[2]).name for each in made[2:]]
    assert applied[-1] == "raycluster.yaml" and sorted(applied) == sorted(files) and len(files) >= 6
    calls.unlink()
    name = yaml.safe_load(Path(cluster_file("kubernetes")).read_text(encoding="utf-8"))["name"]
    assert run(["cluster", "down", name]) == 0
    deleted = [Path(each[-1]).name for each in calls_in(calls)]
    assert deleted[0] == "raycluster.yaml" and "pvc.yaml" not in deleted
    assert set(files) - set(deleted) == {"pvc.yaml"}


def test_kubernetes_is_spoken_to_in_the_context_by_which_a_cluster_was_brought_up(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """In another one `kubectl delete --ignore-not-found` finds nothing, and says that all is well."""
    calls = program(tmp_path / "kubectl", answers={"current-context": (0, "prod of mine\n")})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = cluster_file("kubernetes")
    name = find_cluster(file).config.name
    assert run(["cluster", "up", file]) == 0
    program(tmp_path / "kubectl", answers={"current-context": (0, "dev\n")})
    capsys.readouterr()
    assert run(["cluster", "up", file]) == 4
    err = " ".join(capsys.readouterr().err.split())
    assert "context prod of mine, which is dev by now" in err and "use-context 'prod of mine'" in err
    assert run(["cluster", "status", name]) == 0 and run(["cluster", "down", name]) == 0
    spoken = [each for each in calls_in(calls) if each[0] != "config"]
    assert {each[0] for each in spoken} == {"get", "create", "apply", "delete"}
    assert all(each[-2:] == ["--context", "prod of mine"] for each in spoken)
    assert not (home / "clusters" / name).exists()


def secret(token: str | None) -> tuple[int, str]:
    """What kubectl says of it."""
    data = {} if token is None else {"auth_token": base64.b64encode(token.encode()).decode()}
    return 0, json.dumps({"kind": "Secret", "data": data})


def test_kubernetes_is_asked_for_the_token_that_its_pods_have(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls = program(tmp_path / "kubectl", answers={"get": secret("that-of-the-pods\n")})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = cluster_file("kubernetes")
    assert run(["cluster", "up", file]) == 0, capsys.readouterr().err
    assert "create" not in [each[0] for each in calls_in(calls)]
    (kept,) = (home / "clusters").glob("*/token")
    assert kept.read_text(encoding="utf-8") == "that-of-the-pods"
    # One that is kept here and is no longer that of the pods is of no use.
    program(tmp_path / "kubectl", answers={"get": secret("another")})
    assert run(["cluster", "up", file]) == 0
    assert kept.read_text(encoding="utf-8") == "another"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (secret("another"), 4, "has another token than the secret"),
        (secret(None), 4, "has no token under auth_token"),
        ((0, "{"), 4, "has no token under auth_token"),
        ((1, ""), 1, "ended with code 1"),
    ],
)
def test_a_secret_that_is_not_as_it_was_named_is_not_passed_over(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    answer: tuple[int, str],
    code: int,
    said: str,
) -> None:
    calls = program(tmp_path / "kubectl", answers={"get": answer})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "named").write_text("named", encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    text = Path(cluster_file("kubernetes")).read_text(encoding="utf-8")
    path.write_text(f"token_file: {tmp_path}/named\n{text}", encoding="utf-8")
    assert run(["cluster", "up", str(path)]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert [each[0] for each in calls_in(calls)] == ["config", "get"] and not list((home / "clusters").glob("*/token"))


def test_without_kubectl_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["cluster", "up", cluster_file("kubernetes")]) == 3
    assert "kubectl is not on the PATH" in capsys.readouterr().err


# --- for programs


def document(capsys: Capture) -> Any:
    """The one document on stdout."""
    return json.loads(capsys.readouterr().out)


def test_what_is_rendered_is_a_document_too(tmp_path: Path, capsys: Capture) -> None:
    assert run(["cluster", "render", cluster_file("gcp"), "--json"]) == 0
    found = document(capsys)
    assert (found["schema"], found["name"], found["kind"]) == ("raysft.cluster-files/1", "demo-gcp", "gcp")
    files = render(find_cluster(cluster_file("gcp")))
    assert found["files"] == [{"name": name, "path": None, "text": text} for name, text in files.items()]
    assert run(["cluster", "render", cluster_file("gcp"), "--to", str(tmp_path / "to"), "--json"]) == 0
    assert [Path(each["path"]).read_text() for each in document(capsys)["files"]] == list(files.values())
    assert run(["cluster", "render", "local", "--to", str(tmp_path / "none"), "--json"]) == 0
    assert document(capsys)["files"] == [] and not (tmp_path / "none").exists()


NODES = [
    {"node_name": "10.0.0.1", "is_head_node": True, "state": "ALIVE", "resources_total": {"memory": "4 GiB"}},
    {
        "node_name": "10.0.0.2",
        "is_head_node": False,
        "state": "ALIVE",
        "resources_total": {"CPU": 4.0, "GPU": 1.0},
        "labels": {"raysft.io/pool": "l4", "raysft.io/market": "spot"},
    },
    {"node_name": "10.0.0.3", "is_head_node": False, "state": "DEAD"},
]
LIST = f"ray list nodes --format json --limit 10000 --address {clouds.DASHBOARD}"


def test_a_cluster_in_a_cloud_says_how_it_is(tmp_path: Path, rays: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = f"Loaded cached provider configuration\n[warn] x\n{json.dumps(NODES)}\nbye\n"
    program(tmp_path / "ray", answers={clouds.JOBS: NO_HEAD, LIST: (0, said), "up": (0, "Ray says much\n")})
    assert run(["cluster", "up", cluster_file("aws"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert "Ray says much" in err
    found = json.loads(out)
    assert (found["schema"], found["state"], found["nodes"]) == ("raysft.cluster/1", "up", None)
    assert found["folder"].endswith("/clusters/demo-aws")
    assert run(["cluster", "status", "demo-aws", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["name"], found["kind"], found["state"], found["address"]) == ("demo-aws", "aws", "up", None)
    assert found["nodes"] == [
        {"name": "10.0.0.1", "pool": "head", "market": "", "state": "alive", "cpus": 0, "gpus": 0},
        {"name": "10.0.0.2", "pool": "l4", "market": "spot", "state": "alive", "cpus": 4.0, "gpus": 1.0},
    ]
    program(tmp_path / "ray", answers={"ray status": (0, "ours\n"), LIST: (0, "[broken\nssh: no\n"), **USUAL})
    assert run(["cluster", "status", "demo-aws"]) == 0
    assert capfd.readouterr().out == "ours\n"
    assert run(["cluster", "status", "demo-aws", "--json"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and "did not say how it is: ssh: no" in err
    assert run(["cluster", "down", "demo-aws", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["state"], found["nodes"]) == ("down", [])


def test_a_head_that_is_not_reached_has_no_status(tmp_path: Path, rays: Path, capsys: Capture) -> None:
    assert run(["cluster", "up", cluster_file("aws")]) == 0
    program(tmp_path / "ray", answers={"exec": (255, "ssh: no route\n")})
    for more in ([], ["--json"]):
        capsys.readouterr()
        assert run(["cluster", "status", "demo-aws", *more]) == 1
        out, err = capsys.readouterr()
        assert out == "" and "ssh: no route" in err and "ended with code 255" in err and "cluster doctor" in err


def test_a_cluster_on_kubernetes_says_how_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = find_cluster(cluster_file("kubernetes"))
    name, pool = found.config.name, found.config.pools[0]
    pods = [
        {"metadata": {"name": "head-x", "labels": {"raysft.io/role": "head"}}, "status": {"phase": "Running"}},
        {"metadata": {"name": "w-y", "labels": {"raysft.io/pool": pool.name}}, "status": {"phase": "Pending"}},
    ]
    answers = {
        "secret": secret("t"),
        "raycluster": (0, ""),
        f"--selector=ray.io/cluster={name}": (0, json.dumps({"items": pods})),
    }
    program(tmp_path / "kubectl", answers={**answers, "apply": (0, "created\n")})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run(["cluster", "up", cluster_file("kubernetes"), "--json"]) == 0
    out, err = capfd.readouterr()
    assert "created" in err and json.loads(out)["state"] == "starting"
    assert run(["cluster", "status", name, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["state"] == "down"  # nothing of it is there
    there = json.dumps({"status": {"state": "ready"}})
    program(tmp_path / "kubectl", answers={**answers, "raycluster": (0, there)})
    assert run(["cluster", "status", name, "--json"]) == 0
    status = json.loads(capfd.readouterr().out)
    assert (status["kind"], status["state"]) == ("kubernetes", "ready")
    assert [(each["name"], each["pool"], each["state"]) for each in status["nodes"]] == [
        ("head-x", "head", "running"),
        ("w-y", pool.name, "pending"),
    ]
    assert status["nodes"][1]["gpus"] == pools_of(found)[0].gpus


@pytest.mark.parametrize("kind", ["slurm", "static"])
def test_clusters_that_are_started_elsewhere_say_so_to_programs_too(kind: str, capsys: Capture) -> None:
    for verb in ("up", "down", "status"):
        assert run(["cluster", verb, cluster_file(kind), "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "are started where they are" in err
