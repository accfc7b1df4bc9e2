"""WNUT17: F1 over entities of a 22M base, trained and scored by `raysft train`, mean of several seeds.

    python benchmarks/wnut17.py --data ../shared/data/wnut17 [--seeds 1 2 3] [--set train.epochs=6]

Emerging entities in user-generated text (Derczynski et al. 2017, W17-4418), the shared task's own parts; what is rare
there occurs in the test part only. An entity is right where its edges and its type are. The settings were chosen on the
validation part. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

JOB = """\
name: wnut17
task: token-classification
model: {base: sentence-transformers/all-MiniLM-L6-v2, max_length: 128}
data:
  train: data/wnut17train.conll
  validation: data/emerging.dev.conll
  test: data/emerging.test.annotated
  format: conll
train:
  epochs: 6
  batch_size: 32
  learning_rate: 2e-4
  head_learning_rate: 1e-2
  layer_decay: 0.8
  select: f1_micro
output: out
"""
MEASURES = ("f1_micro", "precision", "recall", "f1_macro")
Found = dict[str, dict[str, dict[str, float]]]  # part, measure: value, low, high


def main() -> None:
    """A run for each seed, on the same prepared data; then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with wnut17train.conll and the others")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `raysft train`")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").symlink_to(arguments.data.resolve())
        (folder / "job.yaml").write_text(JOB, encoding="utf-8")
        for seed in arguments.seeds:
            settings = [*arguments.set, f"train.seed={seed}", f"name=seed-{seed}"]
            command = [sys.executable, "-m", "raysft", "train", "job.yaml", *(f"--set={each}" for each in settings)]
            done = subprocess.run(command, cwd=folder, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)
            result = json.loads((folder / "out" / "runs" / f"seed-{seed}" / "result.json").read_text(encoding="utf-8"))
            found[seed] = result["metrics"]
    print(table(found))


def table(found: dict[int, Found]) -> str:
    """A line for each seed, with intervals of the headline, and one of the means."""
    lines = [
        "| seed | validation F1 | test F1 | test precision | test recall | test macro-F1 |",
        "|---|---|---|---|---|---|",
    ]
    for seed, parts in found.items():
        scored = [parts[part]["f1_micro"] for part in ("validation", "test")]
        cells = ["{value:.3f} [{low:.3f}, {high:.3f}]".format(**each) for each in scored]
        cells += [f"{parts['test'][name]['value']:.3f}" for name in MEASURES[1:]]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    means = [mean(each["validation"]["f1_micro"]["value"] for each in found.values())]
    means += [mean(each["test"][name]["value"] for each in found.values()) for name in MEASURES]
    return "\n".join([*lines, f"| mean | {' | '.join(f'{value:.3f}' for value in means)} |"])


if __name__ == "__main__":
    main()
