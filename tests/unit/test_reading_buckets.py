"""Files in buckets. S3 is tried against a real server on this machine; of the others only what needs no account."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from raysft.config.sections import DataSection
from raysft.errors import DataError, NotAllowed, NotFound, RaysftError
from raysft.reading.buckets import remote
from raysft.reading.records import header
from raysft.reading.sources import Source, find_sources, fingerprint, size_bytes
from raysft.reading.trouble import trouble
from tests.support.reading import seen, source

TABLE = b"text,label\na,x\nb,y\n"
ROWS = [(2, "a", "x", None), (3, "b", "y", None)]
NO_SERVER = "moto[server], a server that speaks S3, is not installed"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason=NO_SERVER)
    pytest.importorskip("flask", reason=NO_SERVER)
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    yield "{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file system of an S3 whose bucket `corpora` is empty, and to which AWS_ENDPOINT_URL points."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    system = fs.S3FileSystem(endpoint_override=server, scheme="http", region="us-east-1", allow_bucket_creation=True)
    system.create_dir("corpora")
    system.delete_dir_contents("corpora")
    return system


def put(system: Any, key: str, content: bytes) -> str:
    with system.open_output_stream(f"corpora/{key}", compression=None) as stream:
        stream.write(content)
    return f"s3://corpora/{key}"


def find(path: str | dict[str, str]) -> list[Source]:
    return find_sources(DataSection.model_validate({"train": path}), Path("/"), str)


@pytest.mark.parametrize("key", ["rows.csv", "deep/er/rows.csv", 'it\'s "so" #1 50%20.csv', "ünï 🙂.csv", "a?.csv"])
def test_a_file_is_read(bucket: Any, key: str) -> None:
    path = put(bucket, key, TABLE)
    (found,) = find(path)
    assert (found.path, found.format, size_bytes(found)) == (path, "csv", len(TABLE))
    assert header(found) == ["text", "label"] and seen(found) == ROWS


def test_every_format_is_read(bucket: Any) -> None:
    put(bucket, "a.csv.gz", gzip.compress(TABLE))
    put(bucket, "b.jsonl", b'{"text": "a", "label": "x"}\n')
    table = pa.table({"text": ["a"], "label": ["x"]})
    pq.write_table(table, "corpora/c.parquet", filesystem=bucket)
    with bucket.open_output_stream("corpora/d.arrow") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    found = find("s3://corpora/*.*")
    assert [each.format for each in found] == ["csv", "jsonl", "parquet", "arrow"]
    assert [seen(each)[0][1:] for each in found] == [("a", "x", None)] * 4
    put(bucket, "label", b"y\n")
    (pair,) = find({"text": put(bucket, "seq.in", b"b\n"), "label": "s3://corpora/label"})
    assert seen(pair) == [(1, "b", "y", None)]


def test_a_saved_dataset_is_read(bucket: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the package `datasets`, which writes such folders, is not here")
    datasets.Dataset.from_list([{"text": "a", "label": "x"}]).save_to_disk(tmp_path / "saved")
    fs.copy_files(str(tmp_path / "saved"), "corpora/saved", destination_filesystem=bucket)
    (found,) = find("s3://corpora/saved")
    assert found.format == "arrow" and seen(found) == [(1, "a", "x", None)]
    assert fingerprint(found) == fingerprint(found)


def test_globs(bucket: Any) -> None:
    for key in ("a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv", ".hidden.csv", "e.tsv"):
        put(bucket, key, TABLE)

    def names(pattern: str) -> list[str]:
        return [each.path.removeprefix("s3://corpora/") for each in find(f"s3://corpora/{pattern}")]

    assert names("*.csv") == ["a.csv", "b.csv"]
    assert names("[!a].csv") == names("[b-z].csv") == ["b.csv"]
    assert names("?.csv") == ["a.csv", "b.csv"]
    assert names("s*/*.csv") == names("*/c.csv") == ["sub/c.csv"]
    assert names("**/*.csv") == ["a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv"]
    assert names("sub/**/d.*") == ["sub/deep/d.csv"]
    with pytest.raises(NotFound, match=r"no file matches s3://corpora/\*\.json") as caught:
        find("s3://corpora/*.json")
    assert "a.csv, b.csv" in caught.value.next_step


def test_the_endpoint_in_the_uri_counts(bucket: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "a.csv", TABLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for query in (f"endpoint_override={server}&scheme=http", f"region=eu-west-1&endpoint_override=http://{server}"):
        (found,) = find(f"s3://corpora/*.csv?{query}")
        assert found.path == f"s3://corpora/a.csv?{query}"
        assert seen(found) == ROWS


def test_the_fingerprint_changes_with_the_content(bucket: Any) -> None:
    (found,) = find(put(bucket, "a.csv", TABLE))
    before = fingerprint(found)
    assert fingerprint(found) == before
    put(bucket, "a.csv", TABLE.replace(b"a", b"c"))
    assert fingerprint(found) != before


def test_damage_is_told(bucket: Any) -> None:
    content = gzip.compress(TABLE + b"a,x\n" * 10_000)
    (found,) = find(put(bucket, "a.csv.gz", content[:-4]))
    with pytest.raises(DataError, match="damaged or cut short after line"):
        seen(found)


def test_what_is_not_there_is_told_apart(bucket: Any) -> None:
    put(bucket, "a.csv", TABLE)
    with pytest.raises(NotFound, match=r"no file matches s3://corpora/b\.csv") as caught:
        find("s3://corpora/b.csv")
    assert caught.value.next_step == "Files there: a.csv"
    for path in ("s3://nobucket/a.csv", "s3://nobucket/*.csv"):
        with pytest.raises(NotFound) as caught:
            find(path)
        assert caught.value.next_step == "There is no such bucket."
    put(bucket, "empty.csv", b"")
    for path, said in (("empty.csv", "the file is empty"), ("", "a folder, and not one"), ("a", "no file matches")):
        with pytest.raises((DataError, NotFound), match=said):
            find(f"s3://corpora/{path}")
    with pytest.raises(NotFound):
        header(source("s3://corpora/gone.csv"))


class Forbidding(BaseHTTPRequestHandler):
    """A storage that lets nobody in."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests print nothing."""


@pytest.mark.parametrize("path", ["a.csv", "*.csv"])
def test_without_a_right_to_read_it_is_refused_with_what_to_set(path: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(NotAllowed, match="the storage refuses") as caught:
                query = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&anonymous=true"
                find(f"s3://corpora/{path}?{query}")
        finally:
            server.shutdown()
    assert "AWS_ACCESS_KEY_ID" in caught.value.next_step


@pytest.mark.timeout(60)  # attempts are few and short
def test_a_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(NotFound, match="cannot be reached") as caught:
        find("s3://corpora/a.csv?endpoint_override=127.0.0.1:1&scheme=http")
    assert "endpoint_override" in caught.value.next_step


REFUSED = {
    "s3:///a.csv": "no bucket is named",
    "s3://key:secret@corpora/a.csv": "a secret does not belong",
    "s3://corpora/a.csv?secret_key=abc": "a secret does not belong",
    "abfs://corpora@account.dfs.core.windows.net/a.csv?client_secret=abc": "a secret does not belong",
    "s3://corpora/a.csv?endpoint=x": "unknown option 'endpoint'",
    "hdfs://host/a.csv": "cannot read hdfs://",
    "https://host/a.csv": "cannot read https://",
    "gs://corpora/a.csv?retry_limit_seconds=soon": "cannot be read",
    "abfs://corpora@account.dfs.core.windows.net/a.csv?region=x": "cannot be read",
}


@pytest.mark.parametrize(("path", "said"), REFUSED.items())
def test_what_cannot_be_used_is_refused_without_showing_a_secret(path: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        find(path)
    assert "abc" not in str(caught.value) and ":secret" not in str(caught.value)


def test_other_clouds_are_resolved_to_their_file_system_and_path() -> None:
    for uri, kind, path in (
        ("gs://corpora/my rows/a*.csv", fs.GcsFileSystem, "corpora/my rows/a*.csv"),
        ("gs://anonymous@corpora/a.csv", fs.GcsFileSystem, "corpora/a.csv"),
        ("abfs://corpora@account.dfs.core.windows.net/a b/c.csv", fs.AzureFileSystem, "corpora/a b/c.csv"),
        ("abfss://corpora@account.dfs.core.windows.net/c.csv", fs.AzureFileSystem, "corpora/c.csv"),
        ("abfs://account.dfs.core.windows.net/corpora/c.csv", fs.AzureFileSystem, "corpora/c.csv"),
    ):
        found = remote(uri)
        assert isinstance(found.system, kind)
        assert (found.path, found.shown) == (path, uri)
        assert found.child("x").shown == f"{uri}/x"


def test_a_cloud_that_cannot_be_reached_is_one_of_our_errors() -> None:
    with pytest.raises(NotFound, match="cannot be reached"):
        find("gs://anonymous@corpora/a.csv?endpoint_override=127.0.0.1:1&scheme=http&retry_limit_seconds=1")


SAID: list[tuple[str, str, type[RaysftError]]] = [
    ("s3://b/k", "AWS Error ACCESS_DENIED during HeadObject operation: No response body.", NotAllowed),
    ("s3://b/k", "AWS Error UNKNOWN (HTTP status 403) during GetObject operation", NotAllowed),
    ("s3://b/k", "AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation", NotFound),
    ("s3://b/k", "AWS Error NETWORK_CONNECTION: curlCode: 28, Timeout was reached", NotFound),
    ("gs://b/k", "google::cloud::Status(PERMISSION_DENIED: Permission denied)", NotAllowed),
    ("gs://b/k", "UNAVAILABLE: Could not create a OAuth2 access token to authenticate the request", NotAllowed),
    ("abfs://c@a.dfs.core.windows.net/k", "Failed to get token from DefaultAzureCredential.", NotAllowed),
    ("abfs://c@a.dfs.core.windows.net/k", "ContainerNotFound", NotFound),
    ("s3://b/k", "something else", DataError),
]


@pytest.mark.parametrize(("path", "said", "kind"), SAID)
def test_what_clouds_say_becomes_an_error_with_a_next_step(path: str, said: str, kind: type[RaysftError]) -> None:
    found = trouble(path, OSError(said))
    assert type(found) is kind and said in found.message and found.next_step
