"""Rules for the file that `ray up` reads, in all clouds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raysft.cluster.files.ray_up import LAUNCH_LIMITS, LAUNCHES
from raysft.cluster.rules.finding import Finding
from raysft.cluster.rules.rendered import RAY, Rendered
from raysft.config.labels import MARKET, POOL

TYPES = "available_node_types"
LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
COMMON = {
    *("type", "module", "use_internal_ips", "cache_stopped_nodes", "no_capacity_minutes", "record", "pools"),
    "disable_launch_config_check",
}
PROVIDER_KEYS = {
    "aws": COMMON | {"region"},
    "gcp": COMMON | {"project_id", "region", "availability_zone"},
    "azure": COMMON | {"location", "resource_group", "subscription_id", "unique_id", "msi", "nsg", "subnet"},
}
PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|:(?!latest$)[A-Za-z0-9_][A-Za-z0-9._-]*$")


def rays_schema(rendered: Rendered) -> Iterator[Finding]:
    """Ray's own schema, read without loading Ray."""
    from jsonschema import Draft7Validator

    for error in Draft7Validator(_schema()).iter_errors(rendered.ray):
        yield Finding(
            RAY, error.json_path.removeprefix("$."), error.message, "Ray's schema does not allow it; mend it."
        )


def _schema() -> Any:
    spec = find_spec("ray")
    assert spec is not None and spec.submodule_search_locations is not None
    file = Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json"
    return json.loads(file.read_text(encoding="utf-8"))


def known_provider_keys(rendered: Rendered) -> Iterator[Finding]:
    """Ray's schema takes any key of the section provider, also one that is misspelt."""
    known = PROVIDER_KEYS[rendered.cluster.config.kind]
    for key in rendered.ray["provider"]:
        if key not in known:
            yield Finding(RAY, f"provider.{key}", "no such key", f"Known are {', '.join(sorted(known))}.")


def no_public_address(rendered: Rendered) -> Iterator[Finding]:
    """Nodes are reached inside their network."""
    if rendered.ray["provider"].get("use_internal_ips") is not True:
        yield Finding(RAY, "provider.use_internal_ips", "nodes get addresses that the world sees", "Set it to true.")


def head_works_not(rendered: Rendered) -> Iterator[Finding]:
    """The head keeps the cluster together: a job on it could take its memory, and the whole cluster with it."""
    key = f"{TYPES}.{rendered.ray['head_node_type']}"
    if rendered.head["resources"].get("CPU") != 0 or rendered.head["resources"].get("GPU"):
        yield Finding(RAY, f"{key}.resources", "jobs could run on the head", "Set CPU to 0, and no GPU.")
    if rendered.head.get("max_workers") != 0:
        yield Finding(RAY, f"{key}.max_workers", "workers of the head's kind", "Set it to 0.")


def pools_as_told(rendered: Rendered) -> Iterator[Finding]:
    """Each pool has a node type, with labels that say what it is."""
    pools = {pool.name: pool for pool in rendered.cluster.config.pools}
    for name, kind in rendered.workers.items():
        labels, key = kind.get("labels", {}), f"{TYPES}.{name}.labels"
        market = pools[name].market if name in pools else None
        for label, right in ((POOL, name), (MARKET, market)):
            if labels.get(label) != right:
                found = labels.get(label)
                yield Finding(RAY, f"{key}.{label}", f"is {found!r}", f"Jobs ask for it by name: set it to {right!r}.")
    for name in pools.keys() - rendered.workers.keys():
        yield Finding(RAY, f"{TYPES}.{name}", "a pool of the cluster file is missing", "Render the file again.")


def labels_that_ray_takes(rendered: Rendered) -> Iterator[Finding]:
    """Ray refuses a node whose labels have other letters, and does so only when the node starts."""
    for name, kind in rendered.ray[TYPES].items():
        for label, value in kind.get("labels", {}).items():
            if not (LABEL_KEY.fullmatch(label) and LABEL_VALUE.fullmatch(str(value))):
                fix = "Up to 63 letters, digits, dashes, dots and underscores, with a letter or digit at both ends."
                yield Finding(RAY, f"{TYPES}.{name}.labels.{label}", f"no label: {value!r}", fix)


def enough_nodes_in_all(rendered: Rendered) -> Iterator[Finding]:
    """max_workers holds for all pools together."""
    most = sum(kind["max_workers"] for kind in rendered.workers.values())
    if rendered.ray.get("max_workers", 0) < most:
        yield Finding(RAY, "max_workers", f"the pools could have {most} nodes together", f"Set it to {most}.")


def pinned_image(rendered: Rendered) -> Iterator[Finding]:
    """The same image tomorrow."""
    docker = rendered.ray.get("docker", {})
    for key in ("image", "head_image", "worker_image"):
        if key in docker and not PINNED.search(docker[key]):
            yield Finding(RAY, f"docker.{key}", f"{docker[key]} is not pinned", "Give a version or a digest.")
    if "image" not in docker:
        yield Finding(RAY, "docker.image", "no image", "Nodes must have raysft and Ray of the same version.")


def token_asked_for(rendered: Rendered) -> Iterator[Finding]:
    """Whoever reaches Ray's ports can run code unless it asks for a token."""
    options = rendered.ray.get("docker", {}).get("run_options", [])
    if "--env=RAY_AUTH_MODE=token" not in options:
        yield Finding(RAY, "docker.run_options", "no token is asked for", "Add --env=RAY_AUTH_MODE=token.")
    if not any(option.startswith("--env=RAY_AUTH_TOKEN_PATH=") for option in options):
        yield Finding(RAY, "docker.run_options", "no token file", "Add --env=RAY_AUTH_TOKEN_PATH=FILE.")


def dashboard_on_loopback(rendered: Rendered) -> Iterator[Finding]:
    """The dashboard runs jobs; people reach it through a tunnel."""
    starts = [command for command in rendered.ray.get("head_start_ray_commands", []) if "ray start" in command]
    if not all("--dashboard-host=127.0.0.1" in command for command in starts) or not starts:
        yield Finding(RAY, "head_start_ray_commands", "the dashboard is open", "Add --dashboard-host=127.0.0.1.")


def jobs_may_save(rendered: Rendered) -> Iterator[Finding]:
    """Ray gives a job that is stopped 3 s unless the head was told otherwise."""
    if not any("RAY_JOB_STOP_WAIT_TIME_S=" in command for command in rendered.ray.get("head_start_ray_commands", [])):
        fix = "Export RAY_JOB_STOP_WAIT_TIME_S before `ray start --head`."
        yield Finding(RAY, "head_start_ray_commands", "a job that is stopped has no time to save", fix)


def launches_at_once(rendered: Rendered) -> Iterator[Finding]:
    """Ray splits what a large job asks for, and each part may go on to another pool for itself."""
    started = "\n".join(rendered.ray.get("head_start_ray_commands", []))
    for limit in LAUNCH_LIMITS:
        found = re.search(rf"\b{limit}=(\d+)", started)
        if not found or int(found[1]) < LAUNCHES:
            fix = f"Export {limit}={LAUNCHES} before `ray start --head`."
            yield Finding(RAY, "head_start_ray_commands", "many nodes are asked for in parts, and may be too many", fix)


RULES: tuple[Callable[[Rendered], Iterator[Finding]], ...] = (
    rays_schema,
    known_provider_keys,
    no_public_address,
    head_works_not,
    pools_as_told,
    labels_that_ray_takes,
    enough_nodes_in_all,
    pinned_image,
    token_asked_for,
    dashboard_on_loopback,
    jobs_may_save,
    launches_at_once,
)
