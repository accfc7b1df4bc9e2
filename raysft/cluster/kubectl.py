"""Brings clusters on Kubernetes up and down, by kubectl and with its output."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from shlex import join

from raysft.cluster.files.kubernetes_pods import token_secret
from raysft.cluster.files.ray_up import TOKEN_NAME
from raysft.cluster.named import state_folder
from raysft.cluster.state import alone, forget, keep, kept_folder, known_token, refuse_other
from raysft.config import Cluster
from raysft.config.cluster import KubernetesSection
from raysft.errors import NotAllowed, NotFound, RaysftError
from raysft.events import Listener

CLUSTER_FILE = "raycluster.yaml"
# The claim is not taken down with the cluster: the outputs of jobs are on it.
STAYS = "pvc.yaml"
CONTEXT = "context"  # file with the name of kubectl's context by which the cluster was brought up
STDERR = 2


def up(cluster: Cluster, files: dict[str, str], listener: Listener) -> None:
    """Applies all manifests, the cluster's last. files: as rendered.

    Raises NotFound without kubectl, RaysftError where it fails, NotAllowed where the token is not the cluster's, or
    where a cluster of this name was brought up elsewhere.
    """
    kubectl, space = _kubectl(), _space(cluster)
    with alone(cluster.config.name):
        refuse_other(cluster)
        name = _own_context(cluster, kubectl)
        context = ["--context", name] if name else []
        there = _token_there(cluster, kubectl, context)
        folder = keep(cluster, files, there, {CONTEXT: name} if name else {})
        if there is None:
            secret = f"--from-file={TOKEN_NAME}={folder / 'secrets' / TOKEN_NAME}"
            _must([kubectl, "create", "secret", "generic", token_secret(cluster), secret, *space, *context])
        for file in _in_order(files):
            _must([kubectl, "apply", "--filename", str(folder / file), *context])
    service = f"service/{cluster.config.name}-head-svc"
    listener.note(f"{cluster.config.name} is asked for; its files are in {folder}")
    tunnel = join(["kubectl", "port-forward", *space, *context, service, "8265"])
    listener.note(f"its dashboard, through a tunnel: {tunnel}")


def _own_context(cluster: Cluster, kubectl: str) -> str:
    """The name of kubectl's context, by which the cluster is reached; "" where there is none, as within a pod.

    Raises NotAllowed where it was brought up by another one: that would be forgotten, and go on.
    """
    answer = subprocess.run([kubectl, "config", "current-context"], check=False, capture_output=True)  # noqa: S603
    current = "" if answer.returncode else answer.stdout.decode(errors="replace").strip()
    kept = _kept_context(cluster)
    if kept and current and kept != current:
        name = cluster.config.name
        raise NotAllowed(
            f"{name} was brought up by kubectl's context {kept}, which is {current} by now",
            f"`{join(['kubectl', 'config', 'use-context', kept])}`; or first `raysft cluster down {name}`.",
        )
    return kept or current


def _kept_context(cluster: Cluster) -> str:
    file = state_folder(cluster.config.name) / CONTEXT
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _token_there(cluster: Cluster, kubectl: str, context: Sequence[str]) -> str | None:
    """The token that pods ask for, whoever made it; None where there is no secret yet.

    Raises RaysftError where Kubernetes does not tell, NotAllowed where the secret holds none, or the file that is named
    holds another one.
    """
    name, where = token_secret(cluster), [*_space(cluster), *context]
    command = [kubectl, "get", "secret", name, "--ignore-not-found", "--output=json", *where]
    answer = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    if answer.returncode:
        said = answer.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise RaysftError(f"`kubectl get secret {name}` ended with code {answer.returncode}: {said[-1]}", "Mend that.")
    if not answer.stdout.strip():
        return None
    delete = join(["kubectl", "delete", "secret", name, *where])
    anew = f"`{delete}` makes room for another one, which its pods have to read."
    try:
        token = base64.b64decode(json.loads(answer.stdout)["data"][TOKEN_NAME]).decode("ascii").strip()
    except (ValueError, KeyError, TypeError):
        token = ""
    if not token:
        raise NotAllowed(f"the secret {name} is there, and has no token under {TOKEN_NAME}", anew)
    if cluster.config.token_file is not None and known_token(cluster) != token:
        raise NotAllowed(
            f"{cluster.where('token_file')}: token_file: {cluster.config.token_file} has another token than the secret "
            f"{name}, which the cluster asks for",
            f"Leave the key out: the secret is read then. {anew}",
        )
    return token


def down(cluster: Cluster, listener: Listener) -> None:
    """Deletes what `up` applied, where it applied it, but for the claim that the outputs are on.

    Raises NotFound, RaysftError.
    """
    folder = kept_folder(cluster)
    kubectl, section, where = _kubectl(), _section(cluster), _where(cluster)
    with alone(cluster.config.name):
        there = [path.name for path in folder.glob("*.yaml") if path.name not in {STAYS, "cluster.yaml"}]
        for name in reversed(_in_order(dict.fromkeys(there, ""))):
            _must([kubectl, "delete", "--ignore-not-found", "--filename", str(folder / name), *where[2:]])
        _must([kubectl, "delete", "secret", token_secret(cluster), "--ignore-not-found", *where])
        forget(cluster)
    listener.note(f"{cluster.config.name} is down; the claim {section.claim} stays, with the outputs of jobs")


def status(cluster: Cluster) -> str:
    """What Kubernetes says of the cluster and its pods. Raises NotFound, RaysftError."""
    return ask(cluster, "get", "raycluster,pods")


def ask(cluster: Cluster, *words: str) -> str:
    """What kubectl says of the cluster's namespace. Raises NotFound, RaysftError."""
    command = [_kubectl(), *words, *_where(cluster)]
    answer = subprocess.run(command, check=False, stdout=subprocess.PIPE)  # noqa: S603
    if answer.returncode:
        raise _failed(command, answer.returncode)
    return answer.stdout.decode("utf-8", errors="replace")


def _where(cluster: Cluster) -> list[str]:
    """Namespace and context by which it was brought up, whatever kubectl's own are by now."""
    kept = _kept_context(cluster)
    return [*_space(cluster), *(["--context", kept] if kept else [])]


def _space(cluster: Cluster) -> list[str]:
    return ["--namespace", _section(cluster).namespace]


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
    """With what it says on stderr, since it is no answer."""
    if ended := subprocess.run(command, check=False, stdout=STDERR).returncode:  # noqa: S603
        raise _failed(command, ended)


def _failed(command: list[str], code: int) -> RaysftError:
    shown = " ".join(["kubectl", *command[1:3]])
    return RaysftError(f"`{shown}` ended with code {code}; what it says is above", "Mend that; then the same again.")
