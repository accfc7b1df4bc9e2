"""Brings clusters on Kubernetes up and down, by kubectl and with its output."""

from __future__ import annotations

import shutil
import subprocess

from raysft.cluster.files.ray_up import TOKEN_NAME
from raysft.cluster.state import forget, keep, kept_folder
from raysft.config import Cluster
from raysft.config.cluster import KubernetesSection
from raysft.errors import NotFound, RaysftError
from raysft.events import Listener

CLUSTER_FILE = "raycluster.yaml"
# The claim is not taken down with the cluster: the outputs of jobs are on it.
STAYS = "pvc.yaml"


def up(cluster: Cluster, files: dict[str, str], listener: Listener) -> None:
    """Applies all manifests, the cluster's last. files: as rendered.

    Raises NotFound without kubectl, RaysftError where it fails, NotAllowed where there is no token.
    """
    kubectl = _kubectl()
    section = _section(cluster)
    folder = keep(cluster, files)
    space = ["--namespace", section.namespace]
    if _run([kubectl, "get", "secret", section.token_secret, *space], quiet=True):
        secret = f"--from-file={TOKEN_NAME}={folder / 'secrets' / TOKEN_NAME}"
        _must([kubectl, "create", "secret", "generic", section.token_secret, secret, *space])
    for name in _in_order(files):
        _must([kubectl, "apply", "--filename", str(folder / name)])
    service = f"service/{cluster.config.name}-head-svc"
    listener.note(f"{cluster.config.name} is asked for; its files are in {folder}")
    listener.note(f"its dashboard, through a tunnel: kubectl port-forward {' '.join(space)} {service} 8265")


def down(cluster: Cluster, listener: Listener) -> None:
    """Deletes what `up` applied, but for the claim that the outputs are on. Raises NotFound, RaysftError."""
    folder = kept_folder(cluster)
    kubectl, section = _kubectl(), _section(cluster)
    there = [path.name for path in folder.glob("*.yaml") if path.name not in {STAYS, "cluster.yaml"}]
    for name in reversed(_in_order(dict.fromkeys(there, ""))):
        _must([kubectl, "delete", "--ignore-not-found", "--filename", str(folder / name)])
    gone = ["--ignore-not-found", "--namespace", section.namespace]
    _must([kubectl, "delete", "secret", section.token_secret, *gone])
    forget(cluster)
    listener.note(f"{cluster.config.name} is down; the claim {section.claim} stays, with the outputs of jobs")


def status(cluster: Cluster) -> None:
    """What Kubernetes says of the cluster and its pods. Raises NotFound, RaysftError."""
    _must([_kubectl(), "get", "raycluster,pods", "--namespace", _section(cluster).namespace])


def _section(cluster: Cluster) -> KubernetesSection:
    assert cluster.config.kubernetes is not None
    return cluster.config.kubernetes


def _in_order(files: dict[str, str]) -> list[str]:
    """What the cluster needs comes before it."""
    return sorted((name for name in files if name.endswith(".yaml")), key=lambda name: (name == CLUSTER_FILE, name))


def _kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        raise NotFound("kubectl is not on the PATH", "Install it, or apply what `raysft cluster render` writes.")
    return found


def _must(command: list[str]) -> None:
    if ended := _run(command):
        shown = " ".join(["kubectl", *command[1:3]])
        raise RaysftError(
            f"`{shown}` ended with code {ended}; what it says is above", "Mend that; then the same again."
        )


def _run(command: list[str], quiet: bool = False) -> int:
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, check=False, stdout=output, stderr=output).returncode  # noqa: S603
