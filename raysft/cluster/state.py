"""What this machine keeps of a cluster that it brought up: its files, and the token that it asks for."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import join

from raysft.cluster.endpoint import TOKEN
from raysft.cluster.files.ray_up import TOKEN_NAME, secrets_folder
from raysft.cluster.named import FILE, state_folder
from raysft.config import Cluster, ClusterConfig, load_cluster
from raysft.errors import NotAllowed, NotFound
from raysft.storage.commit import ASIDE
from raysft.storage.lease import lease

OWNER_ONLY, OWNER_ONLY_FOLDER = 0o600, 0o700
# By kind: keys of its section that say where a cluster is, so that under others there is another one.
PLACES = {
    "aws": ("region",),
    "gcp": ("project", "zone"),
    "azure": ("subscription", "resource_group"),
    "kubernetes": ("namespace",),
}


@contextmanager
def alone(name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Nobody else on this machine brings the cluster up, or takes it down, while the body runs.

    wait_s: seconds to wait for somebody who does. Raises NotAllowed where he still does then.
    """
    lock = state_folder(name).with_name(f".{name}.lock")
    next_step = "It is brought up or taken down right now: wait for that command to end, or stop it with Ctrl-C."
    with lease(lock, f"cluster {name}", wait_s, next_step):
        yield


def keep(
    cluster: Cluster, files: dict[str, str], token: str | None = None, facts: Mapping[str, str] | None = None
) -> Path:
    """Writes the cluster file, the rendered files and the token for one's own eyes alone; returns their folder.

    token: that of the cluster; None: the one that is known here, else one that is made now. facts: more files, by name.
    Call it within `alone`.

    Raises NotAllowed where the cluster file names a token file that cannot be read.
    """
    folder = state_folder(cluster.config.name)
    token = token or known_token(cluster) or secrets.token_hex(32)
    _folder(folder)
    _folder(folder / "secrets")
    _write(folder / TOKEN, token)
    _write(folder / "secrets" / TOKEN_NAME, token)
    for name, text in (facts or {}).items():
        _write(folder / name, text)
    for name, text in files.items():
        _write(folder / name, text.replace(secrets_folder(cluster.config.name), str(folder / "secrets")))
    # Last, since a cluster whose file is here counts as one that was brought up.
    _write(folder / FILE, cluster.path.read_text(encoding="utf-8"))
    return folder


def refuse_other(cluster: Cluster) -> None:
    """Raise NotAllowed where this machine keeps a cluster of this name in another place: it would be forgotten here,
    and go on costing money there."""
    kept = state_folder(cluster.config.name) / FILE
    if not kept.is_file():
        return
    there, here = _place(load_cluster(kept).config), _place(cluster.config)
    if there != here:
        name = cluster.config.name
        raise NotAllowed(
            f"{name} was brought up from here in another place ({there}, not {here}), which would be forgotten and go "
            "on",
            f"First `raysft cluster down {name}`; or give this one another name.",
        )


def _place(config: ClusterConfig) -> str:
    section = getattr(config, config.kind)
    return " ".join([config.kind, *(getattr(section, key) for key in PLACES.get(config.kind, ()))])


def known_token(cluster: Cluster) -> str | None:
    """That of the file which the cluster file names; else the one that is kept here, None where there is none.

    Raises NotAllowed.
    """
    kept = state_folder(cluster.config.name) / TOKEN
    named = cluster.config.token_file
    if named is None:
        return (kept.read_text(encoding="utf-8").strip() or None) if kept.is_file() else None
    try:
        token = Path(named).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotAllowed(
            f"{cluster.where('token_file')}: token_file: {named} cannot be read: {error.strerror}",
            "Name a file with a token in it, or leave the key out: one is made then.",
        ) from None
    if not token:
        raise NotAllowed(f"{cluster.where('token_file')}: token_file: {named} is empty", "Put a token in it.")
    return token


def kept_folder(cluster: Cluster) -> Path:
    """Of a cluster that was brought up here. Raises NotFound."""
    folder = state_folder(cluster.config.name)
    if not (folder / FILE).is_file():
        up = join(["raysft", "cluster", "up", str(cluster.path)])
        raise NotFound(
            f"{cluster.config.name} was not brought up on this machine: {folder} has no {FILE}",
            f"`{up}` brings it up; what it makes is remembered there.",
        )
    return folder


def forget(cluster: Cluster) -> None:
    """After a cluster is down."""
    shutil.rmtree(state_folder(cluster.config.name), ignore_errors=True)


def _folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(OWNER_ONLY_FOLDER)


def _write(path: Path, text: str) -> None:
    """A file that nobody else could read, not even while it is written; the one before stays until it is whole, since
    without its token a cluster that runs could be neither used nor brought up to date."""
    aside = path.with_name(f".{path.name}{ASIDE}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
