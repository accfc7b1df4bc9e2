"""Job file -> JobConfig, with the line of every value and all problems reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from raysft.config.cluster import ClusterConfig
from raysft.config.problems import Lines, problems_of
from raysft.config.section import Section
from raysft.config.sections import JobConfig
from raysft.errors import JobFileError, NotAllowed, NotFound, Problem

S = TypeVar("S", bound=Section)
DOTTED = ("tune", "search")  # the keys in this section are keys of the job file, with dots


@dataclass(frozen=True)
class Job:
    """A validated job: what was written, where it stands, and the folder its data paths start from."""

    config: JobConfig
    path: Path
    lines: Lines = field(default_factory=dict, compare=False)
    values: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # as written, without defaults

    @property
    def folder(self) -> Path:
        return self.path.parent

    def where(self, *key: str) -> str:
        """`jobs/x.yaml:12` of a key, or of the nearest section that was written."""
        return _nearest_line(self.lines, self.path, key)

    def problem(self, key: str, text: str) -> JobFileError:
        """An error that points at `key` of this file."""
        return JobFileError([Problem(self.where(*key.split(".")), key, text)])


@dataclass(frozen=True)
class Cluster:
    """A validated cluster file: what was written, and where it stands."""

    config: ClusterConfig
    path: Path
    lines: Lines = field(default_factory=dict, compare=False)

    def where(self, *key: str) -> str:
        """`cluster/x.yaml:12` of a key, or of the nearest section that was written."""
        return _nearest_line(self.lines, self.path, key)


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read and validate a job file; `overrides` are `a.b=value` strings, applied on top.

    Raises NotFound (no such file), NotAllowed (no permission) or JobFileError (every problem in it).
    """
    path = Path(path)
    config, values, lines = _load(JobConfig, path, overrides, "job")
    return Job(config, path.absolute(), lines, values)


def load_cluster(path: str | Path, overrides: Sequence[str] = ()) -> Cluster:
    """Read and validate a cluster file, as load_job does."""
    path = Path(path)
    config, _, lines = _load(ClusterConfig, path, overrides, "cluster")
    return Cluster(config, path.absolute(), lines)


def _load(kind: type[S], path: Path, overrides: Sequence[str], what: str) -> tuple[S, dict[str, Any], Lines]:
    values, lines = _read_yaml(path, what)
    for override in overrides:
        _apply_override(values, lines, override)
    try:
        return kind.model_validate(values), values, lines
    except ValidationError as error:
        raise JobFileError(list(problems_of(error, values, lines, path, kind))) from None


def _nearest_line(lines: Lines, path: Path, key: tuple[str, ...]) -> str:
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, str(path))


def _read_yaml(path: Path, what: str) -> tuple[dict[str, Any], Lines]:
    """what: job or cluster."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"no such {what} file: {path}", _similar_files(path, what)) from None
    except IsADirectoryError:
        raise NotFound(f"{path} is a folder, not a {what} file", "Name the .yaml file in it.") from None
    except PermissionError:
        raise NotAllowed(
            f"no permission to read {path}", f"Mend its permissions, or name another {what} file."
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise JobFileError([Problem(f"{path}:{line}", "", "not UTF-8 text; save the file as UTF-8")]) from None
    try:
        tree = YAML(typ="rt").load(text)
        if isinstance(tree, dict):
            lines: Lines = {}
            _collect_lines(tree, (), str(path), lines)
            return _plain(tree), lines
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        text = str(error.problem or error.context or error).splitlines()[0]
        raise JobFileError([Problem(f"{path}:{line}", "", f"not valid YAML: {text}")]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise JobFileError([Problem(f"{path}:{line}", "", f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    except RecursionError:
        raise JobFileError([Problem(f"{path}:1", "", f"nested too deeply for a {what} file")]) from None
    hint = "; `raysft init` writes one" if what == "job" else ""
    raise JobFileError([Problem(f"{path}:1", "", f"a {what} file holds `key: value` lines{hint}")])


def _collect_lines(node: Any, key: tuple[str, ...], path: str, lines: Lines) -> None:
    if isinstance(node, CommentedMap):
        for name, value in node.items():
            if name in (node.lc.data or ()):  # a key merged with `<<` has no line: its section's line stands for it
                lines[(*key, str(name))] = f"{path}:{node.lc.key(name)[0] + 1}"
            _collect_lines(value, (*key, str(name)), path, lines)
    elif isinstance(node, CommentedSeq):
        for index, value in enumerate(node):
            if index in (node.lc.data or ()):
                lines[(*key, str(index))] = f"{path}:{node.lc.item(index)[0] + 1}"
            _collect_lines(value, (*key, str(index)), path, lines)


def _plain(node: Any) -> Any:
    """ruamel's annotated containers and scalars as plain Python values."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, str):
        return str(node)
    if isinstance(node, Iterable):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    return float(node) if isinstance(node, float) else node


def _apply_override(values: dict[str, Any], lines: Lines, override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = tuple(dotted.strip().split("."))
    where = f"--set {override}"
    if not equals or not all(keys):
        raise JobFileError([Problem(where, "", "write --set section.key=value, for example --set train.epochs=3")])
    try:
        value = _plain(YAML(typ="rt").load(text)) if text.strip() else None
    except YAMLError:
        value = text
    if keys[: len(DOTTED)] == DOTTED and len(keys) > len(DOTTED):
        keys = (*DOTTED, ".".join(keys[len(DOTTED) :]))
    section = values
    for depth, key in enumerate(keys[:-1], start=1):
        if not isinstance(section.get(key), dict):
            section[key] = {}
            lines[keys[:depth]] = where
        section = section[key]
    section[keys[-1]] = value
    for replaced in [each for each in lines if each[: len(keys)] == keys]:
        del lines[replaced]
    lines[keys] = where


def _similar_files(path: Path, what: str) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    names = sorted(str(found) for found in folder.glob("*.y*ml"))
    close = difflib.get_close_matches(str(path), names, n=1, cutoff=0.4)
    if close:
        return f"Did you mean {close[0]}?"
    if what == "cluster":
        return f"Files here: {', '.join(names[:5])}" if names else "The folder cluster/ of raysft has one of each kind."
    return f"Job files here: {', '.join(names[:5])}" if names else "`raysft init DATA.csv` writes one."
