"""Files in buckets: s3://, gs:// and abfs:// through pyarrow's file systems.

Secrets come from the environment or the cloud's own configuration; a URI that carries one is refused, since job files
are shared and paths are shown. Attempts are few and short, so that a wrong name is told in seconds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urlsplit

from pyarrow import fs

from raysft.errors import DataError, NotFound
from raysft.reading.trouble import TROUBLES, trouble

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
# The last part is query options only where it reads `name=value`: `?` is also a wildcard.
URI = re.compile(r"(\w+)://([^/?]*)/?(.*?)(\?\w+=[^&]*(?:&\w+=[^&]*)*)?", re.DOTALL)
S3_OPTIONS = ("region", "scheme", "endpoint_override", "anonymous", "force_virtual_addressing", "tls_ca_file_path")
SECRET = re.compile(r"secret|password|key$|token|^sig$", re.IGNORECASE)
WILD = re.compile(r"[^/]*[*?\[]")
CONNECT_S = 5
ATTEMPTS = 2
GCS_PATIENCE_S = 15  # the default is 15 minutes


@dataclass(frozen=True)
class Remote:
    """One path in a bucket: what the file system calls it, and what surrounds it in the URI."""

    system: Any
    path: str  # bucket/folder/file
    root: str  # the part of `path` that `front` stands for: bucket/
    front: str  # s3://bucket/
    query: str  # ?region=eu-west-1

    @property
    def shown(self) -> str:
        return self.front + self.path.removeprefix(self.root) + self.query

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]

    def child(self, name: str) -> Remote:
        """A file in this folder."""
        return replace(self, path=f"{self.path.rstrip('/')}/{name}")

    def kind(self) -> str:
        """`file`, `folder` or `nothing`. Raises NotAllowed, NotFound (no such bucket, no network)."""
        return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(self._info().type, "nothing")

    def size(self) -> int:
        """Bytes as stored."""
        return int(self._info().size or 0)

    def identity(self) -> str:
        """Size, time of change and ETag: another content has another one."""
        found = self._info()
        try:
            with self.system.open_input_stream(self.path) as stream:
                told = {_text(key).lower(): _text(value) for key, value in (stream.metadata() or {}).items()}
        except TROUBLES as error:
            raise trouble(self.shown, error) from None
        return f"{found.size} {found.mtime_ns} {told.get('etag', '')}"

    def open(self) -> BinaryIO:
        """The bytes, which can be sought. Raises NotFound, NotAllowed."""
        try:
            file: BinaryIO = self.system.open_input_file(self.path)
        except TROUBLES as error:
            raise trouble(self.shown, error) from None
        return file

    def matches(self) -> list[Remote]:
        """The files that this path stands for as a pattern, sorted; hidden ones only where the pattern says so."""
        wild = WILD.search(self.path)
        if wild is None:
            return []
        rule = re.compile(_rule(self.path), re.DOTALL)
        return [each for each in self._below(self.path[: wild.start()], deep=True) if rule.fullmatch(each.path)]

    def bucket_is_there(self) -> bool:
        """Whether the bucket exists, as far as it may be known."""
        return not self.root or replace(self, path=self.root.rstrip("/")).kind() != "nothing"

    def nearby(self) -> list[str]:
        """Names of the files in the folder of this path."""
        wild = WILD.search(self.path)
        folder = (self.path[: wild.start()] if wild else self.path).rpartition("/")[0]
        return [each.name for each in self._below(folder, deep=False)]

    def _below(self, folder: str, deep: bool) -> list[Remote]:
        select = fs.FileSelector(folder.rstrip("/"), allow_not_found=True, recursive=deep)
        try:
            found = self.system.get_file_info(select)
        except TROUBLES as error:
            raise trouble(self.shown, error) from None
        return [replace(self, path=path) for path in sorted(each.path for each in found if each.is_file)]

    def _info(self) -> Any:
        try:
            return self.system.get_file_info(self.path)
        except TROUBLES as error:
            raise trouble(self.shown, error) from None


def remote(uri: str) -> Remote:
    """The place that a URI names; its key is taken as written, not percent-decoded.

    Raises DataError (unknown scheme or option, a secret in the URI), NotAllowed, NotFound.
    """
    found = URI.fullmatch(uri)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in SCHEMES:
        raise DataError(f"{uri}: cannot read {scheme or uri}:// paths", "Allowed: local paths, s3://, gs://, abfs://.")
    authority, key, query = found[2], found[3], found[4] or ""
    options = dict(parse_qsl(query[1:], keep_blank_values=True))
    user, _, host = authority.rpartition("@")
    shown = f"{scheme}://{authority}/{key}"
    if ":" in user or any(SECRET.search(name) for name in options):
        raise DataError(
            f"{scheme}://{host}/{key}: a secret does not belong into a path", "Secrets are read from the environment."
        )
    if not authority.strip("/"):
        raise DataError(f"{uri}: no bucket is named", f"Write {scheme}://BUCKET/PATH.")
    try:
        system, root = _system(scheme, authority, tuple(sorted(options.items())), _environment())
    except TROUBLES as error:
        raise trouble(shown, error) from None
    return Remote(system, root + key, root, f"{scheme}://{authority}/", query)


def _environment() -> tuple[str, ...]:
    """What of the environment decides where requests go and who asks; part of the key under which systems are kept."""
    return tuple(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("AWS_"))


@lru_cache(maxsize=32)
def _system(
    scheme: str, authority: str, options: tuple[tuple[str, str], ...], environment: tuple[str, ...]
) -> tuple[Any, str]:
    """The file system and the path of its root, ending in a slash where there is one."""
    if scheme == "s3":
        return _s3(authority, dict(options)), f"{authority}/"
    known = {"retry_limit_seconds": str(GCS_PATIENCE_S)} if scheme.startswith("g") else {}
    query = urlencode({**known, **dict(options)})
    system, root = fs.FileSystem.from_uri(f"{scheme}://{authority}" + (f"?{query}" if query else ""))
    return system, f"{root.rstrip('/')}/" if root.strip("/") else ""


def _s3(bucket: str, options: dict[str, str]) -> Any:
    """S3 or what speaks like it; the endpoint from the URI, else from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL."""
    unknown = sorted(set(options) - set(S3_OPTIONS))
    if unknown:
        raise DataError(f"s3://{bucket}: unknown option {unknown[0]!r}", f"Allowed: {', '.join(S3_OPTIONS)}.")
    endpoint = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3", "")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    scheme = options.get("scheme") or (urlsplit(endpoint).scheme if "://" in endpoint else "https")
    return fs.S3FileSystem(
        anonymous=_yes(options, "anonymous"),
        region=options.get("region") or _region(bucket, endpoint),
        scheme=scheme,
        endpoint_override=endpoint.partition("://")[2].rstrip("/") if "://" in endpoint else endpoint or None,
        force_virtual_addressing=_yes(options, "force_virtual_addressing"),
        tls_ca_file_path=options.get("tls_ca_file_path"),
        connect_timeout=CONNECT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def _region(bucket: str, endpoint: str) -> str | None:
    """The region that the environment names; of a bucket at Amazon itself that region is asked for."""
    known = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if known or endpoint:
        return known or "us-east-1"
    try:
        return str(fs.resolve_s3_region(bucket))
    except OSError as error:
        said = str(error)
        if "not found" in said.lower() or "404" in said:
            raise NotFound(f"s3://{bucket}: no such bucket", "Look at its spelling.") from None
        raise


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _yes(options: dict[str, str], name: str) -> bool:
    return options.get(name, "").lower() in {"true", "1", "yes"}


def _rule(pattern: str) -> str:
    """A glob as a regular expression: `**/` any folders, `*` and `?` within a name, `[...]` one of these letters."""
    out, rest = "", pattern
    while rest:
        start_of_name = out == "" or out.endswith(("/", "(?:[^/.][^/]*/)*"))
        hidden = r"(?!\.)" if start_of_name else ""
        letters = re.match(r"\[(!?)([^\]/]+)\]", rest)
        if rest.startswith("**/"):
            out, rest = out + "(?:[^/.][^/]*/)*", rest[3:]
        elif rest[0] == "*":
            out, rest = out + hidden + "[^/]*", rest.lstrip("*")
        elif rest[0] == "?":
            out, rest = out + hidden + "[^/]", rest[1:]
        elif letters:
            body = letters[2].replace("\\", "\\\\").replace("^", "\\^")
            out, rest = f"{out}[{'^' if letters[1] else ''}{body}]", rest[letters.end() :]
        else:
            out, rest = out + re.escape(rest[0]), rest[1:]
    return out
