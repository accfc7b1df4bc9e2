#!/bin/bash
# Rendered from cluster.yaml by `raysft cluster render`. Edit that file, then render again.
#
# Installs the cluster on its hosts, the head first. raysft lies in /opt/raysft/bin on each of them, and its storage is
# mounted. The user of ssh may use sudo there. Run it again after any change: what is as it should be is left alone,
# and Ray is started anew only where something was changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

ssh=(ssh -o BatchMode=yes)
user='admin'
head='10.20.0.10'
workers=('10.20.0.11' '10.20.0.12')
token="${RAYSFT_HOME:-$HOME/.raysft}/clusters/lab/token"

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
if [ ! -x /opt/raysft/bin/ray ]; then
  echo "no /opt/raysft/bin/ray: install raysft there first (docs/operations.md)" >&2
  exit 3
fi
if [ ! -d "$storage" ]; then
  echo "no folder $storage: mount the storage of the cluster there first" >&2
  exit 3
fi
if ! getent passwd raysft >/dev/null; then
  useradd --system --user-group ${id:+--uid "$id"} --home-dir /var/lib/raysft --shell /usr/sbin/nologin raysft
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
install -d -m 0755 /etc/raysft
put auth_token /etc/raysft/auth_token raysft 0400
put firewall.nft /etc/raysft/firewall.nft root 0644
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
  printf -v command '%q ' sudo bash -c "$there" install "$2" "$3" /srv/raysft "$4"
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
