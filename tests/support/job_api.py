"""A server on 127.0.0.1 that speaks Ray's job API as raysft/jobs/client.py uses it, and can be made to misbehave."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs, unquote

from raysft.jobs.told import MARK

NODE = "4e0de"  # id of the one node
Answer = tuple[int, str, dict[str, str]]  # status, body, headers


@dataclass
class JobApi:
    """What the server knows, and what it was asked."""

    token: str | None = None
    ray: str = version("ray")
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (method, path)
    headers: list[dict[str, str]] = field(default_factory=list)  # of each request
    instead: Answer | None = None  # what is answered to everything
    before: Callable[[str], None] = lambda _: None  # called with the path of each request
    address: str = ""

    def add(self, id: str, status: str = "RUNNING", log: str = "", **more: Any) -> dict[str, Any]:
        """A job that was submitted."""
        ours = {"verb": "train", "name": id.split("-")[0], "output": "/mnt/raysft/results"}
        self.logs[id] = log
        self.jobs[id] = {
            "type": "SUBMISSION",
            "submission_id": id,
            "status": status,
            "entrypoint": "exec raysft train job.yaml",
            "message": "",
            "metadata": {"raysft": json.dumps(ours)},
            "runtime_env": {},
            "start_time": 1_700_000_000_000,
            "end_time": None,
            "driver_exit_code": None,
            "driver_node_id": NODE,
            **more,
        }
        return self.jobs[id]

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.asked.append((method, path))
        self.headers.append(headers)
        self.before(path)
        if self.instead is not None:
            return self.instead
        if self.token is not None and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, "Unauthorized: Missing authentication token", {}
        parts = [unquote(part) for part in path.partition("?")[0].strip("/").split("/")]
        if parts[:2] == ["api", "packages"]:
            return self._package(method, parts[-1], body)
        if parts == ["api", "version"]:
            return _json({"version": "4", "ray_version": self.ray})
        if parts == ["nodes"]:
            return _json({"result": True, "data": {"summary": self.nodes}})
        if parts[:2] == ["api", "jobs"]:
            return self._job(method, parts[2:], body)
        if parts == ["api", "v0", "logs", "file"]:
            return self._log({key: value[0] for key, value in parse_qs(path.partition("?")[2]).items()})
        return 404, "404: Not Found", {}

    def _package(self, method: str, name: str, body: bytes) -> Answer:
        if method == "PUT":
            self.packages[name] = body
            return 200, "", {}
        return (200, "", {}) if name in self.packages else (404, f"Package gcs://{name} does not exist", {})

    def _job(self, method: str, parts: list[str], body: bytes) -> Answer:
        if not parts and method == "GET":
            alien = {"type": "DRIVER", "submission_id": None, "status": "RUNNING", "entrypoint": "python"}
            return _json([*self.jobs.values(), alien])
        if not parts:
            return self._submit(json.loads(body))
        job = self.jobs.get(parts[0])
        if job is None:
            return 404, f"Job {parts[0]} does not exist", {}
        if method == "DELETE":
            del self.jobs[parts[0]], self.logs[parts[0]]
            return _json({"deleted": True})
        if parts[1:] == ["stop"]:
            if job["status"] in {"RUNNING", "PENDING"}:
                job |= {"status": "STOPPED", "end_time": 1_700_000_100_000}
                return _json({"stopped": True})
            return _json({"stopped": False})
        return _json(job)

    def _log(self, asked: dict[str, str]) -> Answer:
        """As Ray's state API: the last lines, and -1 for all of them."""
        if asked["node_id"] != NODE:
            return 500, f"Agent for node id: {asked['node_id']} doesn't exist.", {}
        log = self.logs.get(asked["filename"].removeprefix("job-driver-").removesuffix(".log"))
        if log is None:
            return 500, f"A file is not found at: /tmp/ray/logs/{asked['filename']}", {}
        lines, last = re.findall(r"[^\n]*\n|[^\n]+", log), int(asked["lines"])
        return 200, log if last == -1 else "".join(lines[-last:]), {}

    def _submit(self, request: dict[str, Any]) -> Answer:
        id = request["submission_id"]
        if id in self.jobs:
            return 500, f"Traceback ...\nValueError: Job with submission_id {id} already exists.", {}
        self.add(id, **{key: request[key] for key in ("entrypoint", "runtime_env", "metadata")})
        return _json({"job_id": id, "submission_id": id})


def _json(value: Any) -> Answer:
    return 200, json.dumps(value), {"Content-Type": "application/json"}


def event(kind: str, t: float = 1_700_000_000.0, **facts: Any) -> str:
    """A line of a log, as raysft/jobs/told.py writes it."""
    return f"{MARK}{json.dumps({'t': t, 'kind': kind, **facts})}\n"


@contextmanager
def serving(api: JobApi, port: int = 0) -> Iterator[JobApi]:
    """While the server answers; afterwards nothing does. port: 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text, headers = api.answer(self.command, self.path, body, dict(self.headers))
            content = text.encode(errors="surrogateescape")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815  # the names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Nothing on stderr, which tests read."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    api.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
