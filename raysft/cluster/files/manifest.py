"""Manifests of Kubernetes as YAML: keys in the order they were written, long commands on lines of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

Manifest = dict[str, Any]


def as_manifests(documents: Sequence[Manifest], source: str, *comments: str) -> str:
    """The documents under lines that say where they are from. source: name of the cluster file."""
    yaml = YAML()
    yaml.width = 4096  # commands stay on their lines
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.ignore_aliases = lambda *_: True  # the same labels in two places are written twice
    text = io.StringIO()
    yaml.dump_all([_literal(document) for document in documents], text)
    first = f"Rendered from {source} by `raysft cluster render`. Edit that file, then render again."
    return "".join(f"# {line}\n" for line in (first, *comments)) + text.getvalue()


def read_manifests(text: str) -> list[Manifest]:
    """The documents of a manifest file, as plain values. Raises YAMLError."""
    return [document for document in YAML(typ="safe").load_all(text) if document is not None]


def _literal(value: Any) -> Any:
    """Texts of several lines as blocks, for people to read."""
    if isinstance(value, Mapping):
        return {key: _literal(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(each) for each in value]
    return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value
