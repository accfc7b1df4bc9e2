"""What is sent with a job: all that it names and nothing else, laid out so that it runs wherever it is unpacked."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.config import load_job
from raysft.errors import NotAllowed, NotFound, UsageError
from raysft.jobs import package as packaging
from raysft.jobs.needed import can_be_measured, package_of, refuse_elsewhere, sent_arguments
from raysft.jobs.package import Package, package_name, packed
from raysft.preparation.address import data_digest, open_sources
from raysft.preparation.start import base_of

ROWS = "text,label\nmy parcel is late,delivery\ngive me my money,refund\nreset my password,account\n"
HUB = "somebody/some-model"


def write(path: Path, text: str = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def job_file(path: Path, train: str = "rows.csv", base: str = HUB, more: str = "") -> Path:
    """train: YAML."""
    return write(path, f"name: tiny\nmodel: {{base: '{base}'}}\ndata:\n  train: {train}\n{more}")


def sent(path: Path, *arguments: str, storage: str | None = None) -> Package:
    return package_of(load_job(path), arguments, storage)


def unpacked(found: Package, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(found.archive())) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of a model, whose weights nobody loads here."""
    folder = tmp_path_factory.mktemp("base")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        write(folder / name, "{}")
    write(folder / "model.safetensors", "weights")
    return folder


def test_a_file_that_is_gone_when_it_is_packed_is_named(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    found = sent(job_file(tmp_path / "job.yaml"))
    (tmp_path / "rows.csv").unlink()
    with pytest.raises(UsageError, match=r"rows\.csv cannot be read: No such file"):
        found.archive()


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is typed: a folder that has nothing to do with the job."""
    folder = tmp_path / "typed here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_only_what_the_job_names_is_sent(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    for other in ("other.csv", "notes.md", ".env", "results/runs/x/model.bin", "sub/rows.csv", "job2.yaml"):
        write(tmp_path / other, "HF_TOKEN=x")
    found = sent(job_file(tmp_path / "job.yaml"))
    assert found.root == tmp_path and sorted(found.files) == ["job.yaml", "rows.csv"]


Layout = Callable[[Path], tuple[Path, list[str]]]


def beside(root: Path) -> tuple[Path, list[str]]:
    write(root / "rows.csv")
    return job_file(root / "job.yaml"), ["job.yaml", "rows.csv"]


def above(root: Path) -> tuple[Path, list[str]]:
    write(root / "data" / "rows.csv")
    return job_file(root / "jobs" / "deep" / "job.yaml", "../../data/rows.csv"), ["data/rows.csv", "jobs/deep/job.yaml"]


def roundabout(root: Path) -> tuple[Path, list[str]]:
    write(root / "data/rows.csv")
    (root / "x").mkdir()
    return job_file(root / "job.yaml", "./x/../data/./rows.csv"), ["data/rows.csv", "job.yaml"]


def up_and_down_again(root: Path) -> tuple[Path, list[str]]:
    write(root / "project/data/rows.csv")
    job = job_file(root / "project/jobs/job.yaml", "../../project/data/*.csv")
    return job, ["project/data/rows.csv", "project/jobs/job.yaml"]


def globbed(root: Path) -> tuple[Path, list[str]]:
    for name in ("a", "b", ".hidden"):
        write(root / "data" / f"{name}.csv", ROWS.replace("late", name))
    write(root / "data" / "c.md")
    return job_file(root / "job.yaml", "data/*.csv"), ["data/a.csv", "data/b.csv", "job.yaml"]


def listed(root: Path) -> tuple[Path, list[str]]:
    write(root / "a.csv")
    write(root / "b.csv", ROWS.replace("late", "early"))
    write(root / "held out.csv")
    job = job_file(root / "job.yaml", "[a.csv, b.csv, a.csv]", more="  test: held out.csv\n")
    return job, ["a.csv", "b.csv", "held out.csv", "job.yaml"]


def two_files(root: Path) -> tuple[Path, list[str]]:
    write(root / "texts.txt", "a b\nc d\n")
    write(root / "labels" / "of.txt", "x\ny\n")
    job = job_file(root / "job.yaml", "{text: texts.txt, label: labels/of.txt}")
    return job, ["job.yaml", "labels/of.txt", "texts.txt"]


def conll(root: Path) -> tuple[Path, list[str]]:
    write(root / "tagged.conll", "Ada B-PER\nlives O\n\nParis B-LOC\n")
    return job_file(root / "job.yaml", "tagged.conll", more="task: token-classification\n"), [
        "job.yaml",
        "tagged.conll",
    ]


def compressed(root: Path) -> tuple[Path, list[str]]:
    import gzip

    (root / "rows.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    return job_file(root / "job.yaml", "rows.csv.gz"), ["job.yaml", "rows.csv.gz"]


def hostile(root: Path) -> tuple[Path, list[str]]:
    names = ['it\'s "here".csv', "-x y.csv", "größe 表.csv", "a$(b)`c`;d.csv", "new\nline.csv", "back\\slash.csv"]
    for index, name in enumerate(names):
        write(root / "d é'" / name, ROWS.replace("late", f"late{index}"))
    return job_file(root / "d é'" / "my 'job' é.yaml", "'*.csv'"), [*names, "my 'job' é.yaml"]


def from_uri(root: Path) -> tuple[Path, list[str]]:
    write(root / "rows 1.csv")
    return job_file(root / "job.yaml", "file://rows%201.csv"), ["job.yaml", "rows 1.csv"]


def saved_dataset(root: Path) -> tuple[Path, list[str]]:
    import json

    import pyarrow as pa

    table = pa.table({"text": ["a b", "c d", "e"], "label": ["x", "y", "x"]})
    folder = root / "saved set"
    folder.mkdir()
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    write(folder / "state.json", json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    write(folder / "cache-123.arrow", "left over")
    names = ["job.yaml", "saved set/data-00000-of-00001.arrow", "saved set/state.json"]  # no dataset_info.json
    return job_file(root / "job.yaml", "saved set"), names


LAYOUTS = [
    beside,
    above,
    roundabout,
    up_and_down_again,
    globbed,
    listed,
    two_files,
    conll,
    compressed,
    hostile,
    from_uri,
    saved_dataset,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.__name__))
def test_the_packed_job_finds_the_same_data_wherever_it_is_unpacked(
    layout: Layout, tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "here"
    home.mkdir()
    path, names = layout(home)
    base = base_of(load_job(path, [f"model.base={base_folder}"]))
    found = sent(path)
    assert sorted(found.files) == sorted(names)
    folder = unpacked(found, tmp_path / "there")
    before = load_job(path)
    digest = data_digest(before, base, open_sources(before))
    home.rename(tmp_path / "gone")
    monkeypatch.chdir(folder)  # where the cluster runs it
    there = load_job(found.within(path))
    assert there.config == before.config
    assert data_digest(there, base, open_sources(there)) == digest


# --- models


@pytest.mark.parametrize("written", ["../my bases/tiny", "./../my bases/./tiny"])
def test_a_local_base_is_sent_without_what_is_hidden_or_holds_keys(
    written: str, tmp_path: Path, base_folder: Path, away: Path
) -> None:
    folder = shutil.copytree(base_folder, tmp_path / "here/my bases/tiny")
    for name in (".cache/x", ".git/config", "token.txt", "sub/.hidden", "training.env", "1_Pooling/config.json"):
        write(folder / name, "{}")
    write(tmp_path / "here/jobs/rows.csv")
    path = job_file(tmp_path / "here/jobs/job.yaml", base=written)
    found = sent(path)
    mine = {name.removeprefix("my bases/tiny/") for name in found.files if name.startswith("my bases/tiny/")}
    assert mine == {path.name for path in base_folder.iterdir()} | {"1_Pooling/config.json"}
    there = unpacked(found, tmp_path / "there")
    assert base_of(load_job(there / "jobs/job.yaml")).identity == base_of(load_job(path)).identity


def test_a_base_that_is_found_where_the_command_is_typed_is_sent_to_where_the_job_will_look(
    tmp_path: Path, base_folder: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base_folder, away / "bases/tiny")
    write(tmp_path / "here/rows.csv")
    path = job_file(tmp_path / "here/job.yaml", base="bases/tiny")
    found = sent(path)
    assert "bases/tiny/config.json" in found.files and found.root == tmp_path / "here"
    identity = base_of(load_job(path)).identity
    there = unpacked(found, tmp_path / "there")
    monkeypatch.chdir(there)
    assert base_of(load_job("job.yaml")).identity == identity


def test_a_tokenizer_of_a_described_model_is_sent(tmp_path: Path, base_folder: Path) -> None:
    write(tmp_path / "rows.csv")
    shutil.copytree(base_folder, tmp_path / "tok")
    shape = "{tokenizer: ./tok, hidden: 32, layers: 2, heads: 2}"
    text = f"name: tiny\ntask: masked-lm\nmodel:\n  init: {shape}\ndata: {{train: rows.csv}}\n"
    assert "tok/tokenizer.json" in sent(write(tmp_path / "job.yaml", text)).files


def test_a_hub_id_sends_nothing_and_a_missing_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    found = sent(job_file(tmp_path / "job.yaml"))
    assert len(found.files) == 2 and found.folders == ()
    with pytest.raises(NotFound, match="no such folder"):
        sent(job_file(tmp_path / "job.yaml", base="./nothing"))


# --- absolute paths and the storage


@pytest.mark.parametrize("key", ["train", "test", "base", "uri", "home", "mixed", "glob", "label"])
def test_an_absolute_path_of_this_machine_is_refused_with_its_line(
    key: str, tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = write(tmp_path / "rows.csv")
    write(tmp_path / "lines.txt", "a\nb\nc\nd\n")
    path = tmp_path / "job.yaml"
    wanted, line = "data.train", 4
    if key == "train":
        job_file(path, str(rows))
    elif key == "test":
        job_file(path, more=f"  test: {rows}\n")
        wanted, line = "data.test", 5
    elif key == "base":
        job_file(path, base=str(base_folder))
        wanted, line = "model.base", 2
    elif key == "uri":
        job_file(path, f"file://{rows}")
    elif key == "home":
        job_file(path, "~/rows.csv")
    elif key == "glob":
        job_file(path, f"{tmp_path}/*.csv")
    elif key == "label":
        job_file(path, f"{{text: lines.txt, label: {tmp_path}/lines.txt}}")
    else:
        job_file(path, f"[rows.csv, {rows}]")
    for storage in (None, str(tmp_path / "storage")):
        with pytest.raises(UsageError, match="absolute path of this machine") as refused:
            sent(path, storage=storage)
        assert refused.value.message.startswith(f"{path}:{line}: {wanted}: ")


def test_what_lies_on_the_storage_is_not_sent_and_what_lies_beside_the_job_is(
    tmp_path: Path, base_folder: Path
) -> None:
    store = tmp_path / "mnt"
    rows = write(store / "corpora" / "a.csv")
    shutil.copytree(base_folder, store / "bases/tiny")
    write(tmp_path / "here/b.csv", ROWS.replace("late", "early"))
    path = job_file(tmp_path / "here/job.yaml", f"[b.csv, {rows}, '{store}/corpora/*.csv']", base=f"{store}/bases/tiny")
    assert sorted(sent(path, storage=str(store)).files) == ["b.csv", "job.yaml"]


def test_a_relative_path_into_the_storage_is_sent_since_it_would_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "mnt/a.csv")
    path = job_file(tmp_path / "here/job.yaml", "../mnt/a.csv")
    assert sorted(sent(path, storage=str(tmp_path / "mnt")).files) == ["here/job.yaml", "mnt/a.csv"]


def test_a_home_folder_on_the_storage_is_another_on_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "mnt/me"))
    write(tmp_path / "mnt/me/rows.csv")
    with pytest.raises(UsageError, match=r"~/rows\.csv"):
        sent(job_file(tmp_path / "job.yaml", "~/rows.csv"), storage=str(tmp_path / "mnt"))


def test_a_storage_that_this_machine_has_not_is_taken_at_its_word(tmp_path: Path) -> None:
    write(tmp_path / "here/b.csv")
    write(tmp_path / "here/texts.txt", "a\nb\n")
    store = "/there/only"
    entries = f"[{store}/a.csv, b.csv, {{text: texts.txt, label: {store}/labels.txt}}, s3://bucket/x.csv]"
    path = job_file(tmp_path / "here/job.yaml", entries, base=f"{store}/bases/tiny")
    assert sorted(sent(path, storage=store).files) == ["b.csv", "job.yaml", "texts.txt"]
    job = load_job(path)
    assert not can_be_measured(job, store)
    assert can_be_measured(job, str(tmp_path)) and can_be_measured(job, None)
    write(tmp_path / "here/c.csv")
    assert can_be_measured(load_job(job_file(tmp_path / "here/c.yaml", "c.csv")), store)
    with pytest.raises(NotFound, match="no file matches"):
        sent(job_file(tmp_path / "here/d.yaml", f"[{store}/a.csv, missing.csv]"), storage=store)


def test_a_job_on_the_storage_may_name_only_what_is_there(tmp_path: Path, base_folder: Path) -> None:
    store = tmp_path / "mnt"
    write(store / "jobs/rows.csv")
    shutil.copytree(base_folder, store / "tiny")
    fine = job_file(store / "jobs/job.yaml", f"[rows.csv, {store}/jobs/*.csv]", base="../tiny")
    refuse_elsewhere(load_job(fine), str(store))
    refuse_elsewhere(load_job(job_file(store / "jobs/hub.yaml")), str(store))
    for train, base in [("../../rows.csv", HUB), (f"{tmp_path}/rows.csv", HUB), ("rows.csv", str(base_folder))]:
        with pytest.raises(UsageError, match="absolute path of this machine"):
            refuse_elsewhere(load_job(job_file(store / "jobs/bad.yaml", train, base)), str(store))


# --- arguments of the command


def test_files_of_arguments_are_sent_and_named_as_they_lie_there(tmp_path: Path, away: Path) -> None:
    write(tmp_path / "here/jobs/rows.csv")
    path = job_file(tmp_path / "here/jobs/job.yaml")
    write(away / "new 1.csv")
    write(tmp_path / "more/a.csv")
    write(tmp_path / "more/b.csv")
    write(away / "hello", "a file that is named like a text")
    words = ["new 1.csv", "../more/*.csv", "--text", "hello", "--column", "text", "--json", "s3://b/x.csv", "no.csv"]
    found = sent(path, *words)
    assert sorted(found.files) == sorted(
        ["here/jobs/job.yaml", "here/jobs/rows.csv", "typed here/new 1.csv", "more/a.csv", "more/b.csv"]
    )
    there = sent_arguments(words, found, None)
    assert there == ["typed here/new 1.csv", "more/*.csv", *words[2:]]
    folder = unpacked(found, tmp_path / "there")
    assert (folder / there[0]).is_file() and len(list(folder.glob(there[1]))) == 2
    assert sent_arguments(["--data=new 1.csv", ""], found, None) == ["--data=typed here/new 1.csv", ""]


def test_an_argument_that_is_elsewhere_is_refused(tmp_path: Path, away: Path) -> None:
    write(tmp_path / "rows.csv")
    path, other = job_file(tmp_path / "job.yaml"), write(tmp_path / "mnt/x.csv")
    with pytest.raises(UsageError, match="absolute path of this machine"):
        sent(path, str(other))
    found = sent(path, str(other), storage=str(tmp_path / "mnt"))
    assert sorted(found.files) == ["job.yaml", "rows.csv"]
    assert sent_arguments([str(other), "/no/file"], found, None) == [str(other), "/no/file"]
    assert sent_arguments(["../mnt/x.csv"], None, str(tmp_path / "mnt")) == [str(other)]
    with pytest.raises(UsageError, match="not on the storage"):
        sent_arguments(["../rows.csv"], None, str(tmp_path / "mnt"))


# --- links, keys, sizes, bytes


def test_links_are_sent_as_what_they_lead_to_under_their_own_names(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/real.csv")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/rows.csv").symlink_to(tmp_path / "elsewhere/real.csv")
    found = sent(job_file(tmp_path / "here/job.yaml"))
    assert sorted(found.files) == ["job.yaml", "rows.csv"]
    assert (unpacked(found, tmp_path / "there") / "rows.csv").read_text(encoding="utf-8") == ROWS


def test_a_folder_that_is_a_link_leads_up_to_where_it_really_is(tmp_path: Path) -> None:
    write(tmp_path / "real/rows.csv", ROWS.replace("late", "real"))
    write(tmp_path / "seems/rows.csv", ROWS.replace("late", "seems"))
    job_file(tmp_path / "real/jobs/job.yaml", "../rows.csv")
    (tmp_path / "seems/jobs").symlink_to(tmp_path / "real/jobs")
    path = tmp_path / "seems/jobs/job.yaml"
    there = unpacked(sent(path), tmp_path / "there")
    assert "real" in (there / "rows.csv").read_text(encoding="utf-8")
    assert (there / "jobs/job.yaml").is_file()


@pytest.mark.parametrize("name", [".env", "secrets.csv", ".aws/rows.csv", "id_rsa.csv"])
def test_files_that_hold_keys_are_refused_by_name_even_behind_a_link(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    path = job_file(tmp_path / "job.yaml", f"'{name}'", more="  format: csv\n")
    with pytest.raises(NotAllowed, match="holds keys"):
        sent(path)
    (tmp_path / "rows.csv").symlink_to(tmp_path / name)
    with pytest.raises(NotAllowed, match="holds keys"):
        sent(job_file(tmp_path / "job.yaml"))


def test_too_much_is_refused_naming_the_largest(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv")
    path = job_file(tmp_path / "job.yaml", "[rows.csv, large.csv]")
    with (tmp_path / "large.csv").open("w", encoding="utf-8") as file:
        file.write(ROWS)
        file.truncate(packaging.MOST_BYTES + 2**20)
    needed = {each: each for each in (path, tmp_path / "rows.csv", tmp_path / "large.csv")}
    with pytest.raises(UsageError, match=r"101 MiB would be sent with the job, at most 100; .*large\.csv"):
        packed(needed)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    name = os.fsdecode(b"r\xffs.csv")
    write(tmp_path / name)
    with pytest.raises(UsageError, match="not UTF-8"):
        packed({tmp_path / name: tmp_path / name})


def test_the_same_files_are_the_same_bytes_and_others_are_not(tmp_path: Path) -> None:
    def archive(folder: Path, rows: str = ROWS) -> bytes:
        write(folder / "rows.csv", rows)
        return sent(job_file(folder / "job.yaml")).archive()

    first = archive(tmp_path / "a")
    os.utime(tmp_path / "a/rows.csv", (1, 1))
    (tmp_path / "a/rows.csv").chmod(0o600)
    assert sent(tmp_path / "a/job.yaml").archive() == first == archive(tmp_path / "b c")
    other = archive(tmp_path / "d", ROWS + "one more,refund\n")
    assert package_name(first) == package_name(archive(tmp_path / "e")) != package_name(other)
    assert package_name(first).startswith("_ray_pkg_") and package_name(first).endswith(".zip")


PART = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)


@given(st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), min_size=1, max_size=4, unique=True))
def test_any_name_survives_the_archive(names: list[str]) -> None:
    root = Path("/tmp/x")
    places = {f"j/{name}": Path(__file__) for name in names}
    with zipfile.ZipFile(io.BytesIO(Package(root, places).archive())) as archive:
        assert sorted(archive.namelist()) == sorted(places)
    for name in names:
        assert Package(root, {}).within(root / name) in {name, f"./{name}"}
