"""Data preparation beside its peers: rows per second and peak memory, CSV in, token ids out, one after the other.

    python benchmarks/data.py [--rows 10000 100000 1000000] [--data FOLDER]

Each engine prepares the same file in a process of its own. `work` leaves out what a process does before it knows the
file (imports, ray.init); `all` is from the start of the process to its end. Memory is summed over the process and all
its descendants, sampled ten times a second: RSS (shared pages count once a process) and PSS (they count once).
The peers read, tokenize and write; raysft also checks every row, finds repeats, and splits into folds.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from process import measure

DATA = Path(__file__).parents[1] / "../shared/data/banking77/banking_data"
JOB = """\
name: bench
data:
  train: rows.csv
  text: text
  label: category
  engine: {engine}
  audit: {{similarity: {similarity}, wrong_labels: off, max_rejected: 50%}}
output: {output}
"""
BASE = "sentence-transformers/all-MiniLM-L6-v2"
MAX_LENGTH = 128
LIMIT_ROWS = 100_000


def main() -> None:
    """Measure every engine at every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train.csv of Banking77")
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--engine", choices=list(ENGINES), help="internal: one engine in this process")
    parser.add_argument("--folder", type=Path, help="internal")
    arguments = parser.parse_args()
    if arguments.engine:
        started = time.perf_counter()
        seconds = ENGINES[arguments.engine](arguments.folder)
        print(json.dumps({"work": seconds, "inside": time.perf_counter() - started}))
        return
    if not (arguments.data / "train.csv").is_file():
        raise SystemExit(f"{arguments.data}/train.csv is not there; name the folder of Banking77 with --data")
    print("| rows | engine | work s | rows/s (work) | all s | rows/s (all) | peak RSS MiB | peak PSS MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for rows in arguments.rows:
        for engine in arguments.only:
            with tempfile.TemporaryDirectory() as name:
                amplify(arguments.data / "train.csv", Path(name) / "rows.csv", rows)
                found = measure(__file__, "--engine", engine, "--folder", name, pss=True)
                print(line(rows, engine, found), flush=True)


def line(rows: int, engine: str, found: dict[str, float]) -> str:
    work, all_ = found["work"], found["all"]
    return (
        f"| {rows:,} | {engine} | {work:.1f} | {rows / work:,.0f} | {all_:.1f} | {rows / all_:,.0f} "
        f"| {found['rss'] / 2**20:,.0f} | {found['pss'] / 2**20:,.0f} |"
    )


def amplify(source: Path, target: Path, rows: int) -> None:
    """Rows of Banking77 again and again; each text but those of the first round ends with a number of its own."""
    with source.open(encoding="utf-8", newline="") as file:
        known = list(csv.reader(file))[1:]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        for number in range(rows):
            text, label = known[number % len(known)]
            writer.writerow([text if number < len(known) else f"{text} {number}", label])


def tokenizer_file() -> Path:
    from raysft.storage.pretrained import resolve_base

    return resolve_base(BASE).folder / "tokenizer.json"


def texts_of(folder: Path) -> list[str]:
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as file:
        return [row[0] for row in list(csv.reader(file))[1:]]


def limit(folder: Path) -> float:
    """Encoding alone, of texts that are in memory: what no preparation with this tokenizer can beat on its threads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file()))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    texts = texts_of(folder)
    tokenizer.encode_batch_fast(texts[:1000])
    started = time.perf_counter()
    for start in range(0, len(texts), 4000):
        tokenizer.encode_batch_fast(texts[start : start + 4000])
    return time.perf_counter() - started


def peer_datasets(folder: Path) -> float:
    """Hugging Face datasets: load_dataset, map in two processes, Parquet."""
    from datasets import Features, Value, load_dataset
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file()))
    features = Features({"text": Value("string"), "category": Value("string")})
    started = time.perf_counter()
    rows = load_dataset(
        "csv", data_files=str(folder / "rows.csv"), split="train", cache_dir=str(folder / "cache"), features=features
    )
    done = rows.map(
        lambda batch: {"input_ids": tokenizer(batch["text"], truncation=True, max_length=MAX_LENGTH)["input_ids"]},
        batched=True,
        num_proc=2,
        remove_columns=["text"],
    )
    done.to_parquet(str(folder / "out.parquet"))
    return time.perf_counter() - started


class Tokenize:
    """The actor of a Ray Data script as one writes it."""

    def __init__(self, file: str) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(file)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_LENGTH)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = self.tokenizer.encode_batch_fast(list(batch["text"]))
        return {"category": batch["category"], "input_ids": [each.ids for each in found]}


def peer_ray(folder: Path) -> float:
    """Ray Data: read_csv, map_batches with two actors, write_parquet. Half a CPU each, or the readers starve."""
    import ray

    ray.init(address="local", include_dashboard=False, logging_level="error", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    rows = ray.data.read_csv(str(folder / "rows.csv"))
    done = rows.map_batches(
        Tokenize,
        fn_constructor_args=(str(tokenizer_file()),),
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,
        batch_size=1024,
    )
    done.write_parquet(str(folder / "out"))
    spent = time.perf_counter() - started
    ray.shutdown()
    return spent


def ours(engine: str, similarity: float) -> Callable[[Path], float]:
    """raysft as a person runs it, but without the look for wrong labels, which reads every row with the model."""

    def run(folder: Path) -> float:
        job = folder / "job.yaml"
        job.write_text(JOB.format(engine=engine, similarity=similarity, output=folder / "out"), encoding="utf-8")
        from raysft.config import load_job
        from raysft.events import Silent
        from raysft.preparation.build import prepare
        from raysft.storage.layout import open_output
        from raysft.storage.pretrained import resolve_base

        loaded, base = load_job(job), resolve_base(BASE)
        output = open_output(str(folder / "out"))
        if engine == "process":
            started = time.perf_counter()
            prepare(loaded, base, output, Silent())
            return time.perf_counter() - started
        from raysft.session import ray_session

        with ray_session():
            started = time.perf_counter()
            prepare(loaded, base, output, Silent())
            return time.perf_counter() - started

    return run


ENGINES: dict[str, Callable[[Path], float]] = {
    "tokenizer alone": limit,
    "datasets": peer_datasets,
    "ray-data": peer_ray,
    "raysft": ours("process", 1.0),
    "raysft-ray": ours("ray", 1.0),
    "raysft-near": ours("process", 0.8),
    "raysft-near-ray": ours("ray", 0.8),
}


if __name__ == "__main__":
    main()
