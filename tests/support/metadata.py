"""A metadata service on loopback that answers as those of the three clouds do.

It may be started alone, for rehearsals: `python -m tests.support.metadata aws SECONDS` prints its URL, and gives notice
after so many seconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AWS_TOKEN = "/latest/api/token"  # noqa: S105  # a path
AWS_ACTION = "/latest/meta-data/spot/instance-action"
AWS_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
GCP_PREEMPTED = "/computeMetadata/v1/instance/preempted"
AZURE_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
AZURE_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"


class Service:
    """What one machine is told. The answers may change while it runs; what is not among them is not found (404)."""

    def __init__(self, cloud: str) -> None:
        self.cloud = cloud
        self.answers: dict[str, str] = {
            "aws": {},
            "gcp": {GCP_PREEMPTED: "FALSE"},
            "azure": {AZURE_EVENTS: events(), AZURE_NAME: "gpu-7"},
        }[cloud]
        self.tokens: list[str] = []  # of which the last is good
        self.asked: list[tuple[str, str, int]] = []  # method, path and status
        self.broken = 0  # a status that every question gets; 0: none does

    def give_notice(self, deadline: float) -> None:
        """The machine will be taken. deadline: seconds since 1970; Google does not tell it."""
        moment = datetime.fromtimestamp(deadline, UTC)
        if self.cloud == "aws":
            self.answers[AWS_ACTION] = json.dumps({"action": "terminate", "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}"})
        elif self.cloud == "gcp":
            self.answers[GCP_PREEMPTED] = "TRUE"
        else:
            self.answers[AZURE_EVENTS] = events(("Preempt", ["gpu-7"], format_datetime(moment, usegmt=True)))

    def status_of(self, method: str, path: str, headers: dict[str, str]) -> int:
        """As the cloud's own documentation has it."""
        if self.broken:
            return self.broken
        if self.cloud == "aws":
            if path == AWS_TOKEN:
                return 200 if method == "PUT" and "x-aws-ec2-metadata-token-ttl-seconds" in headers else 405
            if not self.tokens or headers.get("x-aws-ec2-metadata-token") != self.tokens[-1]:
                return 401
        if self.cloud == "gcp" and headers.get("metadata-flavor") != "Google":
            return 403
        if self.cloud == "azure" and headers.get("metadata") != "true":
            return 400
        return 200 if method == "GET" and path in self.answers else 404

    def body_of(self, path: str) -> str:
        if path == AWS_TOKEN:
            self.tokens.append(f"token-{len(self.tokens)}==")
            return self.tokens[-1]
        return self.answers[path]


def events(*each: tuple[str, list[str], str]) -> str:
    """Azure's document. each: type, machines, and when it begins; "" where it has begun."""
    found = [
        {
            "EventId": f"id-{place}",
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": machines,
            "EventStatus": "Scheduled" if begins else "Started",
            "NotBefore": begins,
            "EventSource": "Platform",
        }
        for place, (kind, machines, begins) in enumerate(each)
    ]
    return json.dumps({"DocumentIncarnation": len(found), "Events": found})


@contextmanager
def metadata_service(cloud: str) -> Iterator[tuple[Service, str]]:
    """The service of a machine in aws, gcp or azure, and its URL on loopback."""
    service = Service(cloud)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status = service.status_of(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
            service.asked.append((self.command, self.path, status))
            body = (service.body_of(self.path) if status == 200 else "").encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = answer  # noqa: N815  # names of the standard library

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with metadata_service(sys.argv[1]) as (running, address):
        print(address, flush=True)
        time.sleep(float(sys.argv[2]))
        running.give_notice(time.time() + 120)
        threading.Event().wait()
