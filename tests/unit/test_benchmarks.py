"""The benchmark scripts work, at sizes that take seconds; tests/ray has the one that needs Ray. No figure is judged."""

from __future__ import annotations

import csv
import importlib
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raysft.config import load_job
from tests.support.benchmarks import SCRIPTS, as_scripts, run, run_here, table
from tests.support.jobs import corpus_rows


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def parts() -> Iterator[Any]:
    """Import a module of benchmarks/ as the scripts do."""
    with as_scripts():
        yield importlib.import_module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files with the columns of Banking77."""
    folder = tmp_path_factory.mktemp("banking77")
    for part, rows in (("train", corpus_rows(60, 0)), ("test", corpus_rows(40, 1))):
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *((row["text"], row["label"]) for row in rows)])
    return folder


def test_every_script_explains_itself() -> None:
    assert len(SCRIPTS) == 11
    for script in SCRIPTS:
        assert "usage: " + script.name in run_here(script.name, "--help")


def test_corpora_are_the_same_each_time_and_as_long_as_said(
    parts: Any, data: Path, base_folder: Path, tmp_path: Path
) -> None:
    from raysft.corpus.encode import encode_texts

    corpora, counts = parts("corpora"), {"train": 30, "test": 20}
    for name in corpora.CORPORA:
        found = []
        for again in ("first", "second"):
            folder = tmp_path / name / again
            folder.mkdir(parents=True)
            corpora.write_corpus(name, data, counts, 60, str(base_folder), folder)
            found.append({part: corpora.read(folder / f"{part}.csv") for part in counts})
        assert found[0] == found[1]
        assert {part: len(rows) for part, rows in found[0].items()} == counts
        assert {label for _, label in found[0]["test"]} <= {label for _, label in found[0]["train"]}
        ids, _ = encode_texts([text for text, _ in found[0]["train"]], base_folder / "tokenizer.json", 60)
        assert name == "banking77" or (min(map(len, ids)) >= 20 and max(map(len, ids)) > 40)


def test_engines_train_and_are_scored_on_the_same_rows(data: Path, base_folder: Path) -> None:
    few = ("--rows", 48, 48, "--held-out", 20, "--epochs", 1, "--longest", 60)
    engines = ("trainer", "loop-recipe")
    found = table(
        run_here("train_cpu.py", "--data", data, "--base", base_folder, "--corpora", "joined", *few, "--only", *engines)
    )
    assert [row["engine"] for row in found] == list(engines)
    assert {(row["rows"], row["n"]) for row in found} == {("48", "20")}
    assert found[0]["ratio"] == "1.00" and all(float(row["examples/s"]) > 0 for row in found)


def test_memory_and_seconds_of_an_engine_are_measured(parts: Any, tmp_path: Path) -> None:
    """It holds 200 MiB for half a second; Python itself has some 10 MiB."""
    script = tmp_path / "engine.py"
    script.write_text("import time\nheld = bytearray(b'x') * 2**20 * 200\ntime.sleep(0.5)\nprint('{\"speed\": 3}')\n")
    found = parts("process").measure(str(script), pss=True)
    assert found["speed"] == 3 and 0.5 < found["all"] < 30
    assert 200 * 2**20 < found["pss"] <= found["rss"] < 300 * 2**20


def test_the_bare_loop_and_the_engine_end_with_the_same_weights(parts: Any, tmp_path: Path) -> None:
    """To the bit: else the two would not do the same work."""
    (row,) = table(run("step_overhead.py", "--size", "tiny", "--pairs", 2, "--block", 3, "--workers", 2))
    assert (row["workers"], row["pairs"], row["weights differ"]) == ("2", "2", "0.0e+00")
    overhead = parts("step_overhead")
    overhead.alternate(0, 1, Namespace(size="tiny", pairs=2, block=3), tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["difference"] == 0 and len(found["bare"]) == len(found["engine"]) == 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_language_models_start_with_the_same_loss(method: str) -> None:
    """The script fails where the losses differ; random weights guess among 512 tokens: ln 512 = 6.24."""
    few = ("--methods", method, "--steps", 1, "--warmup", 1, "--tokens", 32, "--peak", 1e12)
    found = table(run_here("train_gpu.py", "--sizes", "tiny", "--device", "cpu", "--only", "trainer", "raysft", *few))
    assert [row["engine"] for row in found] == ["trainer", "raysft"]
    assert all(float(row["first loss"]) == pytest.approx(6.24, abs=0.1) for row in found)
    assert len({row["trained"] for row in found}) == 1


def test_parameters_are_those_published(parts: Any) -> None:
    """Llama 3.2 1B and Llama 3.1 8B have 1,235,814,400 and 8,030,261,248, norms (2 a layer and 1) included."""
    sizes = parts("llama").SIZES
    assert sizes["1b"].parameters + 33 * 2048 == 1_235_814_400
    assert sizes["8b"].parameters + 65 * 4096 == 8_030_261_248


def test_work_is_that_of_the_paper(parts: Any) -> None:
    """PaLM, appendix B: 6 N + 12 L H Q T a token; of rows of 3 and 5 tokens: 8 tokens, 9 + 25 squares."""
    size = parts("llama").SIZES["tiny"]
    attention = 12 * 2 * 4 * 16 * (3 * 3 + 5 * 5)
    assert size.work("full", 8, 34) == 6 * size.matrices * 8 + attention
    assert size.work("lora", 8, 34) == 4 * size.matrices * 8 + attention


def test_packing(tmp_path: Path) -> None:
    """The script itself compares the loss of the first batch, packed and padded."""
    folder = tmp_path / "grade_school_math" / "data"
    folder.mkdir(parents=True)
    rows = [{"question": row["text"] * (at % 5 + 1), "answer": row["label"]} for at, row in enumerate(corpus_rows(160))]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = table(run_here("packing.py", "--data", tmp_path, "--rows", 160, "--pairs", 1, "--block", 1))
    assert [each["batches"] for each in found] == ["random", "bucketed", "packed"] and found[0]["ratio"] == "1.00"


def test_scan_reads_its_rows_and_prints_its_table(tmp_path: Path, parts: Any) -> None:
    """Training on them takes half an hour; that a job of answers runs, tests/ray/test_tasks.py shows."""
    scan = parts("scan")
    (tmp_path / "rows.txt").write_text("IN: jump twice OUT: I_JUMP I_JUMP\n", encoding="utf-8")
    scan.write_rows(tmp_path / "rows.txt", tmp_path / "rows.jsonl")
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"prompt": "jump twice", "completion": "I_JUMP I_JUMP"}
    (tmp_path / "job.yaml").write_text(scan.JOB.format(epochs=3), encoding="utf-8")
    assert load_job(tmp_path / "job.yaml").config.train.epochs == 3
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    measures = dict.fromkeys(("exact_match", "token_f1", "loss"), score)
    result = {"metrics": {"test": measures}, "training": {"groups": [{"parameters": 1000}, {"parameters": 234}]}}
    (line,) = table(scan.table(result, 3, 12.4))
    assert line["parameters"] == "1,234" and line["exact match"] == "0.5000 [0.4000, 0.6000]"
    assert line["minutes, all"] == "12"


def test_wnut17_prints_its_table(tmp_path: Path, parts: Any) -> None:
    """That a job of entities runs, tests/ray/test_tasks.py shows."""
    wnut = parts("wnut17")
    (tmp_path / "job.yaml").write_text(wnut.JOB, encoding="utf-8")
    assert load_job(tmp_path / "job.yaml", ["train.seed=2", "name=seed-2"]).config.train.layer_decay == 0.8

    def part(value: float) -> dict[str, dict[str, float]]:
        return {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name in wnut.MEASURES}

    found = {1: {"validation": part(0.5), "test": part(0.4)}, 2: {"validation": part(0.6), "test": part(0.3)}}
    first, _, means = table(wnut.table(found))
    assert (first["seed"], first["validation F1"], first["test F1"]) == (
        "1",
        "0.500 [0.400, 0.600]",
        "0.400 [0.300, 0.500]",
    )
    assert (means["seed"], means["validation F1"], means["test F1"], means["test macro-F1"]) == (
        "mean",
        "0.550",
        "0.350",
        "0.350",
    )


def test_a_part_of_the_folds_is_projected_beside_raysft(parts: Any, tmp_path: Path, capsys: Any) -> None:
    """Of 100 s, 40 s of folds in each of two slots come five times: 260 s, of which 200 s each are busy."""
    setup = {"rows": 385, "rates": [1e-5, 4e-5], "batches": [16], "folds": 5, "epochs": 6}
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    tuned = {
        "trials": [{"settings": {}, "folds_done": 5}, {"settings": {}, "folds_done": 1}],
        "chosen": {
            "settings": {"train.learning_rate": 4e-5, "train.batch_size": 16},
            "out_of_fold": {"f1_macro": score},
        },
        "timing": {"total_s": 130, "refit_s": 10, "busy_s": 216, "slots": 2},
        "metrics": {"test": {"accuracy": score}},
    }
    results = {"trainer": (100, {"slots": 2}, 1), "raysft": (140, tuned, 5)}
    for engine, (seconds, found, share) in results.items():
        (tmp_path / engine).mkdir()
        result = {"engine": engine, "setup": {**setup, "share": share}, "all_s": seconds, "found": found}
        (tmp_path / engine / "result.json").write_text(json.dumps(result), encoding="utf-8")
    lines = [json.dumps({"train_s": 39, "evaluate_s": 1, "fold_s": 40})] * 2
    (tmp_path / "trainer" / "folds.jsonl").write_text("\n".join(lines), encoding="utf-8")
    parts("sweep").print_table([tmp_path])
    peer, ours = table(capsys.readouterr().out)
    assert peer["wall s"] == "260 (x5 from one fold of each configuration)" and peer["ratio"] == "2.00"
    assert peer["idle"] == "23%" and peer["folds"] == "2" and peer["test accuracy"] == "-"
    assert ours["wall s"] == "130" and ours["ratio"] == "1.00" and ours["folds"] == "6" and ours["idle"] == "17%"
    assert ours["chosen: rate, batch"] == "4e-05, 16" and ours["test accuracy"] == "0.500 [0.400, 0.600]"
