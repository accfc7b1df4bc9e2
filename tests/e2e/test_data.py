"""`raysft data` as people use it: real corpora as they were published, object storage, the page in a real browser."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.browser import open_page
from tests.support.jobs import corpus_rows, run_cli, run_here, write_base, write_csv, write_job
from tests.support.reading import NO_CORPORA

CORPORA = Path(__file__).parents[2] / "../shared/data"
BANKING = CORPORA / "banking77/banking_data"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def prepare(folder: Path, job: dict[str, Any], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Write the job, run `raysft data --json` on it, give what it says."""
    path = folder / "job.json.yaml"  # JSON is YAML
    path.write_text(json.dumps({"name": "real", "output": str(folder / "out"), **job}), encoding="utf-8")
    done = run_here("data", path, "--json", **(environment or {}))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    rows = found["audit"]["rows"]
    assert rows["read"] == rows["kept"] + sum(rows["rejected"].values()) + sum(rows["quarantined"].values())
    assert all(check["crossing"] == 0 for check in found["audit"]["proof"] if "your files" not in check["what"])
    return found


def finding(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in found["audit"]["findings"] if each["name"] == name)


@pytest.mark.skipif(not BANKING.is_dir(), reason=NO_CORPORA)
def test_banking77(tmp_path: Path) -> None:
    """What is known of it is found: 4 texts twice in train, 7 of test in train, some labels that are wrong."""
    data = {
        "train": str(BANKING / "train.csv"),
        "test": str(BANKING / "test.csv"),
        "audit": {"wrong_labels_rows": 1500},
    }
    found = prepare(tmp_path, {"model": {"base": MINILM}, "data": data})
    audit = found["audit"]
    assert audit["rows"]["rejected"] == {"leakage": 7, "duplicate": 4}
    assert (audit["columns"]["text"], audit["columns"]["label"]) == ("text", "category")
    assert len(found["labels"]) == 77 and audit["rows"]["read"] == 10_003 + 3_080
    assert next(iter(audit["language"]["shares"])) == "en"
    assert audit["wrong_labels"]["looked_at"] == 1500 and 10 < finding(found, "wrong_labels")["found"] < 600
    assert finding(found, "near_leakage")["found"] > 100
    page = open_page(Path(found["page"]), tmp_path)
    for expected in ("Probably wrong labels", "card_arrival", "13,083", "Rather"):
        assert expected in page or expected.lower() in page.lower(), expected


@pytest.mark.skipif(not (CORPORA / "wnut17").is_dir(), reason=NO_CORPORA)
def test_wnut17(tmp_path: Path) -> None:
    folder = CORPORA / "wnut17"
    data = {
        "train": str(folder / "wnut17train.conll"),
        "validation": str(folder / "emerging.dev.conll"),
        "test": str(folder / "emerging.test.annotated"),
        "format": "conll",
    }
    found = prepare(tmp_path, {"task": "token-classification", "model": {"base": MINILM}, "data": data})
    assert found["audit"]["rows"]["read"] == 3394 + 1009 + 1287
    assert found["labels"] == ["corporation", "creative-work", "group", "location", "person", "product"]
    rows = pq.read_table(Path(found["folder"]) / "corpus/test.parquet").to_pylist()
    named = [(row["text"][start:end], kind) for row in rows for start, end, kind in json.loads(row["label"])]
    assert ("Sonmarg", "location") in named


@pytest.mark.skipif(not (CORPORA / "gsm8k").is_dir(), reason=NO_CORPORA)
def test_gsm8k(tmp_path: Path) -> None:
    folder = CORPORA / "gsm8k/grade_school_math/data"
    data = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
    model = {"base": MINILM, "max_length": 512}
    found = prepare(tmp_path, {"task": "generation", "model": model, "data": data})
    assert found["audit"]["rows"] == {"read": 8792, "kept": 8792, "rejected": {}, "quarantined": {}}
    assert (found["audit"]["columns"]["text"], found["audit"]["columns"]["label"]) == ("question", "answer")


@pytest.mark.skipif(not (CORPORA / "hint3_v1").is_dir(), reason=NO_CORPORA)
@pytest.mark.parametrize("bot", ["curekart", "powerplay11", "sofmattress"])
def test_hint3(tmp_path: Path, bot: str) -> None:
    """Its test files hold a label for questions that no intent answers; the person decides what becomes of those."""
    folder = CORPORA / "hint3_v1"
    data: dict[str, Any] = {"train": str(folder / f"train/{bot}_train.csv")}
    data["test"] = str(folder / f"test/{bot}_test.csv")
    data["audit"] = {"unseen_labels": "drop", "max_rejected": "80%"}
    found = prepare(tmp_path, {"model": {"base": MINILM}, "data": data})
    assert found["audit"]["columns"]["text"] == "sentence"
    assert found["audit"]["rows"]["rejected"]["unseen_label"] > 100
    assert finding(found, "drift")["level"] == "warning"


@pytest.mark.skipif(not (CORPORA / "banking77_fewshot").is_dir(), reason=NO_CORPORA)
def test_parallel_line_files(tmp_path: Path) -> None:
    folder = CORPORA / "banking77_fewshot/Datasets/BANKING77"
    pair = {
        part: {"text": str(folder / part / "seq.in"), "label": str(folder / part / "label")}
        for part in ("train_5", "valid")
    }
    data = {"train": pair["train_5"], "validation": pair["valid"], "audit": {"wrong_labels": "off"}}
    found = prepare(tmp_path, {"model": {"base": MINILM}, "data": data})
    assert (
        found["audit"]["parts"] == {"train": 328, "validation": 1540, "test": 57}
        or sum(found["audit"]["parts"].values()) == found["audit"]["rows"]["kept"]
    )
    assert found["audit"]["parts"]["validation"] == 1540


@pytest.fixture
def bucket() -> Iterator[str]:
    """An S3 server on loopback with an empty bucket `corpora`; its address."""
    boto3 = pytest.importorskip("boto3", reason="boto3, which talks to the S3 server of the test, is not installed")
    moto = pytest.importorskip("moto.server", reason="moto, a server that speaks S3, is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **keys)
    client.create_bucket(Bucket="corpora")
    client.put_object(Bucket="corpora", Key="a b/rows.csv.gz", Body=gzip.compress(_csv(corpus_rows(200)).encode()))
    client.put_object(Bucket="corpora", Key="a b/more.csv", Body=_csv(corpus_rows(260)[200:]).encode())
    yield address
    server.stop()


def _csv(rows: list[dict[str, str]]) -> str:
    return "\n".join(["text,label,customer", *(",".join(row.values()) for row in rows)]) + "\n"


def test_a_corpus_in_a_bucket(bucket: str, base: Path, tmp_path: Path) -> None:
    environment = {
        "AWS_ENDPOINT_URL": bucket,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    data = {"train": "s3://corpora/a b/*", "group": "customer"}
    job = {"model": {"base": str(base), "max_length": 32}, "data": data}
    found = prepare(tmp_path, job, environment)
    assert found["audit"]["rows"]["read"] == 260
    assert [each["path"] for each in found["audit"]["sources"]] == [
        "s3://corpora/a b/more.csv",
        "s3://corpora/a b/rows.csv.gz",
    ]
    assert prepare(tmp_path, job, environment)["reused"]


def test_the_table_in_the_terminal_and_the_second_look(base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, base, [*corpus_rows(200), *corpus_rows(5)])
    first = run_cli("data", job)
    assert first.returncode == 0, first.stderr
    assert "duplicate" in first.stdout.lower() and "audit.html" in first.stdout
    second = run_cli("data", job)
    assert "prepared before" in second.stderr and second.stdout == first.stdout


def test_a_quarantined_row_is_mended_and_handed_in_again(base: Path, tmp_path: Path) -> None:
    """The way back: mend quarantine.csv, name it beside the corpus, and the rows are kept."""
    rows = corpus_rows(200)
    other = next(label for label in ("refund", "account") if label != rows[0]["label"])
    job = write_job(tmp_path, base, [*rows, {**rows[0], "label": other}])
    first = json.loads(run_here("data", job, "--json").stdout)
    assert first["audit"]["rows"]["quarantined"] == {"conflicting_labels": 2}
    aside = (Path(first["folder"]) / "quarantine.csv").read_text(encoding="utf-8").splitlines()
    assert len(aside) == 3
    write_csv(tmp_path / "rows.csv", rows[1:])
    mended = [{"text": rows[0]["text"], "label": rows[0]["label"], "customer": rows[0]["customer"]}]
    write_csv(tmp_path / "mended.csv", mended)
    again = run_here("data", job, "--json", "--set", "data.train=[rows.csv, mended.csv]")
    assert json.loads(again.stdout)["audit"]["rows"] == {"read": 200, "kept": 200, "rejected": {}, "quarantined": {}}
