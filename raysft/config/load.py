"""Job file -> JobConfig, with the line of every value and all problems reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from raysft.config.problems import Lines, problems_of
from raysft.config.sections import JobConfig
from raysft.errors import JobFileError, NotAllowed, NotFound, Problem

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
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, str(self.path))

    def problem(self, key: str, text: str) -> JobFileError:
        """An error that points at `key` of this file."""
        return JobFileError([Problem(self.where(*key.split(".")), key, text)])


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read and validate a job file; `overrides` are `a.b=value` strings, applied on top.

    Raises NotFound (no such file), NotAllowed (no permission) or JobFileError (every problem in it).
    """
    path = Path(path)
    values, lines = _read_yaml(path)
    for override in overrides:
        _apply_override(values, lines, override)
    try:
        config = JobConfig.model_validate(values)
    except ValidationError as error:
        raise JobFileError(list(problems_of(error, values, lines, path))) from None
    return Job(config, path.absolute(), lines, values)


def _read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"no such job file: {path}", _similar_files(path)) from None
    except IsADirectoryError:
        raise NotFound(f"{path} is a folder, not a job file", "Name the .yaml file in it.") from None
    except PermissionError:
        raise NotAllowed(f"no permission to read {path}", "Mend its permissions, or name another job file.") from None
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
        raise JobFileError([Problem(f"{path}:1", "", "nested too deeply for a job file")]) from None
    raise JobFileError([Problem(f"{path}:1", "", "a job file holds `key: value` lines; `raysft init` writes one")])


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


def _similar_files(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    names = sorted(str(found) for found in folder.glob("*.y*ml"))
    close = difflib.get_close_matches(str(path), names, n=1, cutoff=0.4)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Job files here: {', '.join(names[:5])}" if names else "`raysft init DATA.csv` writes one."
