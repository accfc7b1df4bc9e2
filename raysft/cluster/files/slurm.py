"""The batch script of a Slurm cluster: Ray on all nodes of one batch job, raysft on the first, and an end for both.

Slurm gives nodes for some hours. Before they are over the run is asked to save and is queued again; as every command of
ours goes on where it stopped, the job is done after some such rounds, and nobody has to look after it.
"""

from __future__ import annotations

import shlex

from raysft.cluster.files.marks import filled
from raysft.cluster.pools.catalogue import Pool, pools_of
from raysft.config import Cluster
from raysft.config.cluster import SlurmSection
from raysft.config.labels import MARKET, POOL
from raysft.session import ENVIRONMENT

SAVE_S = 300  # seconds before the end of the time limit at which the run is asked to save
LATE_S = 240  # after which one that has not ended is queued again all the same: Slurm would end it for good
WAIT_S = 300  # in which all nodes must have joined; Ray's own 30 s are too short for a cold file system
PORT = 6379


def render(cluster: Cluster) -> dict[str, str]:
    """`job.sbatch`; where there are several pools, `job-NAME.sbatch` for each of them.

    Raises JobFileError where the catalogue and the file do not say enough of a pool.
    """
    pools: tuple[Pool | None, ...] = pools_of(cluster) or (None,)
    single = len(pools) == 1
    names = ["job.sbatch" if single or pool is None else f"job-{pool.name}.sbatch" for pool in pools]
    return {name: _script(cluster, pool, name) for name, pool in zip(names, pools, strict=True)}


def _script(cluster: Cluster, pool: Pool | None, name: str) -> str:
    section, storage = cluster.config.slurm, cluster.config.storage
    assert section is not None and storage is not None
    head = [
        "#!/bin/bash",
        f"# Rendered from {cluster.path.name} by `raysft cluster render`. Edit that file, then render again.",
        "#",
        f"#   sbatch {name} train /path/of/job.yaml",
        "#",
        "# Ray runs on all nodes of the batch job, raysft on the first. Before the time is over the run is stopped and",
        "# queued again; the same command then goes on from its newest checkpoint.",
        *(f"#SBATCH {option}" for option in _options(cluster.config.name, section, pool)),
    ]
    values = {
        "@STORAGE@": shlex.quote(storage),
        "@SETUP@": section.setup or ": # nothing is needed to make raysft known",
        "@EXPORTS@": "\n".join(f"export {key}={shlex.quote(value)}" for key, value in ENVIRONMENT.items()),
        "@WAIT@": str(WAIT_S),
        "@LATE@": str(LATE_S),
        "@PORT@": str(PORT),
        "@START@": " ".join(_start(pool)),
    }
    return "\n".join(head) + "\n" + filled(BODY, values)


def _options(name: str, section: SlurmSection, pool: Pool | None) -> list[str]:
    minutes = max(1, round(section.hours * 60))
    days, rest = divmod(minutes, 24 * 60)
    options = [
        f"--job-name=raysft-{name}",
        f"--nodes={pool.most if pool else 1}",
        "--ntasks-per-node=1",
        "--exclusive",
        "--mem=0",
        f"--time={days}-{rest // 60:02}:{rest % 60:02}:00",
        f"--signal=B:USR1@{SAVE_S}",
        "--requeue",
        "--open-mode=append",
        "--output=%x-%j.log",
    ]
    if pool and pool.gpus:
        options.append(f"--gpus-per-node={pool.gpus}")
    # Quoted, since what follows a space would be an option of its own.
    if section.partition:
        options.append(f"--partition={shlex.quote(section.partition)}")
    if section.account:
        options.append(f"--account={shlex.quote(section.account)}")
    return options


def _start(pool: Pool | None) -> list[str]:
    """Options of `ray start`, the same on all nodes; the token is in the environment."""
    options = ['--num-cpus="$SLURM_CPUS_ON_NODE"']
    if pool is None:
        return options
    labels = f"{POOL}={pool.name},{MARKET}={pool.market}"
    return [*options, f"--num-gpus={pool.gpus}", f"--labels={labels}"]


BODY = r"""
set -eo pipefail

if [ $# -eq 0 ]; then
  echo "raysft: nothing to do; say what, such as: train /path/of/job.yaml" >&2
  exit 2
fi

@SETUP@
set -u
@EXPORTS@

# Seen by all nodes and by nobody else: the token of this Ray, made for this batch job, and whom to ask to stop.
storage=@STORAGE@
folder=$storage/.slurm-$(id -un)/$SLURM_JOB_ID
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token RAYSFT_PID=$folder/pid
export RAYSFT_CODE=$folder/code RAYSFT_END=$folder/end
(umask 077 && mkdir -p "$folder")
if [ ! -O "$folder" ]; then
  echo "raysft: $folder belongs to somebody else" >&2
  exit 4
fi
late=''
trap 'rm -rf "$folder"; [ -z "$late" ] || kill "$late" 2>/dev/null || true' EXIT
rm -f "$RAYSFT_PID" "$RAYSFT_CODE" "$RAYSFT_END"
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")

# A short path: those of Ray's sockets may have 107 bytes.
export RAY_TMPDIR=/tmp/r$SLURM_JOB_ID
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=@WAIT@

# Slurm runs this script on the first node, where Ray's head is to be. RAYSFT_HEAD: its address, where it has several.
if [ "$SLURM_JOB_NUM_NODES" -eq 1 ]; then
  head=127.0.0.1
else
  head=${RAYSFT_HEAD:-$(getent ahostsv4 "$(hostname)" | awk '$1 !~ /^127\./ && !found++ { print $1 }' || true)}
  head=${head:-$(hostname -I | awk '{ print $1 }')}
fi
export RAYSFT_RAY=$head:${RAYSFT_PORT:-@PORT@}

# What each node runs: Ray, and on the head what is asked for. Ray's address is told to that alone. The other nodes stay
# until the head says that it has ended: `ray start --block` of Ray 2.60 does not end when its processes were stopped.
# How raysft ended is written down, since `ray symmetric-run` ends with 0 where it could not start Ray at all.
# shellcheck disable=SC2016  # expanded on the nodes
node='
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
(umask 077 && mkdir -p "$RAY_TMPDIR")
[ -O "$RAY_TMPDIR" ] || { echo "raysft: $RAY_TMPDIR belongs to somebody else" >&2; exit 4; }
export TMPDIR=$RAY_TMPDIR
trap "rm -rf \"$RAY_TMPDIR\"" EXIT
join() {
  ray symmetric-run --address "$RAYSFT_RAY" --min-nodes "$SLURM_JOB_NUM_NODES" @START@ -- \
    bash -c "trap : TERM
      (echo \$BASHPID >\"\$RAYSFT_PID\"; export RAY_ADDRESS=\$RAYSFT_RAY; exec raysft \"\$@\"); code=\$?
      echo \$code >\"\$RAYSFT_CODE\"; exit \$code" raysft "$@"
}
if [ "${SLURM_NODEID:-0}" -eq 0 ]; then
  code=0
  join "$@" || code=$?
  if [ -s "$RAYSFT_CODE" ]; then
    read -r code <"$RAYSFT_CODE"
  else
    echo "raysft: did not begin, or was not seen to end; what Ray says of it is above" >&2
    [ "$code" -ne 0 ] || code=1
  fi
  echo "$code" >"$RAYSFT_END"
  exit "$code"
fi
set -m # so that all that belongs to it is one group
while [ ! -e "$RAYSFT_END" ]; do
  join "$@" &
  ray=$!
  while [ ! -e "$RAYSFT_END" ] && kill -0 "$ray" 2>/dev/null; do sleep 2; done
  if [ -e "$RAYSFT_END" ]; then kill -TERM -- "-$ray"; else sleep 5; fi
  wait "$ray"
done
ray stop >/dev/null 2>&1
exit 0
'

# The signal goes to raysft and not to the step: Ray has to live while the run is saved.
again='' asked=''
# shellcheck disable=SC2329  # called by the traps
save() {
  asked=yes again=$1
  echo "raysft: asked to stop; the run ends with what it has saved"
  if [ -s "$RAYSFT_PID" ]; then kill -TERM "$(cat "$RAYSFT_PID")" || true; else kill -TERM "$step" || true; fi
}
# shellcheck disable=SC2329  # called by a trap, too
later() {
  until [ "$SECONDS" -ge "$1" ]; do sleep 1; done
  echo "raysft: has not saved in @LATE@ s; queued again, to go on from the checkpoint before"
  scontrol requeue "$SLURM_JOB_ID"
}
srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --cpu-bind=none --kill-on-bad-exit=1 \
  bash -c "$node" raysft "$@" &
step=$!
trap 'save yes; later $((SECONDS + @LATE@)) & late=$!' USR1
trap 'save ""' TERM

# A signal ends `wait`, but not the step.
while :; do
  asked='' code=0
  wait "$step" || code=$?
  [ -n "$asked" ] || break
done

# Where nodes were ended by force, that is what srun tells; the head tells how raysft ended.
if [ -s "$RAYSFT_END" ]; then read -r code <"$RAYSFT_END"; fi

if [ -n "$again" ] && [ "$code" -gt 128 ]; then
  echo "raysft: queued again; the same command goes on from the newest checkpoint"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
