"""Values as `datasets` stores them -> as people meant them.

Numbers of classes become names, which stand in dataset_info.json or in the metadata of a schema; an object of lists
becomes a list of objects.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from raysft.errors import NotFound
from raysft.reading.places import place
from raysft.reading.sources import Source

METADATA = b"huggingface"


@dataclass(frozen=True)
class Names:
    """Where numbers of classes stand in a value, and what they are called."""

    classes: tuple[str, ...] = ()  # the value itself is a number of a class
    items: Names | None = None  # it is a list of such values
    fields: tuple[tuple[str, Names], ...] = ()  # it is an object with such values


def saved_features(source: Source) -> dict[str, Names]:
    """Of a saved dataset: column -> names."""
    try:
        with place(source.path).child("dataset_info.json").open() as file:
            return _columns(json.loads(file.read())["features"])
    except (NotFound, ValueError, KeyError, TypeError, RecursionError):
        return {}


def feature_names(metadata: dict[bytes, bytes] | None) -> dict[str, Names]:
    """Of a schema: column -> names; empty where it tells none."""
    try:
        return _columns(json.loads((metadata or {})[METADATA])["info"]["features"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def named(value: Any, names: Names) -> Any:
    """A value with names in place of numbers; -1, which stands for no label, becomes None."""
    if isinstance(value, list) and names.items is not None:
        return [named(each, names.items) for each in value]
    if isinstance(value, dict):
        inner = dict(names.fields)
        return {key: named(each, inner[key]) if key in inner else each for key, each in value.items()}
    if names.classes and isinstance(value, int):
        return names.classes[value] if 0 <= value < len(names.classes) else (None if value == -1 else value)
    return value


def transposed(value: Any) -> Any:
    """{"start": [1, 5], "end": [3, 9]} -> [{"start": 1, "end": 3}, {"start": 5, "end": 9}].

    What is no object of lists of one length stays as it is.
    """
    if not isinstance(value, dict) or not all(isinstance(items, list) for items in value.values()):
        return value
    if len({len(items) for items in value.values()}) != 1:
        return value
    return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]


def _columns(features: Any) -> dict[str, Names]:
    found = {str(name): _names(feature) for name, feature in features.items()}
    return {name: names for name, names in found.items() if names is not None}


def _names(feature: Any) -> Names | None:
    """Of one feature; None where no class stands in it."""
    if isinstance(feature, list):
        items = _names(feature[0]) if feature else None
        return Names(items=items) if items else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return Names(classes=tuple(map(str, feature["names"]))) if feature.get("names") else None
    if feature.get("_type") in {"Sequence", "List", "LargeList"}:
        items = _names(feature.get("feature"))
        # A Sequence of an object is stored as an object of lists.
        return _sequence(feature, items) if items else None
    fields = tuple((str(name), found) for name, each in feature.items() if (found := _names(each)) is not None)
    return Names(fields=fields) if fields else None


def _sequence(feature: dict[str, Any], items: Names) -> Names:
    if feature["_type"] == "Sequence" and items.fields:
        return Names(fields=tuple((name, Names(items=each)) for name, each in items.fields))
    return Names(items=items)
