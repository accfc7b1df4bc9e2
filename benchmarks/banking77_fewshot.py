"""Accuracy on Banking77 with 10 training rows a class, by the defaults of a classification job, over several seeds.

    python benchmarks/banking77_fewshot.py [--data FOLDER] [--seeds 0 1 2] [--set train.epochs=12]

Trains on every row of `train_10` (no validation part, so no choice is made on held-out rows) and scores the 3,080 rows
of `test` once. Nothing was tuned on test: the defaults were chosen on `valid`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from banking77 import FEWSHOT, to_csv

JOB = """\
name: banking77-seed{seed}
data: {{train: train.csv, test: test.csv}}
folds: {{k: 0}}
train: {{seed: {seed}}}
output: {output}
"""


def main() -> None:
    """Run every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FEWSHOT, help="folder with train_10 and test")
    parser.add_argument("--part", default="train_10", help="training part")
    parser.add_argument("--on", default="test", help="part that is scored")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        to_csv(arguments.data / arguments.part, folder / "train.csv")
        to_csv(arguments.data / arguments.on, folder / "test.csv")
        results = [run(folder, seed, arguments.overrides) for seed in arguments.seeds]
    print_table(results)


def run(folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """One whole job in its own process; returns its result."""
    job = folder / f"seed{seed}.yaml"
    job.write_text(JOB.format(seed=seed, output=folder / "runs"), encoding="utf-8")
    command = [sys.executable, "-m", "raysft", "train", str(job), "--json"]
    for override in overrides:
        command += ["--set", override]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def print_table(results: list[dict[str, Any]]) -> None:
    """One line a seed, then the mean."""
    print("| run | accuracy | 95% interval | macro-F1 | training s | job s | rows/s |\n|---|---|---|---|---|---|---|")
    accuracies = []
    for result in results:
        test, timing = result["metrics"]["test"], result["timing"]
        accuracy = test["accuracy"]
        accuracies.append(accuracy["value"])
        print(
            f"| {result['name']} | {accuracy['value']:.4f} | [{accuracy['low']:.3f}, {accuracy['high']:.3f}] | "
            f"{test['f1_macro']['value']:.4f} | {timing['step_s']:.0f} | {timing['total_s']:.0f} | "
            f"{timing['examples_per_s']:.1f} |"
        )
    spread = f" (standard deviation {stdev(accuracies):.4f})" if len(accuracies) > 1 else ""
    print(f"\nmean accuracy {mean(accuracies):.4f}{spread} over {len(accuracies)} seeds")


if __name__ == "__main__":
    main()
