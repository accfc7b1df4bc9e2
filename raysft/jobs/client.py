"""Ray's job API over HTTP, with its failures as errors for people. Imports no Ray, so that answers come at once.

The calls are those of Ray's REST API (docs.ray.io, "Ray Jobs REST API") and, for packages, of its own client
(ray/dashboard/modules/job/sdk.py, 2.60). Logs are read by the state API, which gives their last lines alone if it is
asked to; the job API gives a log whole, as one string of JSON, and none of one that is not UTF-8.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from raysft.cluster.endpoint import Endpoint
from raysft.errors import NotAllowed, NotFound, RaysftError, UsageError

CONNECT_S, ANSWER_S = 5.0, 60.0
LOG_S = 600  # that the cluster may take to send a whole log
ENDED = {"STOPPED", "SUCCEEDED", "FAILED"}
NO_PROXY: dict[str, Any] = dict.fromkeys(("http", "https", "all"))
OURS = "raysft"  # key of the metadata of our jobs


class Unreachable(NotFound):
    """Nothing answers at the address of the cluster."""


class Failing(NotFound):
    """What answers there is in trouble, maybe for a moment (5xx)."""


class LogGone(Failing):
    """The node that has the log of a job does not answer."""


@dataclass(frozen=True)
class Job:
    """One job as the cluster knows it. Times in seconds since 1970."""

    id: str
    status: str  # PENDING RUNNING STOPPED SUCCEEDED FAILED
    entrypoint: str
    message: str
    metadata: dict[str, str]
    runtime_env: dict[str, Any]
    started: float | None
    ended: float | None
    exit_code: int | None  # of the driver, where it ended by itself
    node: str | None = None  # id of the node that its driver is on, with its log; None: it has not begun

    @property
    def over(self) -> bool:
        return self.status in ENDED


class Client:
    """Speaks to one cluster."""

    def __init__(self, endpoint: Endpoint, flags: str = "") -> None:
        """flags: what a command that is proposed needs so as to mean this cluster, with a space before it."""
        self._endpoint, self.flags = endpoint, flags

    @property
    def address(self) -> str:
        return self._endpoint.address

    def version(self) -> str:
        """Of Ray on the cluster."""
        return str(self._get("/api/version", "ray_version"))

    def jobs(self) -> list[Job]:
        """All that were submitted, those that began last first."""
        with self._as_documented():
            found = [_job(each) for each in _listed(self._get("/api/jobs/")) if each.get("submission_id")]
        return sorted(found, key=lambda job: job.started or 0.0, reverse=True)

    def job(self, id: str) -> Job:
        """Raises NotFound."""
        found = self._get(f"/api/jobs/{_quoted(id)}", missing=f"no job {id} on {self.address}")
        with self._as_documented():
            return _job(found)

    def log(self, job: Job, last: int | None = None) -> str:
        """What the job has printed so far, or the last lines of it. A carriage return ends a line, as a line feed does.

        Raises LogGone where the node that has it does not answer, or is gone.
        """
        return "".join(self._pieces(job, last))

    def lines(self, job: Job, last: int | None = None) -> Iterator[str]:
        """The same line by line, so that a long log needs no memory."""
        rest = ""
        for piece in self._pieces(job, last):
            *whole, rest = (rest + piece).split("\n")
            yield from whole
        if rest:
            yield rest

    def _pieces(self, job: Job, last: int | None) -> Iterator[str]:
        if job.node is None:
            return
        name = f"job-driver-{job.id}.log"
        asked = {"node_id": job.node, "filename": name, "lines": -1 if last is None else last, "timeout": LOG_S}
        answer = self._ask("GET", f"/api/v0/logs/file?{urlencode(asked)}", stream=True)
        with self._answering(), answer:
            if answer.status_code != 200 and "file is not found" in answer.text:  # nothing was printed yet
                return
            if answer.status_code == 404 or (answer.status_code != 200 and "Agent for node id" in answer.text):
                raise LogGone(
                    f"the log of {job.id} is not to be had: node {job.node[:16]} does not answer",
                    "Where the node is gone, so is the log; what the job wrote to its output is there.",
                )
            if answer.status_code != 200:
                raise self._refused(answer)
            yield from _decoded(answer.iter_content(2**16))

    def submit(self, request: dict[str, Any]) -> str:
        """The id. Raises NotAllowed where a job has it already."""
        answer = self._ask("POST", "/api/jobs/", json=request)
        if answer.status_code != 200 and "already exists" in answer.text:
            raise NotAllowed(
                f"job {request['submission_id']} was submitted by somebody else just now",
                f"Follow it: raysft jobs logs {request['submission_id']} -f{self.flags}",
            )
        return str(self._read(answer, "submission_id"))

    def stop(self, id: str) -> bool:
        """Ask the job to end; False where it has ended. Raises NotFound."""
        answer = self._ask("POST", f"/api/jobs/{_quoted(id)}/stop")
        return bool(self._read(answer, "stopped", f"no job {id} on {self.address}"))

    def delete(self, id: str) -> None:
        """Forget a job that is over. Raises NotFound."""
        self._read(self._ask("DELETE", f"/api/jobs/{_quoted(id)}"), missing=f"no job {id} on {self.address}")

    def has_package(self, name: str) -> bool:
        """Whether the cluster holds an uploaded package."""
        return bool(self._ask("GET", f"/api/packages/gcs/{_quoted(name)}").status_code == 200)

    def upload(self, name: str, content: bytes) -> None:
        # From a file, which is sent piece by piece: bytes are sent at once, and have CONNECT_S for all of it.
        answer = self._ask("PUT", f"/api/packages/gcs/{_quoted(name)}", data=io.BytesIO(content))
        if answer.status_code != 200:
            raise self._refused(answer)

    def nodes(self) -> list[dict[str, Any]]:
        """Those that are alive: name, head, cpus, gpus, and the share of the disk that is taken (None: not known)."""
        found = self._get("/nodes?view=summary", "data")
        with self._as_documented():
            return [_node(each) for each in found["summary"] if each.get("raylet", {}).get("state") == "ALIVE"]

    def _get(self, path: str, key: str = "", missing: str = "") -> Any:
        return self._read(self._ask("GET", path), key, missing)

    def _read(self, answer: Any, key: str = "", missing: str = "") -> Any:
        """What the answer says, or what it has under a key. missing: what 404 means."""
        if answer.status_code == 404 and missing:
            raise NotFound(missing, f"`raysft jobs list{self.flags}` shows those that are there.")
        if answer.status_code != 200:
            raise self._refused(answer)
        with self._as_documented():
            return answer.json()[key] if key else answer.json()

    @contextmanager
    def _as_documented(self) -> Iterator[None]:
        """Raise UsageError where an answer is not like those of Ray."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._no_dashboard() from None

    def _no_dashboard(self) -> UsageError:
        return UsageError(
            f"{self.address} answers, but is no Ray dashboard",
            "Check the address: that of the dashboard, such as http://127.0.0.1:8265.",
        )

    def _refused(self, answer: Any) -> RaysftError:
        """What an answer other than 200 means. The token is not repeated, even where the answer does so."""
        if 300 <= answer.status_code < 400:
            target = answer.headers.get("Location", "elsewhere")
            return UsageError(
                f"{self.address} leads to {target[:200]}", "Name the address that it leads to, if you trust it."
            )
        if answer.status_code == 404:
            return self._no_dashboard()
        text = str(answer.text).replace(self._endpoint.token or "\0", "***")
        lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
        kind = Failing if answer.status_code >= 500 else NotAllowed
        return kind(f"the cluster refused the request ({answer.status_code}): {lines[-1][:300]}", "")

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        import requests

        with self._answering():
            # Another host that an answer points to would be given the token.
            answer = requests.request(
                method,
                self.address + path,
                headers=self._endpoint.headers,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
                # Else a password in ~/.netrc would take the place of the token.
                auth=lambda request: request,
                # A proxy in between would read the token, and mean another machine by this one's address.
                proxies=NO_PROXY if self._endpoint.is_here else None,
                **more,
            )
        if answer.status_code in {401, 403}:
            given = "the token was refused" if self._endpoint.token else "it asks for a token, and none was found here"
            raise NotAllowed(
                f"{self.address}: {given}",
                "The token is the one in token_file of the cluster file, else that of a cluster which was brought up "
                "here, else it is looked for in ~/.ray/auth_token.",
            )
        return answer

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What can go wrong on the way to the cluster and back."""
        import requests

        try:
            yield
        except requests.exceptions.SSLError as error:
            raise self._not_trusted(str(error)) from None
        except requests.exceptions.RequestException:
            raise Unreachable(
                f"no cluster answers at {self.address}",
                "Is it up, and its tunnel? `raysft cluster status NAME` and `raysft cluster doctor NAME` tell more.",
            ) from None
        except (OSError, ValueError) as error:  # of requests itself: a file of certificates, an address
            raise UsageError(
                f"{self.address} cannot be asked: {(str(error).splitlines() or ['no reason given'])[0][:200]}",
                "Check the address, and the file that REQUESTS_CA_BUNDLE names, if it is set.",
            ) from None

    def _not_trusted(self, said: str) -> RaysftError:
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return NotAllowed(
                f"the certificate of {self.address} is not trusted: {said.splitlines()[0][:120]}",
                "REQUESTS_CA_BUNDLE names a file with the certificates that are.",
            )
        return UsageError(f"{self.address} does not speak https", "Check the address: http:// where it has no TLS.")


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _decoded(pieces: Iterable[bytes]) -> Iterator[str]:
    """As text, in which every end of a line is a line feed."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    yield from map(decoder.decode, pieces)
    yield decoder.decode(b"", final=True)


def _listed(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise TypeError(type(found).__name__)
    return found


def _node(found: dict[str, Any]) -> dict[str, Any]:
    raylet = found["raylet"]
    total = raylet.get("resourcesTotal", {})
    disk = found.get("disk", {}).get("/", {})
    return {
        "name": raylet.get("nodeName") or found.get("hostname", ""),
        "head": bool(raylet.get("isHeadNode")),
        "cpus": float(total.get("CPU", 0.0)),
        "gpus": float(total.get("GPU", 0.0)),
        "disk": disk["used"] / disk["total"] if disk.get("total") else None,
    }


def _job(found: dict[str, Any]) -> Job:
    def seconds(key: str) -> float | None:
        return None if found.get(key) is None else found[key] / 1000

    return Job(
        id=found["submission_id"],
        status=found["status"],
        entrypoint=found["entrypoint"],
        message=found.get("message") or "",
        metadata=found.get("metadata") or {},
        runtime_env=found.get("runtime_env") or {},
        started=seconds("start_time"),
        ended=seconds("end_time"),
        exit_code=found.get("driver_exit_code"),
        node=found.get("driver_node_id"),
    )
