"""What is asked of a cluster: the same job is the same id, hostile names stay one word, and nothing else is told."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.config import Cluster, ClusterConfig, load_job
from raysft.config.cluster import LocalSection, StaticSection
from raysft.errors import JobFileError, NotAllowed, UsageError
from raysft.jobs.client import OURS
from raysft.jobs.driver import refuse_other_versions
from raysft.jobs.request import PINNED, Request, make_request, pins, run_id, with_settings_first
from raysft.jobs.verbs import VERBS
from raysft.version import VERSION

ROWS = "text,label\nmy parcel is late,delivery\ngive me my money,refund\nreset my password,account\n"
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job in the folder where commands are typed."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return write_job(folder / "job.yaml")


def write_job(path: Path, train: str = "rows.csv", name: str = "tiny") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "rows.csv").write_text(ROWS, encoding="utf-8")
    path.write_text(f"name: {name}\nmodel: {{base: a/b}}\ndata: {{train: {train}}}\n", encoding="utf-8")
    return path


def remote(storage: str = "/mnt/raysft") -> Cluster:
    return Cluster(ClusterConfig(name="far", static=StaticSection(head="10.0.0.1"), storage=storage), Path("far.yaml"))


def local() -> Cluster:
    return Cluster(ClusterConfig(name="local", local=LocalSection()), Path("local"))


def ask(job: Path, cluster: Cluster | None = None, *overrides: str, verb: str = "train", **more: Any) -> Request:
    return make_request(verb, job, remote() if cluster is None else cluster, overrides, environment={}, **more)


def words_of(request: Request) -> list[str]:
    """The words of the entrypoint as a shell takes it apart, with what comes before the command left out."""
    text = request.entrypoint.removeprefix("exec ")
    python = "import json, sys; print(json.dumps(sys.argv[1:]))"
    echo = f'raysft() {{ {shlex.quote(sys.executable)} -c {shlex.quote(python)} "$@"; }}\n'
    done = subprocess.run(["sh", "-c", echo + text], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


# --- ids


@given(NAMES, st.sampled_from(VERBS), st.text(max_size=30), st.lists(st.text(max_size=5), max_size=3))
def test_any_name_makes_an_id_that_every_system_takes(name: str, verb: str, output: str, arguments: list[str]) -> None:
    from raysft.config import Job, JobConfig

    config = JobConfig.model_validate({"name": name, "model": {"base": "a/b"}, "data": {"train": "x.csv"}})
    run = run_id(verb, Job(config, Path("/x/job.yaml")), output, arguments)
    for attempt in (1, 9999):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", f"{run}-{attempt}") and len(f"{run}-{attempt}") <= 63
    assert run == run_id(verb, Job(config, Path("/y/other.yaml")), output, list(arguments))
    assert run != run_id(verb, Job(config, Path("/x/job.yaml")), output + "x", arguments)
    assert f"-{verb}-" in run


def test_the_id_is_of_the_run_and_where_it_is_written_not_of_its_settings(job: Path) -> None:
    first = ask(job)
    assert ask(job, None, "train.epochs=9").run == first.run == ask(write_job(job.parent / "sub/other.yaml")).run
    others = {
        ask(job, None, "name=other").run,
        ask(job, None, "output=elsewhere").run,
        ask(job, remote("/mnt/other")).run,
        ask(job, verb="tune").run,
        ask(job, verb="predict", arguments=["--text", "a"]).run,
        ask(job, verb="predict", arguments=["--text", "b"]).run,
        first.run,
    }
    assert len(others) == 7


def test_attempts_differ_in_their_number_alone(job: Path) -> None:
    request = ask(job)
    one, two = request.to_json(1), request.to_json(2)
    assert one["submission_id"] == f"{request.run}-1" and two["submission_id"] == f"{request.run}-2"
    assert json.dumps(one).replace(f"{request.run}-1", f"{request.run}-2") == json.dumps(two)
    assert one["runtime_env"]["working_dir"].startswith("gcs://_ray_pkg_")


# --- the command


@pytest.mark.parametrize(
    "name",
    ["it's.yaml", 'a "b" c.yaml', "$(touch oops).yaml", "`x`;y&z|.yaml", "-n.yaml", "new\nline.yaml", "größe *.yaml"],
)
def test_hostile_names_stay_one_word(name: str, job: Path) -> None:
    path = write_job(job.parent / "a 'b' $HOME" / name)
    words = words_of(ask(path, None, "train.epochs=2", verb="predict", arguments=["--text", "it's $HOME; rm -rf x\n'"]))
    assert words[0] == "predict" and words[1].removeprefix("./") == name and not words[1].startswith("-")
    assert words[2:] == [
        *("--set", "train.epochs=2", "--set", "output=/mnt/raysft/results", "--text", "it's $HOME; rm -rf x\n'")
    ]
    assert not list(job.parent.rglob("oops*"))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=4))
def test_any_argument_survives_a_shell(arguments: list[str]) -> None:
    text = shlex.join(arguments)
    assert shlex.split(text) == arguments


def test_overrides_keep_their_order_and_the_output_comes_last(job: Path) -> None:
    words = words_of(ask(job, None, "train.epochs=2", "output=first", "train.epochs=3", "output=sub/there"))
    sets = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    assert sets == ["train.epochs=2", "train.epochs=3", "output=/mnt/raysft/sub/there"]


def test_on_this_machine_the_command_is_ours_and_runs_where_it_is_typed(job: Path) -> None:
    request = ask(job, local(), arguments=["rows.csv", "--output", "here.csv"], verb="predict")
    folder, _, command = request.entrypoint.partition(" && exec ")
    assert folder == f"cd {job.parent}"
    assert shlex.split(command) == [
        *(sys.executable, "-P", "-m", "raysft", "predict", str(job), "--set", f"output={job.parent}/results"),
        *("rows.csv", "--output", "here.csv"),
    ]
    assert request.package is None and "working_dir" not in request.to_json(1)["runtime_env"]


def test_a_folder_with_spaces_is_entered(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job.parent / "it's $x; y"
    path = write_job(folder / "job.yaml")
    monkeypatch.chdir(folder)
    entry = ask(path, local()).entrypoint.partition(" && exec ")[0] + " && pwd"
    assert subprocess.run(["sh", "-c", entry], capture_output=True, text=True, check=True).stdout == f"{folder}\n"


def test_a_job_on_the_storage_runs_from_there_and_nothing_is_sent(job: Path, tmp_path: Path) -> None:
    store = tmp_path / "mnt"
    path = write_job(store / "jobs" / "job.yaml")
    request = ask(path, remote(str(store)), arguments=["../mnt/jobs/rows.csv"], verb="predict")
    assert request.package is None
    assert words_of(request) == [
        *("predict", str(path), "--set", f"output={store}/results", str(store / "jobs/rows.csv"))
    ]
    with pytest.raises(UsageError, match="absolute path of this machine"):
        ask(write_job(store / "jobs" / "bad.yaml", str(job.parent / "rows.csv")), remote(str(store)))


def test_files_that_arguments_name_are_called_as_they_lie_in_the_package(job: Path) -> None:
    (job.parent.parent / "texts.csv").write_text("text\nhello\n", encoding="utf-8")
    request = ask(job, verb="predict", arguments=["../texts.csv"])
    assert request.package is not None and sorted(request.package.files) == [
        "here/job.yaml",
        "here/rows.csv",
        "texts.csv",
    ]
    assert words_of(request)[-1] == "texts.csv" and words_of(request)[1] == "here/job.yaml"


def test_settings_behind_the_dashes_count_as_those_in_front_of_them(job: Path) -> None:
    """Behind ours on the command line of the cluster they would send results elsewhere, unseen by any check."""
    words = ("--text", "a", "--set", "name=other", "--set=output=res", "--format", "csv")
    overrides, arguments = with_settings_first(("train.epochs=2",), words)
    assert overrides == ("train.epochs=2", "name=other", "output=res")
    assert arguments == ("--text", "a", "--format", "csv")
    found = ask(job, None, *overrides, verb="predict", arguments=arguments)
    assert found.run.startswith("other-predict-")
    assert json.loads(found.metadata[OURS])["output"] == "/mnt/raysft/res"
    assert with_settings_first((), ("--set",)) == (("",), ())


# --- outputs


def test_outputs_go_to_the_storage(job: Path) -> None:
    def output(cluster: Cluster | None, *overrides: str) -> str:
        request = make_request("train", job, cluster, overrides, environment={})
        return str(json.loads(request.metadata[OURS])["output"])

    assert output(remote()) == "/mnt/raysft/results"
    assert output(remote(), "output=a/b") == "/mnt/raysft/a/b"
    assert output(remote(), "output=/mnt/raysft/c") == "/mnt/raysft/c"
    assert output(None, "output=/everywhere") == "/everywhere"
    assert output(local(), "output=a") == str(job.parent / "a")


@pytest.mark.parametrize("output", ["/home/me/results", "../results", "a/../../b", "/mnt/raysft/../x", "/mnt/raysft2"])
def test_outputs_elsewhere_are_refused(output: str, job: Path) -> None:
    with pytest.raises(UsageError, match="storage of the cluster") as refused:
        ask(job, None, f"output={output}")
    assert refused.value.message.startswith(f"--set output={output}: output: ")


@pytest.mark.parametrize("cluster", [None, remote(), local()], ids=["address", "far", "local"])
def test_an_output_in_an_object_store_is_refused_and_no_folder_of_its_name_is_made(
    cluster: Cluster | None, job: Path
) -> None:
    with pytest.raises(UsageError, match="output: s3://bucket/x is a remote URI"):
        make_request("train", job, cluster, ("output=s3://bucket/x",), environment={})


def test_an_address_alone_does_not_tell_where_files_are_kept(job: Path) -> None:
    with pytest.raises(UsageError, match="does not tell where the cluster keeps files"):
        make_request("train", job, None, environment={})


@pytest.mark.parametrize(
    "words", [["--output", "x.csv"], ["--output=x.csv"], ["--text", "a", "--output", "../x.jsonl"]]
)
def test_a_relative_output_of_predict_is_refused(words: list[str], job: Path, tmp_path: Path) -> None:
    on_storage = write_job(tmp_path / "mnt" / "job.yaml")
    for path, cluster in ((job, remote()), (on_storage, remote(str(tmp_path / "mnt")))):
        with pytest.raises(UsageError, match="a relative path is lost"):
            ask(path, cluster, verb="predict", arguments=words)
    ask(job, local(), verb="predict", arguments=words)
    ask(job, verb="predict", arguments=["--output", "/mnt/raysft/x.csv"])


# --- what else is told


def test_nothing_of_the_environment_is_sent(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-secret-1")
    monkeypatch.setenv("SOME_VARIABLE", "planted-secret-2")
    for cluster in (remote(), local()):
        request = make_request("train", job, cluster, now=THEN)
        body = request.to_json(1)
        assert set(body) == {"submission_id", "entrypoint", "runtime_env", "metadata"}
        assert set(body["runtime_env"]) <= {"env_vars", "working_dir"}
        assert set(body["runtime_env"]["env_vars"]) == {
            "RAYSFT_EVENTS",
            "RAYSFT_PINS",
            "PYTHONUNBUFFERED",
            "RAYSFT_JOB",
        }
        assert "planted-secret" not in json.dumps(body) and b"planted-secret" not in request.archive
        mine = {value for name, value in os.environ.items() if len(value) > 12 and name not in {"PWD", "OLDPWD"}}
        values = [*body["runtime_env"]["env_vars"].values(), *json.loads(body["metadata"][OURS]).values()]
        assert not mine & set(values)


def test_secrets_are_refused_wherever_they_are_typed(job: Path) -> None:
    environment, secret = {"HF_TOKEN": "planted-secret-1"}, "planted-secret-1"
    for overrides, arguments in [(["model.base=x/planted-secret-1"], []), ([], ["--text", f"is {secret} me?"])]:
        with pytest.raises(NotAllowed, match="would be sent to the cluster") as refused:
            make_request("predict", job, remote(), overrides, arguments, environment)
        assert secret not in str(refused.value)
    job.write_text(job.read_text(encoding="utf-8") + f"# my token is {secret}\n", encoding="utf-8")
    for cluster in (remote(), local()):
        with pytest.raises(NotAllowed, match=r"job\.yaml:4: the value of \$HF_TOKEN"):
            make_request("train", job, cluster, environment=environment)


def test_what_is_said_of_a_job(job: Path) -> None:
    said = json.loads(ask(job, now=THEN).metadata[OURS])
    digest = said.pop("settings_sha256")
    assert said == {
        "verb": "train",
        "name": "tiny",
        "job": "job.yaml",
        "output": "/mnt/raysft/results",
        "cluster": "far",
        "submitted": "2026-01-02T03:04:05+00:00",
        "version": VERSION,
    }
    again = json.loads(ask(job, None, "train.epochs=2").metadata[OURS])["settings_sha256"]
    assert len(digest) == 64 and digest == json.loads(ask(job).metadata[OURS])["settings_sha256"] != again


def test_a_bad_job_file_is_told_before_anything_is_asked(job: Path) -> None:
    with pytest.raises(JobFileError):
        ask(job, None, "train.epochs=-1")
    load_job(job)


# --- versions


def test_pins_are_versions_without_what_they_were_built_for() -> None:
    found = pins()
    assert set(found) == {"raysft", *PINNED} and all("+" not in each for each in found.values())
    assert found["torch"] == version("torch").partition("+")[0]


def test_other_versions_are_refused_by_name_and_the_same_are_not() -> None:
    refuse_other_versions(json.dumps(pins()))
    refuse_other_versions("{}")
    with pytest.raises(UsageError) as refused:
        refuse_other_versions(json.dumps({**pins(), "torch": "0.1", "nothing": "1"}))
    assert "not 0.1" in refused.value.message and "nothing is not there, not 1" in refused.value.message
    assert "transformers" not in refused.value.message


def test_a_python_in_a_folder_with_a_space_is_quoted_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/my files/python")
    here = Request("run", "exec raysft", {}, {}, runs_here=True)
    assert here.to_json(1)["runtime_env"]["py_executable"] == "'/my files/python'"
    elsewhere = Request("run", "exec raysft", {}, {})
    assert "py_executable" not in elsewhere.to_json(1)["runtime_env"]
