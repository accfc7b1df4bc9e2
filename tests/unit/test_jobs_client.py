"""The client against a server that speaks Ray's job API, and one that does not; the token stays where it belongs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysft.cluster.endpoint import Endpoint
from raysft.errors import Interrupted, NotAllowed, NotFound, RaysftError, UsageError
from raysft.jobs.client import Client, Failing, Job, LogGone, Unreachable
from raysft.jobs.package import Package, package_name
from raysft.jobs.request import Request
from raysft.jobs.runs import facts_of, find_job, name_of, run_of
from raysft.jobs.submit import refuse_other_ray, retry, stop, submit
from tests.support.job_api import NODE, JobApi, serving

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of this server alone
RUN = "tiny-train-0a1b2c3d"
X = Job("x", "RUNNING", "", "", {}, {}, None, None, None, NODE)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobApi]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(JobApi(token=TOKEN)) as api:
        yield api


@pytest.fixture
def client(api: JobApi) -> Client:
    return Client(Endpoint(api.address, TOKEN))


def calls(client: Client) -> list[RaysftError]:
    """What each call raises."""
    found = []
    for call in (
        client.version,
        client.jobs,
        lambda: client.job("x"),
        lambda: client.log(X),
        lambda: client.stop("x"),
        lambda: client.submit({"submission_id": "x"}),
        lambda: client.upload("x", b""),
        client.nodes,
    ):
        with pytest.raises(RaysftError) as refused:
            call()
        assert TOKEN not in str(refused.value)
        found.append(refused.value)
    return found


# --- what it reads


def test_jobs_are_read_the_newest_first(api: JobApi, client: Client) -> None:
    api.add("old-train-1", "FAILED", start_time=1000, end_time=5500, driver_exit_code=5, message=None, runtime_env=None)
    api.add("new-train-1", start_time=2000)
    api.add("waits-train-1", "PENDING", start_time=None)
    found = client.jobs()
    assert [job.id for job in found] == ["new-train-1", "old-train-1", "waits-train-1"]
    old = client.job("old-train-1")
    assert old == found[1] and (old.started, old.ended, old.exit_code, old.message) == (1.0, 5.5, 5, "")
    assert old.over and not found[0].over and not found[2].over
    assert api.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_ids_of_any_kind_are_one_part_of_the_path(api: JobApi, client: Client) -> None:
    id = "a b/../c?d#e%2Fé"
    api.add(id, log="hello\n")
    job = client.job(id)
    assert job.id == id and client.log(job) == "hello\n" and client.stop(id) and not client.stop(id)


def test_what_is_not_there_is_told(client: Client) -> None:
    for call in (client.job, client.delete, client.stop):
        with pytest.raises(NotFound, match="no job nothing-1 on http://127"):
            call("nothing-1")


def test_nodes_are_those_that_are_alive(api: JobApi, client: Client) -> None:
    raylet = {"state": "ALIVE", "nodeName": "a", "isHeadNode": True, "resourcesTotal": {"CPU": 2.0, "GPU": 1.0}}
    api.nodes = [
        {"raylet": raylet, "disk": {"/": {"used": 3, "total": 4}}},
        {"raylet": {"state": "ALIVE"}, "hostname": "b"},
        {"raylet": {"state": "DEAD"}},
        {},
    ]
    assert client.nodes() == [
        {"name": "a", "head": True, "cpus": 2.0, "gpus": 1.0, "disk": 0.75},
        {"name": "b", "head": False, "cpus": 0.0, "gpus": 0.0, "disk": None},
    ]


def test_of_a_log_the_last_lines_can_be_read_alone(api: JobApi, client: Client) -> None:
    api.add("x", log="one\ntwo\r\nthree\rfour\nno end")
    assert client.log(X) == "one\ntwo\nthree\nfour\nno end"
    assert client.log(X, 2) == "three\nfour\nno end"
    assert list(client.lines(X)) == ["one", "two", "three", "four", "no end"]
    assert list(client.lines(X, 1)) == ["no end"]


def test_a_log_that_is_not_utf8_is_read_all_the_same(api: JobApi, client: Client) -> None:
    api.instead = (200, "caf\udce9 ü\n", {})
    assert client.log(X) == "caf\ufffd ü\n"


def test_where_nothing_was_printed_yet_the_log_is_empty(api: JobApi, client: Client) -> None:
    assert client.log(X) == ""
    asked = len(api.asked)
    assert client.log(replace(X, node=None)) == "" and len(api.asked) == asked


def test_a_log_on_a_node_that_is_gone_is_told(api: JobApi, client: Client) -> None:
    with pytest.raises(LogGone, match="the log of x is not to be had: node 0dead does not answer"):
        client.log(replace(X, node="0dead"))


def test_a_job_that_is_over_can_be_forgotten(api: JobApi, client: Client) -> None:
    api.add("x", "SUCCEEDED")
    client.delete("x")
    assert api.jobs == {}


# --- what goes wrong


def test_a_log_that_breaks_off_is_no_answer(api: JobApi, client: Client) -> None:
    half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n9\r\ntw"
    with breaks_off(half) as address, pytest.raises(Unreachable):
        Client(Endpoint(address, TOKEN)).log(X)


def test_large_files_have_more_time_than_one_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket has CONNECT_S for each piece that is sent, and not for all of them."""
    monkeypatch.setattr("raysft.jobs.client.CONNECT_S", 0.3)
    size = 16 * 2**20
    got: list[int] = []

    def slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        while sum(got) < size and (more := connection.recv(2**20)):
            got.append(len(more))
            time.sleep(0.02 if sum(got) < size else 0)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with answers(slowly) as address:
        began = time.monotonic()
        Client(Endpoint(address, TOKEN)).upload("x.zip", b"0" * size)
        assert time.monotonic() - began > 0.6, "too fast to tell anything"


def test_a_file_of_certificates_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nothing.pem")
    with pytest.raises(UsageError, match=r"cannot be asked: .*/nothing\.pem") as refused:
        Client(Endpoint("https://127.0.0.1:1", TOKEN)).version()
    assert "REQUESTS_CA_BUNDLE" in refused.value.next_step


def test_https_to_what_speaks_http_is_not_called_a_certificate(api: JobApi) -> None:
    with pytest.raises(UsageError, match="does not speak https"):
        Client(Endpoint(api.address.replace("http:", "https:"), TOKEN)).version()


def test_a_wrong_token_is_refused_and_not_shown(api: JobApi) -> None:
    for token, said in (("wrong-token-x", "the token was refused"), (None, "it asks for a token")):
        for error in calls(Client(Endpoint(api.address, token))):
            assert isinstance(error, NotAllowed) and error.exit_code == 4 and said in error.message
            assert "wrong-token-x" not in str(error)
    assert api.jobs == {} and api.packages == {}


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_in_trouble_is_told_with_the_last_line_of_its_reason(status: int, api: JobApi, client: Client) -> None:
    api.instead = (status, f"Traceback\n  File x\nKeyError: 'gone' Bearer {TOKEN}\n\n", {})
    for error in calls(client):
        assert isinstance(error, Failing) and f"({status}): KeyError: 'gone' Bearer ***" in error.message


def test_a_refusal_without_a_reason(api: JobApi, client: Client) -> None:
    api.instead = (400, "", {})
    assert all("(400): no reason given" in error.message for error in calls(client))


@pytest.mark.parametrize(
    "body",
    ["<!doctype html><title>Router</title>", "", "[]", "{}", "null", "3", '{"ray_version"', '[{"submission_id": 1}]'],
)
def test_what_is_no_ray_dashboard_is_told(body: str, api: JobApi, client: Client) -> None:
    api.instead = (200, body, {})
    found = []
    for call in (
        client.version,
        lambda: client.job("x"),
        lambda: client.stop("x"),
        client.nodes,
    ):
        with pytest.raises(UsageError, match="answers, but is no Ray dashboard") as refused:
            call()
        found.append(refused.value)
    assert len(found) == 4
    if body != "[]":  # no jobs
        with pytest.raises(UsageError, match="no Ray dashboard"):
            client.jobs()


def test_a_server_without_these_pages_is_no_dashboard(api: JobApi, client: Client) -> None:
    api.instead = (404, "<h1>Not Found</h1>", {})
    with pytest.raises(UsageError, match="no Ray dashboard"):
        client.version()
    with pytest.raises(UsageError, match="no Ray dashboard"):
        client.jobs()
    assert not client.has_package("x")


def test_no_token_follows_a_redirect(api: JobApi, client: Client) -> None:
    with serving(JobApi()) as other:
        api.instead = (302, "", {"Location": f"{other.address}/api/version"})
        for error in calls(client):
            assert isinstance(error, UsageError) and other.address in error.message
        assert other.asked == []


def test_nobody_answers(client: Client) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = Client(Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}", TOKEN))
        for error in calls(gone):
            assert isinstance(error, Unreachable) and error.exit_code == 3 and gone.address in error.message
        with pytest.raises(Unreachable):
            gone.has_package("x")


@contextmanager
def answers(does: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does this with the first connection, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                does(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@contextmanager
def breaks_off(answer: bytes) -> Iterator[str]:
    """A server that says this and hangs up."""

    def hang_up(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with answers(hang_up) as address:
        yield address


def test_an_answer_that_breaks_off_is_no_answer(client: Client) -> None:
    with breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") as address, pytest.raises(Unreachable):
        Client(Endpoint(address, TOKEN)).version()


def test_neither_netrc_nor_a_proxy_of_the_environment_gets_in_between(
    api: JobApi, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    with serving(JobApi()) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert client.version() == api.ray
        assert proxy.asked == []
    assert api.headers[-1]["Authorization"] == f"Bearer {TOKEN}"
    with pytest.raises(NotAllowed, match="asks for a token"):
        Client(Endpoint(api.address)).version()
    assert "Authorization" not in api.headers[-1]


# --- submitting


def request(content: bytes = b"zip") -> Request:
    return Request(RUN, "exec raysft train job.yaml", {"A": "1"}, {"raysft": "{}"}, Package(Path("/x"), {}), content)


def test_a_job_is_sent_once_with_its_files(api: JobApi, client: Client) -> None:
    sent = submit(client, request())
    assert (sent.id, sent.attempt) == (f"{RUN}-1", 1)
    assert api.packages == {package_name(b"zip"): b"zip"}
    assert api.jobs[sent.id]["runtime_env"]["env_vars"] == {"A": "1", "RAYSFT_JOB": sent.id}
    api.jobs[sent.id] |= {"status": "FAILED"}
    assert submit(client, request()).id == f"{RUN}-2"
    assert [method for method, _ in api.asked].count("PUT") == 1  # the files are there


def test_a_second_writer_is_refused(api: JobApi, client: Client) -> None:
    submit(client, request())
    for status in ("RUNNING", "PENDING"):
        api.jobs[f"{RUN}-1"]["status"] = status
        with pytest.raises(NotAllowed, match=f"{RUN}-1 is at it already"):
            submit(client, request())
    assert list(api.jobs) == [f"{RUN}-1"]


def test_who_is_faster_has_the_run(api: JobApi, client: Client) -> None:
    def somebody_else(path: str) -> None:
        if path == "/api/jobs/" and api.asked[-1][0] == "POST":
            api.add(f"{RUN}-1")

    api.before = somebody_else
    with pytest.raises(NotAllowed, match="submitted by somebody else just now"):
        submit(client, request())


def test_an_answer_that_is_lost_sends_no_job_twice(api: JobApi, client: Client) -> None:
    """The cluster has taken the job, and the tunnel breaks before it says so."""
    real = client._ask

    def lossy(method: str, path: str, **more: Any) -> Any:
        answer = real(method, path, **more)
        if method == "POST":
            raise Unreachable("no cluster answers", "")
        return answer

    def unheard(method: str, path: str, **more: Any) -> Any:
        if method == "POST":
            raise Unreachable("no cluster answers", "")
        return real(method, path, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_ask", lossy)
        assert submit(client, request()).id == f"{RUN}-1"
        patch.setattr(client, "_ask", unheard)
        api.jobs[f"{RUN}-1"]["status"] = "FAILED"
        with pytest.raises(Unreachable, match=f"whether it has taken job {RUN}-2 is not known"):
            submit(client, request())
    assert list(api.jobs) == [f"{RUN}-1"]


def test_what_a_proxy_says_of_a_job_is_no_answer(api: JobApi, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client._ask

    def behind_a_proxy(method: str, path: str, **more: Any) -> Any:
        answer = real(method, path, **more)
        if method == "POST":
            answer.status_code = 504
        return answer

    monkeypatch.setattr(client, "_ask", behind_a_proxy)
    assert submit(client, request()).id == f"{RUN}-1" in api.jobs


def test_a_job_that_the_cluster_has_not_after_an_error_was_refused(
    api: JobApi, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = client._ask

    def fails(method: str, path: str, **more: Any) -> Any:
        if method != "POST":
            return real(method, path, **more)
        answer = real("GET", "/api/version")
        answer.status_code = 500
        return answer

    monkeypatch.setattr(client, "_ask", fails)
    with pytest.raises(Failing):
        submit(client, request())


def test_ctrl_c_while_a_job_is_sent_tells_how_to_find_it(
    client: Client, api: JobApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = client._ask

    def interrupted(method: str, path: str, **more: Any) -> Any:
        if method == "POST":
            raise KeyboardInterrupt
        return real(method, path, **more)

    monkeypatch.setattr(client, "_ask", interrupted)
    with pytest.raises(Interrupted, match=f"whether the cluster has taken job {RUN}-1 is not known") as told:
        submit(client, request())
    assert f"raysft jobs stop {RUN}-1" in told.value.next_step


def test_runs_with_longer_names_are_others(api: JobApi, client: Client) -> None:
    api.add(f"{RUN}-1-1")
    api.add(f"x-{RUN}-7")
    assert submit(client, request()).attempt == 1


def test_another_ray_is_refused_before_anything_is_sent(api: JobApi, client: Client) -> None:
    api.ray = "2.1.0"
    with pytest.raises(UsageError, match=r"runs Ray 2\.1\.0, this machine has 2\."):
        submit(client, request())
    assert api.packages == {} and api.jobs == {}
    api.ray = JobApi().ray
    refuse_other_ray(client)


def test_a_retry_is_the_same_command_once_more(api: JobApi, client: Client) -> None:
    first = submit(client, request())
    api.jobs[first.id] |= {"status": "FAILED"}
    sent = retry(client, client.job(first.id))
    assert (sent.id, sent.attempt) == (f"{RUN}-2", 2)
    before, after = api.jobs[first.id], api.jobs[sent.id]
    assert after["entrypoint"] == before["entrypoint"] and after["metadata"] == before["metadata"]
    assert after["runtime_env"]["env_vars"] == {"A": "1", "RAYSFT_JOB": f"{RUN}-2"}
    with pytest.raises(NotAllowed, match="is at it already"):
        retry(client, client.job(first.id))
    api.jobs[sent.id] |= {"status": "STOPPED"}
    api.packages.clear()
    with pytest.raises(NotFound, match="are not kept any more"):
        retry(client, client.job(first.id))


def test_a_job_of_another_origin_can_be_tried_again(api: JobApi, client: Client) -> None:
    api.add("mine", "FAILED", metadata=None)
    assert retry(client, client.job("mine")).id == "mine-1"


def test_stopping_waits_until_it_is_over(api: JobApi, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysft.jobs.submit.POLL_S", 0.01)
    api.add(f"{RUN}-1")
    assert stop(client, client.job(f"{RUN}-1")).status == "STOPPED"
    stubborn = api.add(f"{RUN}-2")

    def goes_on(path: str) -> None:
        stubborn["status"] = "RUNNING"

    api.before = goes_on
    with pytest.raises(NotAllowed, match=f"{RUN}-2 was asked to end and has not, in 0 s"):
        stop(client, client.job(f"{RUN}-2"), wait_s=0.05)


def test_stopping_outlives_a_cluster_that_does_not_answer_for_a_moment(
    api: JobApi, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysft.jobs.submit.POLL_S", 0.01)
    api.add(f"{RUN}-1")
    job = client.job(f"{RUN}-1")
    looks = []

    def trouble(path: str) -> None:
        looks.append(path)
        api.instead = (503, "starting", {}) if len(looks) in {2, 3} else None

    api.before = trouble
    assert stop(client, job).status == "STOPPED" and len(looks) == 4
    api.before, api.instead = lambda _: setattr(api, "instead", None if _.endswith("stop") else (503, "x", {})), None
    with pytest.raises(Failing):
        stop(client, job, wait_s=0.05)


# --- finding


def test_a_job_is_found_by_its_id_its_run_or_its_name(api: JobApi, client: Client) -> None:
    for number in (2, 10, 9):
        api.add(f"{RUN}-{number}", "FAILED")
    api.add("alien-3", "FAILED", metadata={})
    assert find_job(client, f"{RUN}-9").id == f"{RUN}-9"
    assert find_job(client, RUN).id == find_job(client, "tiny").id == f"{RUN}-10"
    assert find_job(client, "alien-3").id == "alien-3"
    with pytest.raises(NotFound, match="no job alien on") as refused:
        find_job(client, "alien")
    assert f"{RUN}-10" in refused.value.next_step
    api.add("tiny-tune-11111111-1")
    with pytest.raises(UsageError, match=f"several runs are named tiny: {RUN}, tiny-tune-11111111"):
        find_job(client, "tiny")


@pytest.mark.parametrize("said", ["", "{", "[]", "3", json.dumps({"name": 5})])
def test_what_others_wrote_beside_a_job_is_borne(said: str, api: JobApi, client: Client) -> None:
    api.add("x-1", metadata={"raysft": said})
    job = client.job("x-1")
    assert isinstance(facts_of(job), dict) and isinstance(name_of(job), str) and run_of(job) == "x"
