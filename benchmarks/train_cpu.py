"""Training speed beside Hugging Face Trainer: same base, rows, batch size and epochs, one after the other in one run.

    python benchmarks/train_cpu.py [--data FOLDER] [--epochs 2]

Each engine trains in a process of its own; its speed is rows trained divided by the time of the training loop, without
start-up, evaluation and saving. Ratios hold on other machines better than the figures themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from banking77 import FEWSHOT, to_csv

BATCH = 16
JOB = """\
name: {name}
data: {{train: train.csv}}
folds: {{k: 0, test: 0%}}
train: {{epochs: {epochs}, batch_size: {batch}}}
output: {output}
"""


def main() -> None:
    """Measure every engine and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FEWSHOT, help="folder with train_10")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--engine", choices=["trainer", "trainer-best"], help="internal: one engine in this process")
    parser.add_argument("--csv", type=Path, help="internal")
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(trainer(arguments.csv, arguments.epochs, best=arguments.engine == "trainer-best")))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        to_csv(arguments.data / "train_10", folder / "train.csv")
        engines: dict[str, Callable[[], float]] = {
            "Hugging Face Trainer, defaults": lambda: trainer_process(folder, arguments.epochs, "trainer"),
            "Hugging Face Trainer, best flags": lambda: trainer_process(folder, arguments.epochs, "trainer-best"),
            "raysft, defaults": lambda: raysft(folder, arguments.epochs, "defaults"),
        }
        speeds = {engine: measure() for engine, measure in engines.items()}
    first = next(iter(speeds.values()))
    print("| engine | rows/s | ratio |\n|---|---|---|")
    for engine, speed in speeds.items():
        print(f"| {engine} | {speed:.1f} | {speed / first:.2f} |")


def raysft(folder: Path, epochs: int, name: str) -> float:
    """Rows per second of a whole job, as its result says."""
    job = folder / f"{name}.yaml"
    settings = {"name": name, "epochs": epochs, "batch": BATCH, "output": folder / "runs"}
    job.write_text(JOB.format(**settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "raysft", "train", str(job), "--json"], stdout=subprocess.PIPE, check=True
    )
    return float(json.loads(done.stdout)["timing"]["examples_per_s"])


def trainer_process(folder: Path, epochs: int, engine: str) -> float:
    """Rows per second of Hugging Face Trainer in a process of its own."""
    flags = {"--engine": engine, "--epochs": str(epochs), "--csv": str(folder / "train.csv")}
    command = [sys.executable, __file__, *(word for flag in flags.items() for word in flag)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def trainer(path: Path, epochs: int, best: bool) -> float:
    """Train as the Trainer's documentation does; `best` adds bf16 (where the processor has it) and length grouping."""
    import csv

    import torch
    from torch.utils.data import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from raysft.storage.pretrained import resolve_base
    from raysft.training.precision import supports_bf16

    base = resolve_base("sentence-transformers/all-MiniLM-L6-v2").folder
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(base)
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=128)["input_ids"]

    class Rows(Dataset[dict[str, object]]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, object]:
            return {"input_ids": encoded[index], "labels": labels.index(rows[index]["label"])}

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
    flags = {"bf16": supports_bf16(torch.device("cpu")), "train_sampling_strategy": "group_by_length"} if best else {}
    arguments = TrainingArguments(
        output_dir=str(path.parent / "trainer"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=epochs,
        learning_rate=2e-4,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **flags,
    )
    engine = Trainer(model, arguments, train_dataset=Rows(), data_collator=DataCollatorWithPadding(tokenizer))
    started = time.perf_counter()
    engine.train()
    return len(rows) * epochs / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
