"""The peers of sweep.py: Hugging Face Trainer below Ray Tune, as one writes it without raysft.

Each finished fold is a line of folds.jsonl, written by whoever trained it; its logits lie in a file beside it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from ray import tune
from sklearn.metrics import f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from raysft.training.precision import supports_bf16

Array = np.ndarray[Any, Any]
Found = dict[str, Any]
Settings = dict[str, Any]  # learning_rate, batch_size
SLOTS = 2  # trials at a time, a CPU each: faster here than one trial with two CPUs
SEED = 0
REDUCTION = 3  # of ASHA, which looks when a configuration has trained one fold, then three


@dataclass(frozen=True)
class Rows:
    """Texts with the numbers of their labels (R,) and their folds (R,), -1 where they are in none."""

    texts: list[str]
    labels: Array
    folds: Array


@dataclass(frozen=True)
class Work:
    """What a trial needs beside its settings."""

    base: str
    max_length: int
    epochs: int
    folds: int
    share: int  # folds that a configuration trains, the first one another for each, so that all folds come up alike
    rates: list[float]
    batches: list[int]
    best: bool  # the flags of the Trainer that fit this machine, and ASHA
    rows: Rows
    logs: Path
    scratch: Path

    @property
    def grid(self) -> list[Settings]:
        """Its configurations. Shuffled for ASHA: where each is better than those before it, ASHA stops none."""
        found = [{"learning_rate": rate, "batch_size": batch} for rate in self.rates for batch in self.batches]
        if self.best:
            random.Random(SEED).shuffle(found)  # noqa: S311
        return found

    @property
    def classes(self) -> int:
        return int(self.rows.labels.max()) + 1


def read_rows(prepared: Path, part: str) -> Rows:
    """The rows of raysft's prepared corpus: `open` has the folds, `test` is scored once."""
    import pyarrow.parquet as pq

    table = pq.read_table(prepared / "corpus" / f"{part}.parquet", columns=["text", "label_id", "fold"])
    return Rows(table["text"].to_pylist(), table["label_id"].to_numpy().astype(np.int64), table["fold"].to_numpy())


def sweep(work: Work) -> Settings:
    """Train the grid on this machine; returns what get_best_result chooses."""
    import ray

    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False)
    scheduler = tune.schedulers.ASHAScheduler(
        time_attr="epochs_done",
        max_t=work.epochs * work.folds,
        grace_period=work.epochs,
        reduction_factor=REDUCTION,
    )
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, work=work), {"cpu": 1}),
        param_space={"settings": tune.grid_search(work.grid)},
        tune_config=tune.TuneConfig(
            metric="f1_macro", mode="max", scheduler=scheduler if work.best else None, reuse_actors=work.best
        ),
        run_config=tune.RunConfig(storage_path=str(work.scratch / "tune"), name="sweep", verbose=1),
    )
    results = tuner.fit()
    ray.shutdown()
    if results.errors:
        raise SystemExit(f"{len(results.errors)} trials failed: {results.errors[0]}")
    # Under ASHA the last scores of trials rest on one fold, three or all: those of all are compared.
    most = max(each.metrics["epochs_done"] for each in results)
    whole = [each for each in results if each.metrics["epochs_done"] == most]
    best = max(whole, key=lambda each: each.metrics["f1_macro"])
    return dict(best.config["settings"])


def trainable(config: dict[str, Settings], work: Work) -> None:
    """One configuration: its folds one after the other, the score their mean."""
    settings = config["settings"]
    encoded = encode(work, work.rows)
    scores: list[float] = []
    first = work.grid.index(settings) if work.share < work.folds else 0

    def after_epoch(epoch: int, score: float) -> None:
        if work.best and epoch < work.epochs:  # the last one is reported below, when its line is written
            report([*scores, score], len(scores) * work.epochs + epoch)

    for step in range(work.share):
        started, fold = time.perf_counter(), (first + step) % work.folds
        held_out = work.rows.folds == fold
        train, valid = ([encoded[row] for row in np.flatnonzero(rows)] for rows in (~held_out, held_out))
        trainer, kept, train_s = fit(settings, work, train, valid, after_epoch)
        evaluate_s = sum(each.get("eval_runtime", 0.0) for each in trainer.state.log_history)
        scores.append(kept["f1_macro"])
        spent = {
            "train_s": train_s - evaluate_s,
            "evaluate_s": evaluate_s,
            "fold_s": time.perf_counter() - started,
        }
        log(work.logs, settings, fold, kept, spent)
        if work.best or len(scores) == work.share:
            report(scores, len(scores) * work.epochs)


def report(scores: list[float], epochs: int) -> None:
    tune.report({"f1_macro": mean(scores), "epochs_done": epochs})


def log(logs: Path, settings: Settings, fold: int, kept: Found, spent: Found) -> None:
    """A line of folds.jsonl, and logits with labels in a file; lines this short are appended whole."""
    name = f"{settings['learning_rate']:g}-{settings['batch_size']}-{fold}.npz"
    np.savez(logs / name, logits=kept["logits"], labels=kept["labels"])
    seconds = {key: round(value, 3) for key, value in spent.items()}
    line = {**settings, "fold": fold, "f1_macro": kept["f1_macro"], **seconds, "at": time.time(), "logits": name}
    with (logs / "folds.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def encode(work: Work, rows: Rows) -> list[Found]:
    tokenizer = AutoTokenizer.from_pretrained(work.base)
    ids = tokenizer(rows.texts, truncation=True, max_length=work.max_length)["input_ids"]
    return [{"input_ids": each, "labels": int(label)} for each, label in zip(ids, rows.labels, strict=True)]


class AfterEpoch(TrainerCallback):  # type: ignore[misc]
    """Calls a function with the number of epochs done and their macro-F1."""

    def __init__(self, call: Callable[[int, float], None]) -> None:
        self.call = call

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Found, **_: Any) -> None:
        self.call(round(state.epoch), metrics["eval_f1_macro"])


def fit(
    settings: Settings,
    work: Work,
    train: list[Found],
    valid: list[Found],
    after_epoch: Callable[[int, float], None],
) -> tuple[Any, Found, float]:
    """The Trainer after its training, its last scores with logits and labels, and the seconds of train()."""
    kept: Found = {}

    def score(predicted: Any) -> Found:
        value = f1_score(predicted.label_ids, predicted.predictions.argmax(axis=1), average="macro", zero_division=0)
        kept.update(logits=predicted.predictions, labels=predicted.label_ids, f1_macro=float(value))
        return {"f1_macro": float(value)}

    set_seed(SEED)
    flags = {"train_sampling_strategy": "group_by_length", "bf16": supports_bf16(torch.device("cpu"))}
    arguments = TrainingArguments(
        output_dir=str(work.scratch / "trainer"),
        learning_rate=settings["learning_rate"],
        per_device_train_batch_size=settings["batch_size"],
        num_train_epochs=work.epochs,
        eval_strategy="epoch" if valid else "no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
        **(flags if work.best else {}),
    )
    trainer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(work.base, num_labels=work.classes),
        arguments,
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(work.base)),
        train_dataset=train,
        eval_dataset=valid or None,
        compute_metrics=score,
        callbacks=[AfterEpoch(after_epoch)],
    )
    started = time.perf_counter()
    trainer.train()
    return trainer, kept, time.perf_counter() - started


def refit(settings: Settings, work: Work, test: Rows) -> Found:
    """The chosen configuration on all rows, scored on the test rows, in this process with all its threads."""
    started = time.perf_counter()
    trainer, _, _ = fit(settings, work, encode(work, work.rows), [], lambda *_: None)
    trained = time.perf_counter()
    found = trainer.predict(encode(work, test))
    np.savez(work.logs / "test.npz", logits=found.predictions, labels=found.label_ids)
    return {"refit_s": trained - started, "test_s": time.perf_counter() - trained}
