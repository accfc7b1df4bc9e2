"""The schemas of KubeRay and Kueue, made strict: they take what is rendered, and refuse a typo at any depth."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.custom_resources import FILES, NO_SCHEMAS, SCHEMAS, errors
from tests.support.manifests import Manifest, documents, put

pytestmark = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=NO_SCHEMAS)
# Maps whose keys are names that people choose, so that a schema cannot know them.
FREE = {"labels", "annotations", "rayStartParams", "nodeSelector", "matchLabels", "requests", "limits", "nodeLabels"}
DOCUMENTS = documents()
CUSTOM = [key for key in DOCUMENTS if key.partition("/")[0] in FILES]


def test_all_kinds_that_have_a_schema_are_there() -> None:
    assert len(CUSTOM) == 11
    assert {key.partition("/")[0] for key in CUSTOM} == set(FILES)


@pytest.mark.parametrize("key", CUSTOM)
def test_schemas_made_strict_take_what_is_rendered(key: str) -> None:
    assert errors(DOCUMENTS[key]) == []


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys that a schema has to know."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not (path and path[-1] in FREE):
                yield (*path, key)
                yield from places(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from places(value, (*path, index))


PLACES = [(key, path) for key in CUSTOM for path in places(DOCUMENTS[key])]


def misspelt(document: Manifest, path: tuple[Any, ...], how: str) -> Manifest:
    document = copy.deepcopy(document)
    parent: Any = document
    for step in path[:-1]:
        parent = parent[step]
    key = path[-1]
    wrong = {"longer": f"{key}s", "shorter": key[:-1], "capital": key[0].swapcase() + key[1:]}[how]
    items = [(wrong if name == key else name, value) for name, value in parent.items()]
    parent.clear()
    parent.update(items)
    return document


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(PLACES), how=st.sampled_from(["longer", "shorter", "capital"]))
def test_a_typo_at_any_depth_is_refused(place: tuple[str, tuple[Any, ...]], how: str) -> None:
    key, path = place
    document = DOCUMENTS[key]
    if path == ("kind",):
        return  # says which schema is asked
    assert errors(misspelt(document, path, how)) != []


def test_typos_are_tried_at_many_places() -> None:
    assert len(PLACES) > 600
    assert max(len(path) for _, path in PLACES) >= 12


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.workerGroupSpecs.0.maxReplicas", "8"),
        ("spec.autoscalerOptions.version", "v3"),
        ("spec.authOptions.mode", "password"),
        ("spec.workerGroupSpecs.0.template.spec.containers.0.env.0.value", 1),
        ("spec.headGroupSpec.template.spec.terminationGracePeriodSeconds", "120"),
    ],
)
def test_values_of_a_wrong_type_are_refused(path: str, value: object) -> None:
    document = copy.deepcopy(DOCUMENTS["RayCluster/raysft"])
    put(document, path, value)
    assert len(errors(document)) == 1
