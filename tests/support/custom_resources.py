"""Schemas of custom resources made strict, and what they say of a manifest."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # its loader in C reads a megabyte in a tenth of the time
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[2] / "../shared/schemas"
NO_SCHEMAS = "the folder shared/schemas with KubeRay's and Kueue's schemas is not beside this checkout"
FILES = {
    "RayCluster": "ray.io_rayclusters.yaml",
    "RayJob": "ray.io_rayjobs.yaml",
    "ClusterQueue": "kueue.x-k8s.io_clusterqueues.yaml",
    "LocalQueue": "kueue.x-k8s.io_localqueues.yaml",
    "ResourceFlavor": "kueue.x-k8s.io_resourceflavors.yaml",
    "WorkloadPriorityClass": "kueue.x-k8s.io_workloadpriorityclasses.yaml",
}
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@cache
def validator(kind: str) -> Draft202012Validator:
    """Of the stored version of a kind, where a key that no schema knows is an error at every depth."""
    definition = yaml.load((SCHEMAS / FILES[kind]).read_bytes(), Loader=yaml.CSafeLoader)
    stored = next(version for version in definition["spec"]["versions"] if version["storage"])
    schema = copy.deepcopy(stored["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = copy.deepcopy(METADATA)
    group, version = definition["spec"]["group"], stored["name"]
    schema["properties"]["apiVersion"] = {"const": f"{group}/{version}"}
    schema["properties"]["kind"] = {"const": kind}
    schema["required"] = sorted({*schema.get("required", []), "apiVersion", "kind", "metadata"})
    return Draft202012Validator(_strict(schema))


def errors(document: dict[str, Any]) -> list[str]:
    """What the schema of its kind says is wrong in a manifest: `spec.x: ...`, sorted."""
    found = validator(document["kind"]).iter_errors(document)
    return sorted(f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found)


def _strict(schema: Any) -> Any:
    """OpenAPI of Kubernetes as JSON schema: typos refused, nullable and int-or-string understood."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("description", "format", "default") or key.startswith("x-kubernetes"):
            continue
        if key == "properties":
            found[key] = {name: _strict(each) for name, each in value.items()}
        else:
            found[key] = _strict(value)
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_:
        found["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if schema.get("nullable"):
        found.pop("nullable", None)
        return {"anyOf": [{"type": "null"}, found]}
    return found
