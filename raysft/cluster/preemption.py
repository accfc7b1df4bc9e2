"""The watcher beside a spot node: turns the cloud's notice into a drain of the node in Ray, so that training saves.

    python -m raysft.cluster.preemption --cloud aws

Ray 2.60 asks no cloud for notices. A drained node gets no new work, and Ray Train tells the loop that it will be lost.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from raysft.cluster.notices import CLOUDS, LINK_LOCAL, Metadata, Notice, Unanswered
from raysft.errors import NotFound, RaysftError, UsageError

MODULE = "raysft.cluster.preemption"
EVERY_S = 5.0
AGAIN_S = 1.0  # between tries to reach the head
ANSWER_S = 10
PATIENCE_S = 60.0  # after which a node of Ray gives up on its head too
ALIVE = 0  # GcsNodeInfo.ALIVE
UNTOLD_S = 120.0  # taken for the time that is left where the cloud does not say
REBALANCE_S = 600.0  # a node that is likelier to go is given up after this, if it is given up at all

Drain = Callable[[str, float], None]  # takes why, and until when (seconds since 1970)


def main(arguments: Sequence[str] | None = None) -> int:
    """Watches until the node is drained. The exit code: 0 then, else that of the error."""
    options = _options(arguments)
    try:
        if options.pid_file is not None:
            take_over(options.pid_file)
        drain = _with_patience(lambda: _drainer(options.address, options.node_id))
        cloud = CLOUDS[options.cloud](Metadata(options.metadata_url.rstrip("/")))
        notice = wait_for_notice(cloud.notice, options.every, options.rebalance)
        tell_ray(drain, notice)
    except RaysftError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m raysft.cluster.preemption",
        description="Drains this node in Ray when its cloud says that it will take the machine away.",
    )
    parser.add_argument("--cloud", required=True, choices=sorted(CLOUDS))
    parser.add_argument("--metadata-url", default=LINK_LOCAL, help="of the metadata service (default: %(default)s)")
    parser.add_argument(
        "--address", help="HOST:PORT of Ray's head (default: RAY_ADDRESS, else the Ray on this machine)"
    )
    parser.add_argument("--node-id", help="of the node in Ray, in hex (default: the one on this machine)")
    parser.add_argument("--pid-file", type=Path, help="a watcher that this file names is ended, and it names this one")
    parser.add_argument("--every", type=_positive, default=EVERY_S, help="seconds between questions (%(default)g)")
    parser.add_argument(
        "--rebalance",
        choices=("tell", "drain"),
        default="tell",
        help="what to do when AWS says that a spot instance is likelier to be taken: say so, or give the node up "
        f"{REBALANCE_S / 60:g} minutes later (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"seconds, more than 0 and at most 3600; found {text}")
    return value


def take_over(pid_file: Path) -> None:
    """Ends the watcher of an earlier start of Ray, which would drain a node that is gone; then names this process.

    A file that cannot be written is told, and no reason to leave the node without its watcher.
    """
    import psutil

    with suppress(OSError, ValueError, psutil.Error):
        old = psutil.Process(int(pid_file.read_text(encoding="utf-8")))
        if old.pid != os.getpid() and MODULE in old.cmdline():  # else another process has its number now
            old.terminate()
            old.wait(ANSWER_S)
    try:
        pid_file.write_text(str(os.getpid()), encoding="utf-8")
    except OSError as error:
        _say(f"{pid_file} cannot be written: {error.strerror}; the next watcher will not end this one")


def wait_for_notice(ask: Callable[[], Notice | None], every_s: float, rebalance: str = "tell") -> Notice:
    """Asks until the machine is certain to go; says each new thing once.

    rebalance: tell or drain, see --rebalance. A service that does not answer is asked again: without it there is no
    warning, but nothing is lost that would not have been. So is one whose answer ends the question with whatever
    error: nobody would start the watcher again.
    """
    said = ""
    while True:
        try:
            notice = ask()
        except Unanswered as error:
            notice, words = None, f"no notices: {error}; asked again every {every_s:g} s"
        except Exception as error:  # noqa: BLE001  # see above
            notice, words = None, f"no notices: {type(error).__name__}: {error}; asked again every {every_s:g} s"
        else:
            words = f"{notice.why}; the node is kept" if notice else "watching"
        if notice and notice.certain:
            return notice
        if notice and rebalance == "drain":
            return Notice(notice.why, time.time() + REBALANCE_S)
        if words != said:
            said = words
            _say(words)
        time.sleep(every_s)


def tell_ray(drain: Drain, notice: Notice) -> None:
    """Drains the node; where the head does not answer, again and again until the machine is gone.

    Raises RaysftError, the last one, when it is too late.
    """
    deadline = time.time() + UNTOLD_S if notice.deadline is None else notice.deadline
    _say(f"{notice.why}; {max(0.0, deadline - time.time()):.0f} s left")
    while True:
        try:
            drain(notice.why, deadline)
        except RaysftError as error:
            if time.time() + AGAIN_S > deadline:
                raise
            _say(error.message)
            time.sleep(AGAIN_S)
        else:
            _say("the node is drained: no new work comes here, and training saves and moves")
            return


def _with_patience(drainer: Callable[[], Drain]) -> Drain:
    """A head that is away for a moment, as when it is started anew, must not leave a node without its watcher."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return drainer()
        except NotFound as error:
            if time.monotonic() >= until:
                raise
            _say(f"{error.message}; tried again")
            time.sleep(AGAIN_S)


def _drainer(address: str | None, node_id: str | None) -> Drain:
    """What drains the node. Raises NotFound where Ray is not found, UsageError where it is not clear which node."""
    client = _client(address)
    return partial(_drain, client, node_id or _own_node(client))


def _client(address: str | None) -> Any:
    """A client of Ray's head. Raises NotFound where there is none."""
    from ray._private.services import canonicalize_bootstrap_address_or_die
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

    try:
        found = canonicalize_bootstrap_address_or_die(address or os.environ.get("RAY_ADDRESS") or "auto")
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()  # Ray's client waits 40 s
        return GcsClient(address=found)
    except Exception as error:  # noqa: BLE001  # Ray raises what it likes
        where = f"at {address}" if address else "on this machine"
        raise NotFound(f"no Ray {where}: {error}", "Start Ray on this node first, or give --address.") from None


def _own_node(client: Any) -> str:
    """The id, in hex, of the one node that runs on this machine."""
    from ray._private.services import find_node_ids

    here = set(find_node_ids())
    alive = {node.hex() for node, facts in client.get_all_node_info(timeout=ANSWER_S).items() if facts.state == ALIVE}
    found = sorted(here & alive)
    if len(found) != 1:
        what = f"{len(found)} nodes" if found else "no node"
        raise UsageError(f"{what} of this Ray on this machine", "Give --node-id, in hex, as `ray list nodes` has it.")
    return str(found[0])


def _drain(client: Any, node: str, why: str, deadline: float) -> None:
    """Raises RaysftError where the head refuses or does not answer."""
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    try:
        accepted, refusal = client.drain_node(node, reason, why, int(deadline * 1000))
    except Exception as error:  # noqa: BLE001  # Ray raises what it likes
        raise RaysftError(f"the head does not answer: {error}") from None
    if not accepted:
        raise RaysftError(f"the head refuses to drain node {node}: {refusal}")


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
