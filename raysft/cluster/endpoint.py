"""Where the job API of a cluster answers, and the token that it asks for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from urllib.parse import urlsplit

from raysft.cluster.named import state_folder
from raysft.config import Cluster
from raysft.errors import NotAllowed, NotFound, UsageError

TOKEN = "token"  # noqa: S105  # name of a file
ADDRESS = "address"
RAYS_TOKEN = Path("~/.ray/auth_token")  # where Ray looks for one
USUAL = "http://127.0.0.1:8265"
EXAMPLE = f"One is like {USUAL}, that of the dashboard."


@dataclass(frozen=True)
class Endpoint:
    """How a cluster is spoken to. The token is in no text that is made of this."""

    address: str  # without a slash at its end
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    @property
    def is_here(self) -> bool:
        """Whether requests stay on this machine."""
        return _is_loopback(urlsplit(self.address).hostname or "")


def endpoint_of(cluster: Cluster, insecure: bool = False, up: bool = True) -> Endpoint:
    """Of a cluster file, or of a cluster that was brought up here. Raises NotAllowed, UsageError, NotFound.

    up: whether it is to be asked; else one on this machine need not be up.

    A cluster of which neither its file nor this machine knows where it answers has no usual address: behind the tunnel
    of another cluster that would be the other one, with its token.
    """
    config, state = cluster.config, state_folder(cluster.config.name)
    address = config.address or _read(state / ADDRESS)
    if address is None:
        if config.local is not None:
            if up:
                raise not_up(cluster)
            return Endpoint(f"http://127.0.0.1:{config.local.port}")
        installed = config.kind == "static" and config.token_file is not None  # install.sh keeps no other one then
        if not installed and not (state / TOKEN).is_file():
            raise UsageError(
                f"cluster {config.name} is not one that was brought up here, and its file has no `address`",
                f"Name it by address: the key `address` of {cluster.path}, or --address URL. {EXAMPLE}",
            )
        address = USUAL
    if config.token_file is not None:
        token = _read(Path(config.token_file).expanduser())
        if token is None:
            raise NotAllowed(
                f"{cluster.where('token_file')}: token_file: there is no token in {config.token_file}",
                "Ask whoever keeps the cluster for it, and write it there with mode 0600.",
            )
    else:
        token = _read(state / TOKEN) or _read(RAYS_TOKEN.expanduser())
    return endpoint_at(address, token, insecure)


def not_up(cluster: Cluster) -> NotFound:
    """Of a cluster on this machine."""
    up = join(["raysft", "cluster", "up", str(cluster.path)])
    return NotFound(f"cluster {cluster.config.name} is not up on this machine", f"`{up}` brings it up.")


def endpoint_at(address: str, token: str | None = None, insecure: bool = False) -> Endpoint:
    """Of an address, with Ray's own token of this machine unless another is given.

    Raises UsageError (no address), NotAllowed (a token would travel in clear; insecure: let it).
    """
    host = _host(address)
    token = token or _read(RAYS_TOKEN.expanduser())
    if token and not address.lower().startswith("https:") and not _is_loopback(host) and not insecure:
        raise NotAllowed(
            f"the token would travel to {host} over http, where others may read it",
            f"Use a tunnel (ssh -L 8265:127.0.0.1:8265 {host}) or https; --insecure sends it all the same.",
        )
    return Endpoint(address.rstrip("/"), token)


def _host(address: str) -> str:
    """Raises UsageError, in which no password is repeated."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    # What is odd may be taken apart in another way where it is sent, and lead to another host.
    if "@" in address or "\\" in address or any(letter.isspace() or not letter.isprintable() for letter in address):
        raise UsageError("--address: an address has no user, no password and no white space", EXAMPLE)
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise UsageError(
            f"--address {address}: an address is like http://127.0.0.1:8265, that of the dashboard",
            "`ray://` and GCS addresses are not those of the job API.",
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> str | None:
    """What the file says, without white space around it; None where it is not there or says nothing.

    Raises NotAllowed where that can be neither a token nor an address.
    """
    try:
        found = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    except ValueError:
        found = "\0"
    if not all("!" <= letter <= "~" for letter in found):
        raise NotAllowed(f"{path} holds no token: a token is one line of letters, digits and signs", "Write it anew.")
    return found or None
