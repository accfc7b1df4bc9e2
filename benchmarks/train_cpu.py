"""Training on CPU beside Hugging Face Trainer: same base, rows, epochs, batch size and rate, one after the other.

    python benchmarks/train_cpu.py [--data FOLDER] [--rows 1500 240] [--epochs 2]

Two corpora: `banking77`, a slice of Banking77 as it is (short texts, 77 labels), and `joined`, texts of 20 to 400
tokens, log-uniform, made of Banking77 texts of one label (10 labels). Each engine has a process of its own. examples/s
is of the training loop; `all s` also has start-up, saving, evaluation and, for `raysft`, the audit and the report.
Accuracy is on the same held-out rows after the last epoch, with Wilson's 95% interval. Memory: benchmarks/process.py.
Ratios are to the first row; they travel to other machines better than the figures.

`loop` is raysft without Ray, its engine called as a library would; `loop-recipe` trains by the Trainer's recipe instead
of ours (pooler as shipped, no rate of its own for the head, no decay, no warm-up): its accuracy has to agree with
`trainer`, that of our defaults may be better.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpora import CORPORA, Rows, read, write_corpus
from data import BASE, DATA
from process import measure

RATE, BATCH = 2e-4, 16
SHORT = 128  # tokens kept of a text of Banking77: all
JOB = """\
name: bench
model: {{base: {base}, max_length: {longest}}}
data:
  train: train.csv
  test: test.csv
  text: text
  label: category
  audit: {{duplicates: report, conflicts: report, leakage: report, wrong_labels: off, similarity: 1}}
folds: {{k: 0}}
train: {{epochs: {epochs}, batch_size: {batch}, learning_rate: {rate}, device: cpu}}
output: {output}
"""
TRAINERS_RECIPE = (
    "model.pooler=keep",
    f"train.head_learning_rate={RATE}",
    "train.weight_decay=0",
    "train.warmup=0%",
)
Found = dict[str, Any]


def main() -> None:
    """Measure every engine on every corpus and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train.csv and test.csv of Banking77")
    parser.add_argument("--corpora", nargs="+", choices=list(CORPORA), default=list(CORPORA))
    parser.add_argument("--rows", type=int, nargs=2, default=[1500, 240], help="training rows: banking77, joined")
    parser.add_argument("--held-out", type=int, default=500, help="rows that are scored, at most")
    parser.add_argument("--longest", type=int, default=400, help="tokens of the longest joined text")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--engine", choices=list(ENGINES), help="internal: one engine in this process")
    parser.add_argument("--folder", type=Path, help="internal")
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(ENGINES[arguments.engine](arguments.folder)))
        return
    if not (arguments.data / "train.csv").is_file():
        raise SystemExit(f"{arguments.data}/train.csv is not there; name the folder of Banking77 with --data")
    for corpus in arguments.corpora:
        compare(corpus, arguments)


def compare(corpus: str, arguments: argparse.Namespace) -> None:
    """The table of one corpus."""
    print(f"\n{corpus}\n\n| engine | rows | examples/s | ratio | all s | peak RSS MiB | accuracy | 95% interval | n |")
    print("|---|---|---|---|---|---|---|---|---|")
    first = 0.0
    for engine in arguments.only:
        with tempfile.TemporaryDirectory() as name:
            write_job(corpus, arguments, Path(name))
            found = measure(__file__, "--engine", engine, "--folder", name)
        first = first or found["speed"]
        print(line(engine, found, first), flush=True)


def line(engine: str, found: Found, first: float) -> str:
    from scipy.stats import binomtest

    n, accuracy = found["n"], found["accuracy"]
    limits = binomtest(round(n * accuracy), n).proportion_ci(method="wilson")
    return (
        f"| {engine} | {found['rows']:,.0f} | {found['speed']:.1f} | {found['speed'] / first:.2f} | {found['all']:.0f} "
        f"| {found['rss'] / 2**20:,.0f} | {accuracy:.3f} | [{limits.low:.3f}, {limits.high:.3f}] | {n} |"
    )


def write_job(corpus: str, arguments: argparse.Namespace, folder: Path) -> None:
    """train.csv, test.csv and job.yaml; the same in every call."""
    counts = {"train": arguments.rows[list(CORPORA).index(corpus)], "test": arguments.held_out}
    write_corpus(corpus, arguments.data, counts, arguments.longest, arguments.base, folder)
    settings = {
        "base": arguments.base,
        "longest": SHORT if corpus == "banking77" else arguments.longest,
        "epochs": arguments.epochs,
        "batch": BATCH,
        "rate": RATE,
        "output": folder / "out",
    }
    (folder / "job.yaml").write_text(JOB.format(**settings), encoding="utf-8")


def trainer(best: bool, **more: Any) -> Callable[[Path], Found]:
    """Hugging Face Trainer as its documentation shows it; `best`: bf16 where the processor has it, lengths grouped."""

    def run(folder: Path) -> Found:
        import torch
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            DataCollatorWithPadding,
            Trainer,
            TrainingArguments,
        )

        from raysft.config import load_job
        from raysft.storage.pretrained import resolve_base
        from raysft.training.precision import supports_bf16

        config = load_job(folder / "job.yaml").config
        base = resolve_base(config.model.base).folder
        tokenizer = AutoTokenizer.from_pretrained(base)
        train, test = read(folder / "train.csv"), read(folder / "test.csv")
        labels = sorted({label for _, label in train})

        def encode(rows: Rows) -> list[dict[str, Any]]:
            ids = tokenizer([text for text, _ in rows], truncation=True, max_length=config.model.max_length)
            return [{"input_ids": i, "labels": labels.index(r[1])} for i, r in zip(ids["input_ids"], rows, strict=True)]

        flags = {"train_sampling_strategy": "group_by_length", "bf16": supports_bf16(torch.device("cpu")), **more}
        arguments = TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=BATCH,
            num_train_epochs=config.train.epochs,
            learning_rate=RATE,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            **(flags if best else {}),
        )
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
        collator = DataCollatorWithPadding(tokenizer)
        engine = Trainer(model, arguments, train_dataset=encode(train), data_collator=collator)
        started = time.perf_counter()
        engine.train()
        spent = time.perf_counter() - started
        found = engine.predict(encode(test))  # in an order of its own where lengths are grouped
        right = int((found.predictions.argmax(axis=1) == found.label_ids).sum())
        speed = len(train) * config.train.epochs / spent
        return {"rows": len(train), "speed": speed, "accuracy": right / len(test), "n": len(test)}

    return run


def whole(folder: Path) -> Found:
    """raysft as a person runs it: data, Ray Train, evaluation, report."""
    import raysft
    from raysft.config import load_job

    result = raysft.train(folder / "job.yaml")
    rows = result.training["examples"] / load_job(folder / "job.yaml").config.train.epochs
    accuracy = (result.metrics["test"] or {})["accuracy"]
    return {
        "rows": rows,
        "speed": result.timing["examples_per_s"],
        "accuracy": accuracy["value"],
        "n": accuracy["n"],
    }


def loop(*recipe: str) -> Callable[[Path], Found]:
    """The engine alone, in this process: what a worker does, without what brings it there."""

    def run(folder: Path) -> Found:
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # as raysft/session.py has it; torch reads it when it is imported
        import torch

        from raysft.config import load_job
        from raysft.corpus.encode import encode_texts
        from raysft.corpus.tokens import TokenizedRows, from_lists
        from raysft.model.padding import pad_id
        from raysft.plan.plan import choose_micro_rows, choose_micro_tokens
        from raysft.storage.pretrained import resolve_base
        from raysft.training.forward import predict_logits
        from raysft.training.loop import Loop
        from raysft.training.precision import choose
        from raysft.training.tasks import build_model, build_objective

        config, device = load_job(folder / "job.yaml", recipe).config, torch.device("cpu")
        base = resolve_base(config.model.base)
        parts = {part: read(folder / f"{part}.csv") for part in ("train", "test")}
        labels = tuple(sorted({label for _, label in parts["train"]}))

        def encode(part: str) -> TokenizedRows:
            texts = [text for text, _ in parts[part]]
            ids, _ = encode_texts(texts, base.folder / "tokenizer.json", config.model.max_length)
            return from_lists(ids, [labels.index(label) for _, label in parts[part]])

        train, test = encode("train"), encode("test")
        model: Any = build_model(config, base, labels)
        pad = pad_id(model)
        engine = Loop(
            model=model,
            objective=build_objective(config, labels, train, from_lists([], []), pad, device),
            settings=config.train,
            micro_batch=choose_micro_rows(config.train),
            train=train,
            precision=choose(config.train.precision, device),
            checkpoints=folder / "checkpoints",
            metrics=folder / "metrics.jsonl",
            model_settings=config.model,
            micro_tokens=choose_micro_tokens(config.train, gpu=False),
        )
        progress = engine.run()
        predicted = predict_logits(model, test, pad, engine.precision).argmax(axis=1)
        accuracy = float((predicted == test.label).mean())
        return {
            "rows": progress.examples / config.train.epochs,
            "speed": progress.examples / progress.seconds,
            "accuracy": accuracy,
            "n": len(test),
        }

    return run


ENGINES: dict[str, Callable[[Path], Found]] = {
    "trainer": trainer(best=False),
    "trainer-best": trainer(best=True),
    "trainer-best-workers": trainer(best=True, dataloader_num_workers=1),
    "raysft": whole,
    "loop": loop(),
    "loop-recipe": loop(*TRAINERS_RECIPE),
}


if __name__ == "__main__":
    main()
