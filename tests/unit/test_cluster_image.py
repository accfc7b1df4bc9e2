"""The container image, read as text since no builder is here: the versions that tests ran with, and no root."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from raysft.cluster.files.kubernetes_pods import HOME, USER

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster/docker"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


def instructions() -> list[tuple[str, str]]:
    """(FROM, python:...) and so on, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def told(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_python_is_that_of_the_tests() -> None:
    (python,) = [value.removeprefix("PYTHON=") for value in told("ARG") if value.startswith("PYTHON=")]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", python), "an exact version"
    assert python.startswith(f"python:{sys.version_info.major}.{sys.version_info.minor}.")
    assert [each.split()[0] for each in told("FROM")] == ["${PYTHON}", "${PYTHON}"]


def test_all_versions_are_those_of_the_constraints() -> None:
    installs = [line for rest in told("RUN") for line in re.findall(r"pip install [^&]*", rest)]
    assert len(installs) == 2
    assert all("-c constraints.txt" in line for line in installs)
    assert "==" not in "".join(installs)  # no version is said twice
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^ray==", constraints, re.MULTILINE) and re.search(r"^torch==", constraints, re.MULTILINE)
    assert any("constraints.txt" in each for each in told("COPY"))


def test_extras_are_known() -> None:
    (extras,) = [value.removeprefix("EXTRAS=") for value in told("ARG") if value.startswith("EXTRAS=")]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)


def test_it_runs_as_the_user_of_the_pods() -> None:
    assert told("USER") == [f"{USER}:{USER}"]
    words = [word for word, _ in instructions()]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("RUN", "COPY"))
    assert f"--uid {USER} --gid {USER} --create-home --home-dir {HOME} " in told("RUN")[-1]


def test_nothing_is_fetched_by_a_name_that_changes_and_no_secret_is_built_in() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert ":latest" not in text and "ADD" not in [word for word, _ in instructions()]
    assert not re.search(r"TOKEN|SECRET|PASSWORD", " ".join(told("ENV") + told("ARG")))


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    copied = [name for rest in told("COPY") if not rest.startswith("--from") for name in rest.split()[:-1]]
    assert len(copied) == 8
    kept = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in kept, name
    assert "*" in kept


def test_its_commands_have_no_fault_that_is_found_without_running_them() -> None:
    for command in told("RUN"):
        done = subprocess.run(
            [SHELLCHECK, "--shell=sh", "--exclude=SC2154", "-"],  # SC2154: variables that ARG sets
            input=command,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
