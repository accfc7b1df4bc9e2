"""SCAN, simple split: exact match of a small Llama from random weights, trained and scored by `raysft train`.

    python benchmarks/scan.py --data ../shared/data/scan [--epochs 24]

Commands such as "jump opposite left twice" are answered with their actions (Lake, Baroni 2018, arXiv 1711.00350); all
16,728 training rows, all 4,182 test rows. The job file describes the model; its tokenizer is learnt from the training
rows. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOB = """\
name: scan
task: generation
model:
  init: {{architecture: llama, layers: 4, hidden: 128, heads: 4, vocabulary: 320}}
  max_length: 96
data:
  train: train.jsonl
  test: test.jsonl
  # Every row is meant: commands are alike, and many have the same actions.
  audit: {{duplicates: report, near_duplicates: report, near_leakage: report, similarity: 1}}
folds: {{k: 0}}
train: {{epochs: {epochs}, batch_size: 64, learning_rate: 2e-3, warmup: 5%}}
generation: {{max_new_tokens: 64}}
output: out
"""


def main() -> None:
    """Write the corpus and the job, run it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with simple_split/tasks_train_simple.txt")
    parser.add_argument("--epochs", type=int, default=24)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "test"):
            write_rows(arguments.data / "simple_split" / f"tasks_{part}_simple.txt", folder / f"{part}.jsonl")
        (folder / "job.yaml").write_text(JOB.format(epochs=arguments.epochs), encoding="utf-8")
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "raysft", "train", "job.yaml"], cwd=folder, check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        result = json.loads((folder / "out" / "runs" / "scan" / "result.json").read_text(encoding="utf-8"))
        print(table(result, arguments.epochs, (time.perf_counter() - started) / 60))


def write_rows(source: Path, target: Path) -> None:
    """`IN: command OUT: actions` lines as JSON Lines of prompt and completion."""
    with target.open("w", encoding="utf-8") as file:
        for line in source.read_text(encoding="utf-8").splitlines():
            command, actions = line.strip().removeprefix("IN: ").split(" OUT: ")
            file.write(json.dumps({"prompt": command, "completion": actions}) + "\n")


def table(result: dict[str, dict[str, dict[str, dict[str, float]]]], epochs: int, minutes: float) -> str:
    found = result["metrics"]["test"]
    cells = [
        "{value:.4f} [{low:.4f}, {high:.4f}]".format(**found[name]) for name in ("exact_match", "token_f1", "loss")
    ]
    return "\n".join(
        [
            "| parameters | epochs | exact match | token F1 | loss | minutes, all |",
            "|---|---|---|---|---|---|",
            f"| {parameters(result):,} | {epochs} | {' | '.join(cells)} | {minutes:.0f} |",
        ]
    )


def parameters(result: dict[str, dict[str, dict[str, dict[str, float]]]]) -> int:
    """Of the model, as its groups have them."""
    groups: list[dict[str, int]] = result["training"]["groups"]  # type: ignore[assignment]
    return sum(group["parameters"] for group in groups)


if __name__ == "__main__":
    main()
