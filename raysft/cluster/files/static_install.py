"""The script that installs a cluster on hosts that are there; run again, it changes what is not as it should be."""

from __future__ import annotations

import shlex

from raysft.cluster.files.marks import filled
from raysft.config import Cluster
from raysft.config.cluster import StaticSection


def install_script(cluster: Cluster, section: StaticSection, settings: str, state: str, programs: str) -> str:
    """Text of install.sh. settings, state, programs: folders on the hosts."""
    config, storage = cluster.config, cluster.config.storage
    assert storage is not None
    workers = [host for host in dict.fromkeys(section.workers) if host != section.head]
    ssh = ["ssh", "-o", "BatchMode=yes", *(["-i", section.ssh.key] if section.ssh.key else [])]
    values = {
        "@SOURCE@": cluster.path.name,
        "@TOKEN@": _token(config.token_file, config.name),
        "@SSH@": " ".join(_home(each) for each in ssh),
        "@USER@": _single(section.ssh.user),
        "@HEAD@": _single(section.head),
        "@WORKERS@": " ".join(_single(host) for host in workers),
        "@STORAGE@": shlex.quote(storage),
        "@SETTINGS@": settings,
        "@STATE@": state,
        "@PROGRAMS@": programs,
    }
    return filled(SCRIPT, values)


def _token(named: str | None, name: str) -> str:
    """Of this cluster alone, where commands on jobs look for it (endpoint.py), unless the cluster file names one."""
    if named is not None:
        return _home(named)
    return f'"${{RAYSFT_HOME:-$HOME/.raysft}}/clusters/{name}/token"'


def _home(path: str) -> str:
    """Quoted for a shell, but for the `~` that stands for the home of whoever runs the script."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _single(text: str) -> str:
    """In quotes, whatever it is: a bare word behind `=` looks like a command that was meant to run."""
    return "'" + text.replace("'", "'\\''") + "'"


SCRIPT = r"""#!/bin/bash
# Rendered from @SOURCE@ by `raysft cluster render`. Edit that file, then render again.
#
# Installs the cluster on its hosts, the head first. raysft lies in @PROGRAMS@ on each of them, and its storage is
# mounted. The user of ssh may use sudo there. Run it again after any change: what is as it should be is left alone,
# and Ray is started anew only where something was changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

ssh=(@SSH@)
user=@USER@
head=@HEAD@
workers=(@WORKERS@)
token=@TOKEN@

if [ ! -s "$token" ]; then
  echo "making the token of the cluster: $token"
  (umask 077 && mkdir -p "$(dirname "$token")" && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$token")
fi

# What each host runs, as root. The token arrives in an archive with the files, so that no list of processes has it.
# shellcheck disable=SC2016  # expanded on the hosts
there='
set -euo pipefail
unit=$1 other=$2 storage=$3 id=$4
work=$(mktemp -d)
trap "rm -rf \"$work\"" EXIT
tar -x -C "$work"
if [ ! -x @PROGRAMS@/ray ]; then
  echo "no @PROGRAMS@/ray: install raysft there first (docs/operations.md)" >&2
  exit 3
fi
if [ ! -d "$storage" ]; then
  echo "no folder $storage: mount the storage of the cluster there first" >&2
  exit 3
fi
if ! getent passwd raysft >/dev/null; then
  useradd --system --user-group ${id:+--uid "$id"} --home-dir @STATE@ --shell /usr/sbin/nologin raysft
fi
if [ -n "$id" ] && [ "$(id -u raysft)" != "$id" ]; then
  echo "the user raysft has the id $(id -u raysft) there and $id on the head: give it one (usermod --uid)" >&2
  exit 3
fi
changed=
put() {  # file, where, owner, mode
  if ! cmp -s "$work/$1" "$2"; then
    install -o "$3" -g "$3" -m "$4" "$work/$1" "$2"
    changed=yes
  fi
  chown "$3:$3" "$2"
  chmod "$4" "$2"
}
install -d -m 0755 @SETTINGS@
put auth_token @SETTINGS@/auth_token raysft 0400
put firewall.nft @SETTINGS@/firewall.nft root 0644
put "$unit" "/etc/systemd/system/$unit" root 0644
if [ -e "/etc/systemd/system/$other" ]; then
  systemctl disable --now "$other"
  rm "/etc/systemd/system/$other"
  changed=yes
fi
if [ -n "$changed" ]; then
  systemctl daemon-reload
  systemctl enable "$unit"
  systemctl restart "$unit"
  echo "installed, and started anew"
else
  systemctl enable --now "$unit"
  echo "nothing to change"
fi
'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp ray-head.service ray-worker.service firewall.nft "$work"
(umask 077 && cp "$token" "$work/auth_token")

install_on() {  # host, unit, the unit that it does not run, the id that its user has
  local command
  printf -v command '%q ' sudo bash -c "$there" install "$2" "$3" @STORAGE@ "$4"
  echo "$1: $2"
  tar -c -C "$work" . | "${ssh[@]}" "$user@$1" "$command"
}

install_on "$head" ray-head.service ray-worker.service ""
# What one host writes to the storage belongs to a number, which has to mean the same user on the others.
id=$("${ssh[@]}" "$user@$head" "id -u raysft")
for worker in "${workers[@]}"; do
  install_on "$worker" ray-worker.service ray-head.service "$id"
done
echo "installed; reach it by: ssh -L 8265:127.0.0.1:8265 $user@$head"
"""
