"""Whatever stands in a cluster file is refused, or stands in the rendered files as the one value that it is.

Each text of each kind of cluster is replaced by texts with line breaks, quotes, dollars, backticks and more. What is
rendered then is compared with what a harmless text renders to: the same lines, but for the value, written as a shell or
systemd reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raysft.cluster.render import render
from raysft.config import Cluster, ClusterConfig, load_cluster
from raysft.config.cluster import KINDS, PoolSection
from raysft.config.section import PlainSection
from raysft.errors import JobFileError

FOLDER = Path(__file__).parents[2] / "cluster"
REMOTE = [kind for kind in KINDS if kind != "local"]
# Where the cluster files of the folder leave a key out, or say something that stands in other lines, too.
HARMLESS = {
    "gcp.subnet": "zq7x",
    "azure.resource_group": "zq7x",
    "address": "http://127.0.0.1:8299",
    "token_file": "/zq7x/token",
    "image": "zq7x/image:1",
    "static.ssh.user": "zq7x",
    "static.ssh.key": "/zq7x/key",
    "slurm.account": "zq7x",
    "slurm.setup": "module load zq7x",
    "aws.bucket": "s3://zq7x/runs",
    "aws.head_machine": "m7i.xlarge",
    "gcp.head_machine": "n2-standard-4",
    "azure.head_machine": "Standard_D4s_v5",
    "gcp.filestore": "zq7x:/share",
    "azure.share": "zq7x:/share",
    "aws.file_system": "fs-0a1b",
    "kubernetes.api_cidr": "10.0.0.1/32",
    "kubernetes.queue": "zq7x",
    "kubernetes.token_secret": "zq7x-token",
    "kubernetes.service_account": "zq7x-account",
    "kubernetes.node_labels": "zq7x",
    "kubernetes.spot_taint": "zq7x=true",
    "kubernetes.storage_class": "zq7x",
}
PLAIN = re.compile(r"[\w.:/+-]+")  # nothing that a shell or any format of these files reads
IN_A_SHELL = re.compile(r"commands|run_options|\bcommand\b|\bargs\b")  # in the path of a key
AS_IT_IS = {"slurm.setup"}  # a command of whoever writes the file
Values = dict[str, Any]
Key = tuple[str | int, ...]


def texts_of(section: type[PlainSection], before: Key = ()) -> Iterator[Key]:
    """Keys that hold a text, one level of sections down."""
    for name, info in section.model_fields.items():
        kinds = [info.annotation, *get_args(info.annotation)]
        if str in kinds or any(str in get_args(kind) for kind in kinds if get_args(kind)):
            yield (*before, name)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, PlainSection) and kind is not PoolSection:
                yield from texts_of(kind, (*before, name))


def keys_of(kind: str) -> list[Key]:
    every = [key for key in texts_of(ClusterConfig) if key[0] not in KINDS or key[0] == kind]
    return every + [("pools", 0, key[0]) for key in texts_of(PoolSection)]


@cache
def written(kind: str) -> Values:
    """Values of the cluster file of the folder."""
    found: Values = load_cluster(FOLDER / kind / "cluster.yaml").config.model_dump(mode="json", exclude_unset=True)
    return found


def place(values: Any, key: Key) -> Any:
    for part in key:
        values = values.get(part) if isinstance(values, dict) else values[part] if values else None
    return values


def put(values: Values, key: Key, text: str) -> Values:
    """The values with a text at a key; a list gets it as its only item, labels of pools as their value."""
    made: Values = json.loads(json.dumps(values))
    section: Any = made
    for part in key[:-1]:
        section = section.setdefault(part, {}) if isinstance(section, dict) else section[part]
    if key[-1] in {"workers", "subnets", "api_cidr"}:
        section[key[-1]] = [text]
    elif key[-1] == "node_labels":
        section[key[-1]] = {values["pools"][0]["name"]: {"kind": text}}
    else:
        section[key[-1]] = text
    return made


def harmless(kind: str, key: Key) -> str | None:
    found = place(written(kind), key)
    while isinstance(found, list | dict):
        found = next(iter(found.values() if isinstance(found, dict) else found), None)
    return HARMLESS.get(".".join(map(str, key)), found if isinstance(found, str) else None)


def rendered(values: Values) -> list[str] | None:
    """All lines of all files, or, of JSON and YAML, all values with their keys; None where it is refused."""
    try:
        files = render(Cluster(ClusterConfig.model_validate(values), Path("cluster.yaml")))
    except (ValidationError, JobFileError):
        return None
    return [line for name, text in files.items() for line in lines_of(name, text)]


def lines_of(name: str, text: str) -> Iterator[str]:
    if name.endswith(".json"):
        yield from leaves(json.loads(text), name)
    elif name.endswith(".yaml"):
        for document in yaml.load_all(text, yaml.CSafeLoader):
            yield from leaves(document, name)
        yield from (line for line in text.splitlines() if line.startswith("#"))
    else:
        yield from (f"{name} {of_systemd(line) if name.endswith('.service') else line}" for line in text.splitlines())


def leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, f"{path}/-")
    else:
        yield f"{path} = {value}"


def of_systemd(line: str) -> str:
    """What systemd takes a line for (systemd.syntax(7)), where its value is to be one word."""
    found = re.fullmatch(r"(Environment|RequiresMountsFor|ReadWritePaths)=(.*)", line)
    if found is None:
        return line
    quoted = re.fullmatch(r'"((?:[^"\\]|\\["\\])*)"', found[2])
    assert quoted or not re.search(r"""[\s'"\\]""", found[2]), line
    value = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else found[2]
    assert "%" not in value.replace("%%", ""), line
    return f"{found[1]}={value.replace('%%', '%')}"


def in_single_quotes(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def twice(text: str) -> str:
    return quote(f"{text}:{text}")


def at_home(text: str) -> str:
    return f'"$HOME"/{quote(text[2:])}' if text.startswith("~/") else quote(text)


def as_it_is(text: str) -> str:
    return text


def ways(key: str, line: str) -> list[Callable[[str], str]]:
    """In which a value may stand in this line, those that hold most of the others first."""
    in_a_shell = line.startswith(("job", "install.sh")) or IN_A_SHELL.search(line.partition(" = ")[0])
    if in_a_shell and key not in AS_IT_IS:
        return [twice, in_single_quotes, at_home, quote]
    return [twice, as_it_is]


def means_the_same(key: str, before: str, after: str, line: str, expected: str) -> bool:
    """Whether a line is the one that a harmless text gave, but for the value."""
    if line == expected or all(re.fullmatch(r".*/unique_id = [0-9a-f]{4}", each) for each in (line, expected)):
        return True
    if key == "kubernetes.spot_taint":  # KEY=VALUE, each for itself
        parts = zip(before.split("=", 1), after.split("=", 1), strict=True)
        return any(expected.endswith(f" = {each}") and line.endswith(f" = {other}") for each, other in parts)
    found = expected
    for way in ways(key, line):
        found = found.replace(way(before), way(after))
        if found == line or expected.replace(way(before), way(after)) == line:
            return True
    return False


LETTERS = "\n\r\t\0\x85\u2028'\"$`\\ ;&|(){}<>%#@*~!:=,[]-/.a7"
HOSTILE = st.lists(st.sampled_from([*LETTERS, "$(id)", "\n  x: y", "@PORT@"]), min_size=1, max_size=6).map("".join)


@pytest.mark.parametrize("kind", REMOTE)
def test_every_text_has_a_harmless_one_to_compare_with(kind: str) -> None:
    keys = keys_of(kind)
    assert len(keys) >= 8
    for key in keys:
        text = harmless(kind, key)
        if key[-1] in {"gpu", "machine"} and text is None:  # clouds know the one, and others need not
            continue
        assert text is not None, f"{key}: put one into HARMLESS"
        assert rendered(put(written(kind), key, text)) is not None, (key, text)


@pytest.mark.parametrize("kind", ["static", "slurm"])
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_text_renders_a_command_that_was_not_meant(kind: str, data: st.DataObject) -> None:
    nothing_else_is_rendered(kind, data)


@pytest.mark.parametrize("kind", ["aws", "gcp", "azure", "kubernetes"])
@settings(max_examples=80, deadline=None)  # a tenth of a second each
@given(data=st.data())
def test_no_text_renders_a_setting_that_was_not_meant(kind: str, data: st.DataObject) -> None:
    nothing_else_is_rendered(kind, data)


def nothing_else_is_rendered(kind: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([key for key in keys_of(kind) if harmless(kind, key)]))
    before = harmless(kind, key)
    assert before is not None
    hostile = data.draw(HOSTILE)
    after = data.draw(st.sampled_from([hostile, before + hostile, hostile + before]))
    found = rendered(put(written(kind), key, after))
    if found is None or PLAIN.fullmatch(after):
        return
    assert after.isprintable()
    expected = rendered_harmless(kind, key)
    assert len(found) == len(expected), (key, after)
    name = ".".join(map(str, key))
    for line, same in zip(found, expected, strict=True):
        assert means_the_same(name, before, after, line, same), (name, after, line, same)


@cache
def rendered_harmless(kind: str, key: Key) -> list[str]:
    found = rendered(put(written(kind), key, harmless(kind, key) or ""))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", REMOTE)
def test_a_line_break_is_refused_in_every_text_with_its_key(kind: str, tmp_path: Path) -> None:
    for key in keys_of(kind):
        text = harmless(kind, key)
        if text is None:
            continue
        path = tmp_path / "cluster.yaml"
        path.write_text(json.dumps(put(written(kind), key, f"{text}\nx")), encoding="utf-8")  # JSON is YAML
        with pytest.raises(JobFileError) as error:
            load_cluster(path)
        assert any(each.key.startswith(".".join(map(str, key))) for each in error.value.problems), key


def test_a_file_whose_name_has_a_line_break_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x\nUser=root\n.yaml"
    path.write_text((FOLDER / "static/cluster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(JobFileError, match="the name of a cluster file is one line"):
        render(load_cluster(path))


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::1%x }; flush ruleset; {"])
def test_an_address_that_means_another_host_on_every_host_is_refused(host: str) -> None:
    cluster = load_cluster(FOLDER / "static/cluster.yaml", [f"static.workers=['{host}']"])
    with pytest.raises(JobFileError, match=r"static\.workers\.0: must be a host name or an address"):
        render(cluster)
