"""Rendered files as rules look at them: texts, and the values in them with dotted keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ruamel.yaml.error import YAMLError

from raysft.cluster.files.manifest import read_manifests
from raysft.config import Cluster

READ = (".yaml", ".json")
RAY = "ray.yaml"


@dataclass(frozen=True)
class Rendered:
    """The files of one cluster."""

    cluster: Cluster
    texts: Mapping[str, str]

    @cached_property
    def _read(self) -> list[tuple[str, Any]]:
        return [
            (file, document)
            for file, text in self.texts.items()
            if file.endswith(READ)
            for document in _documents(file, text)
        ]

    def documents(self) -> list[tuple[str, Any]]:
        """Name of the file and each document in it, of the files that hold values; no scripts."""
        return self._read

    def document(self, file: str) -> Any:
        """The only document of a file. Raises KeyError for a file that is not there or holds none."""
        return dict(self._read)[file]

    @property
    def ray(self) -> dict[str, Any]:
        """What `ray up` reads."""
        found: dict[str, Any] = self.document(RAY)
        return found

    @property
    def workers(self) -> dict[str, dict[str, Any]]:
        """The node types but for the head's."""
        types: dict[str, dict[str, Any]] = self.ray["available_node_types"]
        return {name: kind for name, kind in types.items() if name != self.ray["head_node_type"]}

    @property
    def head(self) -> dict[str, Any]:
        """The node type of the head."""
        found: dict[str, Any] = self.ray["available_node_types"][self.ray["head_node_type"]]
        return found


def _documents(file: str, text: str) -> list[Any]:
    try:
        return [json.loads(text)] if file.endswith(".json") else read_manifests(text)
    except (YAMLError, ValueError):
        return []


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is in a document, with its dotted key; lists count from 0."""
    yield key, value
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from walk(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from walk(each, f"{key}.{place}" if key else str(place))
