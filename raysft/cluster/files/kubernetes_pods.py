"""The pods of a Ray cluster on Kubernetes: what the head, the workers and the submitter have and may.

All of them run one image without root, on a root file system that cannot be written, and with no key to the API of
Kubernetes. Only the container of the autoscaler, where no code of jobs runs, has the one that KubeRay makes for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysft.capacity import POOLS, pools_text
from raysft.cluster.pools.catalogue import Pool, as_pods, pod_size, pools_of
from raysft.config import Cluster
from raysft.config.cluster import KubernetesSection
from raysft.config.labels import MARKET, POOL
from raysft.errors import JobFileError, Problem
from raysft.session import ENVIRONMENT

CLUSTER, ROLE = "raysft.io/cluster", "raysft.io/role"
GPU = "nvidia.com/gpu"
USER = 1000  # of the image: cluster/docker/Dockerfile
HOME = "/home/raysft"
API = "/var/run/secrets/kubernetes.io/serviceaccount"
# Seconds from SIGTERM to SIGKILL, of pods and of jobs that are stopped: some GB are saved on a network disk in them.
GRACE_S = 120
# Of the head: it holds the dashboard, the autoscaler's view and the drivers of jobs, which read and audit corpora.
HEAD_CPUS, HEAD_GIB = 4, 16
SHM_SHARE = 0.4  # of the memory: Ray's object store takes 30%, loaders of data and NCCL what is above

# Runs before a worker's container is ended: Ray is told, training saves and moves, and the work here comes to its end.
DRAIN = f"""\
busy() {{
  for file in /proc/[0-9]*/cmdline; do
    case $(tr '\\0' ' ' <"$file" 2>/dev/null) in
      ray::IDLE* | ray::DashboardAgent* | ray::RuntimeEnvAgent*) ;;
      ray::*) return 0 ;;
    esac
  done
  return 1
}}
node=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | sed -n 's/^--node_id=//p' | sort -u | sed -n 1p)
if [ -z "$node" ]; then exit 0; fi
ray drain-node --address "$RAY_ADDRESS" --node-id "$node" --reason DRAIN_NODE_REASON_PREEMPTION \\
  --reason-message "its pod is being ended" --deadline-remaining-seconds {GRACE_S - 15} || true
until [ "$SECONDS" -ge {GRACE_S - 10} ] || ! busy; do sleep 1; done
"""


def head_template(cluster: Cluster, growing: Sequence[Pool]) -> dict[str, Any]:
    """Pod template of the head. growing: pools of which an autoscaler beside Ray brings nodes; none: there is none.

    Raises JobFileError as `pod_size` does.
    """
    size = resources(HEAD_CPUS, HEAD_GIB)
    container = _container(cluster, "ray-head", size)
    container["ports"] = [{"name": name, "containerPort": port} for name, port in PORTS.items()]
    container["env"] += [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(GRACE_S)}]
    container["volumeMounts"] += [{"name": "ray-logs", "mountPath": "/tmp/ray"}]  # noqa: S108  # as KubeRay has it
    spec = _pod(cluster, container, HEAD_GIB)
    spec["volumes"] += [{"name": "ray-logs", "emptyDir": {}}]
    if growing:
        container["env"] += [{"name": POOLS, "value": pools_text(as_pods(cluster, pool) for pool in growing)}]
        # KubeRay makes an account for this pod and gives it the right to scale. Its token goes to one container alone.
        spec["volumes"] += [API_ACCESS]
    else:
        spec["serviceAccountName"] = account(cluster)
    if away := _away_from_spot(cluster):
        spec["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": away}]}
            }
        }
    return {"metadata": _metadata(cluster, "head"), "spec": spec}


def worker_template(cluster: Cluster, pool: Pool) -> dict[str, Any]:
    """Pod template of the nodes of a pool.

    Raises JobFileError where the pool's memory is not known: without a limit one job could end another's pod.
    """
    cpus, gib = pod_size(cluster, pool)
    container = _container(cluster, "ray-worker", resources(cpus, gib, pool.gpus))
    container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/bash", "-c", DRAIN]}}}
    spec = _pod(cluster, container, gib)
    spec["serviceAccountName"] = account(cluster)
    if labels := _section(cluster).node_labels.get(pool.name):
        spec["nodeSelector"] = dict(labels)
    if found := [_tolerated(taint) for taint in taints(cluster, pool)]:
        spec["tolerations"] = found
    metadata = _metadata(cluster, "worker")
    metadata["labels"] |= {POOL: pool.name, MARKET: pool.market}
    return {"metadata": metadata, "spec": spec}


def submitter_template(cluster: Cluster) -> dict[str, Any]:
    """Pod template of what hands a RayJob's command to the head and follows it."""
    container = _container(cluster, "submitter", resources(1, 1))
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] in SCRATCH]
    spec = _pod(cluster, container, 1) | {
        "restartPolicy": "Never",
        "serviceAccountName": account(cluster),
    }
    spec["volumes"] = [{"name": name, "emptyDir": {}} for name in SCRATCH]
    return {"metadata": _metadata(cluster, "submitter"), "spec": spec}


def autoscaler_options(cluster: Cluster) -> dict[str, Any]:
    """What KubeRay is told of the autoscaler's container, in the head's pod."""
    return {
        "version": "v2",
        "upscalingMode": "Default",
        "idleTimeoutSeconds": max(1, round(cluster.config.idle_minutes * 60)),
        "imagePullPolicy": "IfNotPresent",
        "resources": resources(1, 1),
        "securityContext": dict(CONTAINER_SECURITY),
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "ray-logs", "mountPath": "/tmp/ray"},  # noqa: S108
            {"name": "api-access", "mountPath": API, "readOnly": True},
        ],
    }


def taints(cluster: Cluster, pool: Pool) -> list[dict[str, str]]:
    """Of the nodes of a pool, as Kubernetes writes them. Raises JobFileError where `spot_taint` is no KEY=VALUE."""
    found = [{"key": GPU, "value": "present", "effect": "NoSchedule"}] if pool.gpus else []
    taint = _section(cluster).spot_taint
    if pool.spot and taint:
        key, equals, value = taint.partition("=")
        if not (key and equals and value):
            text = f"must be KEY=VALUE, such as cloud.google.com/gke-spot=true; found {taint!r}"
            where = cluster.where("kubernetes", "spot_taint")
            raise JobFileError([Problem(where, "kubernetes.spot_taint", text)])
        found.append({"key": key, "value": value, "effect": "NoSchedule"})
    return found


def _tolerated(taint: dict[str, str]) -> dict[str, str]:
    """Of GPU nodes whatever the value: clouds write different ones."""
    if taint["key"] == GPU:
        return {"key": GPU, "operator": "Exists", "effect": taint["effect"]}
    return {"key": taint["key"], "operator": "Equal", "value": taint["value"], "effect": taint["effect"]}


def resources(cpus: int, gib: float, gpus: int = 0) -> dict[str, Any]:
    """The same as request and as limit, so that nothing of a pod is lent to its neighbours."""
    memory = f"{int(gib)}Gi" if gib == int(gib) else f"{int(gib * 1024)}Mi"
    amount: dict[str, Any] = {"cpu": str(cpus), "memory": memory}
    if gpus:
        amount[GPU] = str(gpus)
    return {"requests": dict(amount), "limits": dict(amount)}


PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
SCRATCH = {"tmp": "/tmp", "home": HOME}  # noqa: S108  # emptyDirs: all else of the root cannot be written
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
API_ACCESS = {
    "name": "api-access",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    },
}


def _section(cluster: Cluster) -> KubernetesSection:
    section = cluster.config.kubernetes
    assert section is not None
    return section


def account(cluster: Cluster) -> str:
    """Service account of all pods but an autoscaled head; KubeRay calls that of the head as the cluster is called."""
    return _section(cluster).service_account or f"{cluster.config.name}-pods"


def token_secret(cluster: Cluster) -> str:
    """Secret with the token. Of this cluster alone unless it is named, since it goes when the cluster goes."""
    return _section(cluster).token_secret or f"{cluster.config.name}-token"


def _metadata(cluster: Cluster, role: str) -> dict[str, Any]:
    return {
        "labels": {"app.kubernetes.io/part-of": "raysft", CLUSTER: cluster.config.name, ROLE: role},
        # A node that runs one of these is not emptied to save money.
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    }


def _pod(cluster: Cluster, container: dict[str, Any], gib: float) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": dict(POD_SECURITY),
        "containers": [container],
        "volumes": [
            {"name": "storage", "persistentVolumeClaim": {"claimName": _section(cluster).claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, int(gib * SHM_SHARE))}Gi"}},
            *({"name": name, "emptyDir": {}} for name in SCRATCH),
        ],
    }


def _container(cluster: Cluster, name: str, size: dict[str, Any]) -> dict[str, Any]:
    config = cluster.config
    environment = {**ENVIRONMENT, "HOME": HOME, "HF_HOME": f"{config.storage}/.cache/huggingface"}
    return {
        "name": name,
        "image": config.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": size,
        "securityContext": dict(CONTAINER_SECURITY),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "volumeMounts": [
            {"name": "storage", "mountPath": config.storage},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            *({"name": key, "mountPath": path} for key, path in SCRATCH.items()),
        ],
    }


def _away_from_spot(cluster: Cluster) -> list[dict[str, Any]]:
    """What keeps the head off spot nodes: labels that nodes of spot pools have, and no others."""
    labels, pools = _section(cluster).node_labels, pools_of(cluster)
    lasting = {item for pool in pools if not pool.spot for item in labels.get(pool.name, {}).items()}
    taken = {item for pool in pools if pool.spot for item in labels.get(pool.name, {}).items()}
    keys = sorted({key for key, _ in taken - lasting})
    return [
        {"key": key, "operator": "NotIn", "values": sorted(value for name, value in taken - lasting if name == key)}
        for key in keys
    ]
