"""Hosts that are there: a systemd unit for the head and one for workers, a firewall, and a script that installs them.

raysft itself lies in /opt/raysft on every host. Ray runs as a user of its own that may write the storage and its own
folder, and starts only behind the firewall, which lets the hosts of the cluster reach each other and nobody else.
"""

from __future__ import annotations

import ipaddress
import shlex

from raysft.cluster.files.marks import filled
from raysft.cluster.files.static_install import install_script
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import StaticSection
from raysft.config.labels import MARKET, POOL
from raysft.errors import JobFileError, Problem
from raysft.session import ENVIRONMENT

PROGRAMS = "/opt/raysft/bin"
STATE = "/var/lib/raysft"  # short, since Ray's sockets lie below it, whose paths may have 107 bytes
SETTINGS = "/etc/raysft"
PORT_GCS, PORT_DASHBOARD = 6379, 8265
STOP_WAIT_S = 120  # seconds that a job which is stopped has to save


def render(cluster: Cluster) -> dict[str, str]:
    """`ray-head.service`, `ray-worker.service`, `firewall.nft` and `install.sh`.

    Raises JobFileError where several pools are given, since nothing says which host is in which.
    """
    section, pool = _section(cluster), _pool(cluster)
    return {
        "ray-head.service": _head(cluster, section, pool),
        "ray-worker.service": _worker(cluster, section, pool),
        "firewall.nft": _firewall(cluster, hosts_of(section)),
        "install.sh": install_script(cluster, section, SETTINGS, STATE, PROGRAMS),
    }


def hosts_of(section: StaticSection) -> list[str]:
    """All hosts, the head first, each once."""
    return list(dict.fromkeys([section.head, *section.workers]))


def _section(cluster: Cluster) -> StaticSection:
    section = cluster.config.static
    assert section is not None
    problems = []
    for index, host in enumerate((section.head, *section.workers)):
        if not _is_host(host):
            key = "static.head" if index == 0 else f"static.workers.{index - 1}"
            text = f"must be a host name or an address; found {host!r}"
            problems.append(Problem(cluster.where(*key.split(".")), key, text))
    if problems:
        raise JobFileError(problems)
    return section


def _is_host(host: str) -> bool:
    if ":" in host:  # `fe80::1%eth0` means another host on every host, and what follows the % may be anything
        return _address(host) is not None and "%" not in host
    return all(
        part and part.replace("-", "").isalnum() and part.isascii() and part[0] != "-" for part in host.split(".")
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _pool(cluster: Cluster) -> Pool | None:
    pools = pools_of(cluster)
    if len(pools) > 1:
        text = "one at most, since nothing says which host is in which pool; give each kind of host a cluster file"
        raise JobFileError([Problem(cluster.where("pools"), "pools", text)])
    return pools[0] if pools else None


def _head(cluster: Cluster, section: StaticSection, pool: Pool | None) -> str:
    """Where there are workers the head runs no work of jobs, unless it is named among them."""
    works = not section.workers or section.head in section.workers
    options = [
        "--head",
        f"--port={PORT_GCS}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={PORT_DASHBOARD}",
        *([] if works else ["--num-cpus=0", "--num-gpus=0"]),
        *([f"--node-ip-address={section.head}"] if _address(section.head) else []),
    ]
    return _unit(cluster, "Ray head", options + (_labels(pool) if works else []))


def _worker(cluster: Cluster, section: StaticSection, pool: Pool | None) -> str:
    head = f"[{section.head}]" if ":" in section.head else section.head
    return _unit(cluster, "Ray worker", [f"--address={head}:{PORT_GCS}", *_labels(pool)])


def _labels(pool: Pool | None) -> list[str]:
    if pool is None:
        return []
    return [f"--labels={POOL}={pool.name},{MARKET}={pool.market}"]


def _unit(cluster: Cluster, what: str, options: list[str]) -> str:
    storage = cluster.config.storage
    assert storage is not None
    variables = {
        **ENVIRONMENT,
        "HOME": STATE,
        "HF_HOME": f"{storage}/.cache/huggingface",
        "PATH": f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin",
        "RAY_TMPDIR": STATE,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{SETTINGS}/auth_token",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
    }
    values = {
        "@SOURCE@": cluster.path.name,
        "@WHAT@": f"{what} of the cluster {cluster.config.name}",
        "@STORAGE@": _quoted(storage),
        "@ENVIRONMENT@": "\n".join(f"Environment={_quoted(f'{key}={value}')}" for key, value in variables.items()),
        "@START@": shlex.join([f"{PROGRAMS}/ray", "start", "--block", *options]),
        "@SETTINGS@": SETTINGS,
        "@STOP@": str(STOP_WAIT_S),
    }
    return filled(UNIT, values)


def _quoted(text: str) -> str:
    """As systemd reads it: `%` begins one of its own names."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if set(escaped) & set(" '\"\\\t") else escaped


def _firewall(cluster: Cluster, hosts: list[str]) -> str:
    sixth = [host for host in hosts if ":" in host]
    fourth = [host for host in hosts if ":" not in host]
    values = {
        "@SOURCE@": cluster.path.name,
        "@HOSTS4@": _elements(fourth),
        "@HOSTS6@": _elements(sixth),
    }
    return filled(FIREWALL, values)


def _elements(hosts: list[str]) -> str:
    return f"\n    elements = {{ {', '.join(hosts)} }}" if hosts else ""


UNIT = """\
# Rendered from @SOURCE@ by `raysft cluster render`. Edit that file, then render again.
[Unit]
Description=@WHAT@
Wants=network-online.target
After=network-online.target
RequiresMountsFor=@STORAGE@
# A head that is gone for an hour finds its workers still trying.
StartLimitIntervalSec=0

[Service]
User=raysft
Group=raysft
StateDirectory=raysft
StateDirectoryMode=0750
WorkingDirectory=/var/lib/raysft
@ENVIRONMENT@
# Ray never starts without its firewall: some of its ports ask for no token.
ExecStartPre=+/usr/sbin/nft -f @SETTINGS@/firewall.nft
ExecStart=@START@
Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec=@STOP@
LimitNOFILE=65536
LimitMEMLOCK=infinity
OOMPolicy=continue
UMask=0027

# What code of jobs may: write the storage and its own folder. GPUs are devices, so that those stay in sight.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ReadWritePaths=@STORAGE@
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""

FIREWALL = """\
#!/usr/sbin/nft -f
# Rendered from @SOURCE@ by `raysft cluster render`. Edit that file, then render again.
# Ray listens at ports of its own choice above 1023: there the hosts of the cluster reach each other, and nobody else.
# Ports below, such as that of ssh, are left to the rules of the host.
table inet raysft
delete table inet raysft
table inet raysft {
  set hosts4 {
    type ipv4_addr@HOSTS4@
  }
  set hosts6 {
    type ipv6_addr@HOSTS6@
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iif "lo" accept
    ct state established,related accept
    ip saddr @hosts4 accept
    ip6 saddr @hosts6 accept
    tcp dport 1024-65535 drop
    udp dport 1024-65535 drop
  }
}
"""
