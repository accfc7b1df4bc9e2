"""Imports go one way, Ray stays in few files, and the command answers before anything heavy is loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import raysft
from tests.support.jobs import write_job

PACKAGE = Path(raysft.__file__).parent
# Each may import only what stands before it; what stands on one line knows nothing of its neighbours.
ORDER = [
    ["child", "duration", "errors", "events", "version"],
    ["config"],
    ["storage"],
    ["shortage"],
    ["capacity"],
    ["session", "claim"],
    ["reading"],
    ["corpus"],
    ["folds"],
    ["audit"],
    ["model"],
    ["metrics"],
    ["preparation"],
    ["plan"],
    ["training"],
    ["evaluation"],
    ["prediction"],
    ["tuning"],
    ["report"],
    ["result"],
    ["run"],
    ["sweep"],
    ["pipeline", "initialise"],
    ["cluster"],
    ["jobs"],
    ["cli"],
    ["__init__", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
RAY = {
    "capacity.py",
    "cluster/keeper.py",
    "cluster/preemption.py",
    "cluster/providers/aws.py",
    "cluster/providers/azure.py",
    "cluster/providers/fails_over.py",
    "cluster/providers/gcp.py",
    "cluster/providers/shared.py",
    "cluster/providers/simulated.py",
    "jobs/driver.py",
    "jobs/probe.py",
    "session.py",
    "preparation/engine.py",
    "training/launch.py",
    "training/shared.py",
    "tuning/deaths.py",
    "tuning/engine.py",
}
HEAVY = ("ray", "torch", "transformers", "sklearn", "matplotlib", "optuna")
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(file: Path) -> str:
    """The first name below the package: `corpus` for corpus/build.py, `errors` for errors.py."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path, top_only: bool = False) -> Iterator[str]:
    """Full names of all that a file imports, wherever in the file; relative imports are refused elsewhere."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: relative import"
            # `from raysft import x` may name a module, so the imported name counts too.
            names = [alias.name for alias in node.names] if node.module == "raysft" else [""]
            yield from (f"{node.module}.{name}".rstrip(".") for name in names)


def test_all_files_were_walked() -> None:
    assert len(FILES) >= 60
    assert {part_of(file) for file in FILES} == set(RANK), "a new part needs its place in ORDER"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    mine = part_of(file)
    for name in imports(file):
        package, _, rest = name.partition(".")
        if package == "raysft" and rest:
            theirs = rest.split(".")[0]
            assert RANK[theirs] < RANK[mine] or theirs == mine, f"{mine} imports {name}"


def test_ray_is_imported_in_these_files_only_and_never_at_their_top() -> None:
    users = {str(f.relative_to(PACKAGE)) for f in FILES if any(n.split(".")[0] == "ray" for n in imports(f))}
    assert users == RAY
    for name in RAY:
        assert not any(each.split(".")[0] == "ray" for each in imports(PACKAGE / name, top_only=True)), name


def test_only_the_search_imports_optuna_and_never_at_its_top() -> None:
    for file in FILES:
        if any(name.split(".")[0] == "optuna" for name in imports(file)):
            assert part_of(file) == "tuning", file
            assert not any(name.split(".")[0] == "optuna" for name in imports(file, top_only=True)), file


def test_no_front_part_imports_torch_at_its_top() -> None:
    """Reading a job, a corpus or a plan must not cost the seconds that torch and transformers take."""
    light = {"errors", "events", "version", "config", "storage", "session", "reading", "corpus", "audit", "metrics"}
    light |= {"folds"}
    light |= {"preparation", "plan", "cluster", "jobs", "cli"}
    for file in FILES:
        if part_of(file) in light | {"pipeline", "initialise", "claim", "__init__"}:
            found = {name.split(".")[0] for name in imports(file, top_only=True)}
            assert not found & set(HEAVY), file


def loaded_after(code: str) -> list[str]:
    """Which heavy packages a fresh process has loaded after running `code`."""
    code += f"\nimport json, sys\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stderr.splitlines()[-1])
    return found


def test_the_package_the_command_and_every_verb_load_nothing_heavy() -> None:
    code = """
import click, raysft, raysft.cli.main
raysft.schema()
for verb in raysft.cli.main.VERBS:
    assert raysft.cli.main.cli.get_command(click.Context(raysft.cli.main.cli), verb)
assert raysft.cli.main.run(["--help"]) == 0
"""
    assert loaded_after(code) == []


def test_a_check_loads_neither_ray_nor_torch(tmp_path: Path, base_folder: Path) -> None:
    job = write_job(tmp_path, base_folder)
    code = f"import raysft.cli.main as main\nassert main.run(['check', {str(job)!r}, '--json']) == 0"
    assert loaded_after(code) == []


def test_everything_that_is_announced_can_be_had() -> None:
    for name in raysft.__all__:
        assert callable(getattr(raysft, name)), name
    assert isinstance(raysft.__version__, str)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        raysft.nonsense  # noqa: B018
