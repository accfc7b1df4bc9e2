"""What we ask of each pod: no root, no host, no secret in the open, a pinned image, and a share of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from raysft.cluster.secrets import NAMES

Broken = tuple[str, str, str]  # key, what is wrong, what to do
PATHS = re.compile(r"(PATH|FILE|DIR)$", re.IGNORECASE)  # variables that say where a secret lies
HOST = ("hostNetwork", "hostPID", "hostIPC")


def pod_rules(template: Mapping[str, Any], at: str) -> Iterator[Broken]:
    """All that is wrong in a pod template. at: its key."""
    spec, place = template.get("spec") or {}, f"{at}.spec"
    for key in HOST:
        if spec.get(key):
            yield f"{place}.{key}", "shares what belongs to the node", "Leave it out."
    for index, volume in enumerate(spec.get("volumes") or []):
        if "hostPath" in volume:
            yield f"{place}.volumes.{index}.hostPath", "is the disk of the node", "Use a claim, or an emptyDir."
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{place}.automountServiceAccountToken", "code of jobs gets a key to Kubernetes", "Set it to false."
    if (spec.get("securityContext") or {}).get("runAsUser") == 0:
        yield f"{place}.securityContext.runAsUser", "is root", "Give the user of the image, 1000."
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or []):
            where = f"{place}.{kind}.{index}"
            yield from _rights(container, spec.get("securityContext") or {}, where)
            yield from _image(container, where)
            yield from _share(container, where)
            yield from _secrets(container, where)
    yield from _mounts(spec, place)


def _rights(container: Mapping[str, Any], pod: Mapping[str, Any], at: str) -> Iterator[Broken]:
    rights = container.get("securityContext") or {}
    key = f"{at}.securityContext"
    if rights.get("privileged"):
        yield f"{key}.privileged", "may do all that the node may", "Leave it out."
    if rights.get("allowPrivilegeEscalation") is not False:
        yield f"{key}.allowPrivilegeEscalation", "may become root", "Set it to false."
    if not rights.get("runAsNonRoot", pod.get("runAsNonRoot")) or rights.get("runAsUser") == 0:
        yield f"{key}.runAsNonRoot", "may be root", "Set it to true."
    if "ALL" not in (rights.get("capabilities") or {}).get("drop", []):
        yield f"{key}.capabilities.drop", "keeps rights that it does not need", "Set it to [ALL]."
    if (rights.get("capabilities") or {}).get("add"):
        yield f"{key}.capabilities.add", "takes rights that it does not need", "Leave it out."
    if not rights.get("readOnlyRootFilesystem"):
        yield f"{key}.readOnlyRootFilesystem", "may change its own programs", "Set it to true."
    if (rights.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield f"{key}.seccompProfile", "may call all of the kernel", "Set type: RuntimeDefault."


def _image(container: Mapping[str, Any], at: str) -> Iterator[Broken]:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2]
    if "@sha256:" not in image and (":" not in tag or tag.endswith(":latest")):
        yield f"{at}.image", f"{image!r} is another every week", "Give a version or a digest."


def _share(container: Mapping[str, Any], at: str) -> Iterator[Broken]:
    amounts = container.get("resources") or {}
    requests, limits = amounts.get("requests") or {}, amounts.get("limits") or {}
    if not {"cpu", "memory"} <= set(limits):
        yield f"{at}.resources.limits", "one job could take the node from others", "Give cpu and memory."
    elif requests != limits:
        yield (
            f"{at}.resources",
            "requests and limits differ, so that its pod is the first to be ended",
            "Set them alike.",
        )


def _secrets(container: Mapping[str, Any], at: str) -> Iterator[Broken]:
    for index, variable in enumerate(container.get("env") or []):
        name = str(variable.get("name", ""))
        if not NAMES.search(name) or PATHS.search(name):
            continue
        if "secretKeyRef" not in (variable.get("valueFrom") or {}):
            yield f"{at}.env.{index}", f"{name} stands in the open", "Give valueFrom.secretKeyRef."


def _mounts(spec: Mapping[str, Any], at: str) -> Iterator[Broken]:
    """A mount without its volume is found by Kubernetes only when the pod is made."""
    volumes = {volume.get("name"): volume for volume in spec.get("volumes") or []}
    for index, container in enumerate(spec.get("containers") or []):
        mounts = container.get("volumeMounts") or []
        for mount in mounts:
            if mount.get("name") not in volumes:
                yield f"{at}.containers.{index}.volumeMounts", f"no volume {mount.get('name')}", "Add it to volumes."
        shm = [volumes.get(mount.get("name"), {}) for mount in mounts if mount.get("mountPath") == "/dev/shm"]  # noqa: S108
        if str(container.get("name", "")).startswith("ray-") and not any(
            (volume.get("emptyDir") or {}).get("medium") == "Memory" for volume in shm
        ):
            yield (
                f"{at}.containers.{index}.volumeMounts",
                "shared memory has 64 MB",
                "Mount an emptyDir of medium Memory.",
            )
