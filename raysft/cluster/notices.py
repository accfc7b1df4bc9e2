"""What the metadata services of clouds say of a machine that will be taken away. Knows nothing of Ray."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

LINK_LOCAL = "http://169.254.169.254"  # where each of the three answers, to machines of the cloud alone
LIMIT_S = 5.0
TOKEN_S = 21600  # of Amazon's token; the longest that it gives
GCP_S = 30.0  # Google shuts a machine down so long after its notice, and does not say when that was
# What Azure does with a machine that ends what runs on it; Freeze, a pause of seconds, does not.
AZURE_ENDS = {"Preempt", "Terminate", "Reboot", "Redeploy"}


class Unanswered(Exception):
    """The metadata service did not answer, or not as its cloud documents it. Says why in a line."""


@dataclass(frozen=True)
class Notice:
    """A machine will be taken away, or is likelier to be than before."""

    why: str  # in the cloud's words
    deadline: float | None  # seconds since 1970; None where it is not told
    certain: bool = True


@dataclass(frozen=True)
class Metadata:
    """The metadata service of one machine. url: without a path."""

    url: str = LINK_LOCAL

    def get(self, path: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
        """What is there; None where nothing is (404). Raises HTTPError for other refusals, else Unanswered."""
        request = Request(self.url + path, headers=dict(headers), method=method)  # noqa: S310  # --metadata-url
        try:
            # A proxy would ask its own machine's service.
            with build_opener(ProxyHandler({})).open(request, timeout=LIMIT_S) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise
        except (OSError, HTTPException, UnicodeDecodeError) as error:
            raise Unanswered(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None


class Aws:
    """Amazon's instance metadata, version 2: every question needs a token."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._token: str | None = None

    def notice(self) -> Notice | None:
        """The interruption of a spot instance, else the recommendation to leave it. Raises Unanswered."""
        if action := self._json("/latest/meta-data/spot/instance-action"):
            return Notice(f"spot instance action: {action.get('action', 'unknown')}", _iso(action.get("time")))
        if advice := self._json("/latest/meta-data/events/recommendations/rebalance"):
            return Notice(f"rebalance recommendation of {advice.get('noticeTime', 'an unknown time')}", None, False)
        return None

    def _json(self, path: str) -> dict[str, Any] | None:
        return _object(self._get(path))

    def _get(self, path: str) -> str | None:
        for _ in range(2):  # a token that is too old is refused, and asked for anew
            self._token = self._token or self._new_token()
            try:
                return self._metadata.get(path, {"X-aws-ec2-metadata-token": self._token})
            except HTTPError as error:
                if error.code != 401:
                    raise Unanswered(f"{path} answers {error.code}") from None
                self._token = None
        raise Unanswered(f"{path} answers 401 to a new token")

    def _new_token(self) -> str:
        try:
            found = self._metadata.get(
                "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}, method="PUT"
            )
        except HTTPError as error:
            raise Unanswered(f"the token is refused with {error.code}") from None
        if not found:
            raise Unanswered("there is no token to be had")
        return found


class Gcp:
    """Google's metadata server."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def notice(self) -> Notice | None:
        """The preemption of the machine. Raises Unanswered."""
        path = "/computeMetadata/v1/instance/preempted"
        found = _plain(self._metadata, path, {"Metadata-Flavor": "Google"})
        if found is None or found.strip().upper() == "FALSE":
            return None
        if found.strip().upper() != "TRUE":
            raise Unanswered(f"{path} answers {found[:40]!r}, neither TRUE nor FALSE")
        return Notice("instance preempted", time.time() + GCP_S)


class Azure:
    """Azure's Scheduled Events."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._name: str | None = None

    def notice(self) -> Notice | None:
        """The event that ends this machine first; events of others in its set are not its own. Raises Unanswered."""
        found = _object(self._get("/metadata/scheduledevents?api-version=2020-07-01")) or {}
        ends = [event for event in _objects(found.get("Events")) if event.get("EventType") in AZURE_ENDS]
        mine = [event for event in ends if self._own_name() in (event.get("Resources") or [])]
        notices = [Notice(f"scheduled event: {event['EventType']}", _rfc(event.get("NotBefore"))) for event in mine]
        return min(notices, key=lambda each: each.deadline or 0.0, default=None)

    def _own_name(self) -> str:
        """Raises Unanswered while the service has none, as at boot: an event of nobody would be nobody's for ever."""
        if not self._name:
            path = "/metadata/instance/compute/name"
            self._name = (self._get(f"{path}?api-version=2021-02-01&format=text") or "").strip()
            if not self._name:
                raise Unanswered(f"{path} has no name yet")
        return self._name

    def _get(self, path: str) -> str | None:
        return _plain(self._metadata, path, {"Metadata": "true"})


CLOUDS: dict[str, Callable[[Metadata], Aws | Gcp | Azure]] = {"aws": Aws, "gcp": Gcp, "azure": Azure}


def _plain(metadata: Metadata, path: str, headers: Mapping[str, str]) -> str | None:
    try:
        return metadata.get(path, headers)
    except HTTPError as error:
        raise Unanswered(f"{path} answers {error.code}") from None


def _object(text: str | None) -> dict[str, Any] | None:
    """Raises Unanswered where the text is no JSON object."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unanswered(f"answers {text[:40]!r} where JSON is documented")
    return found


def _objects(found: object) -> list[dict[str, Any]]:
    """Those of a list that are objects; Raises Unanswered where it is no list."""
    if found is None:
        return []
    if not isinstance(found, list):
        raise Unanswered(f"answers {str(found)[:40]!r} where a list is documented")
    return [each for each in found if isinstance(each, dict)]


def _iso(text: object) -> float | None:
    """Seconds since 1970 of "2026-01-02T03:04:05Z"; None for what is no time."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _rfc(text: object) -> float | None:
    """Seconds since 1970 of "Mon, 19 Sep 2026 18:29:47 GMT"; None for what is no time, as of an event that began."""
    try:
        return parsedate_to_datetime(str(text)).timestamp()
    except ValueError:
        return None
