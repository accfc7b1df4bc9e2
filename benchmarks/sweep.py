"""A cross-validated sweep on CPU beside what one writes today: 12 configurations x 5 folds, Banking77 5-shot.

    python benchmarks/sweep.py --logs FOLDER [--only trainer raysft] [--share 0.2]
    python benchmarks/sweep.py --table FOLDER [FOLDER ...]

Engines, each in a process of its own, one after the other: `trainer`, Ray Tune over a loop over the folds with Hugging
Face Trainer at its defaults, two trials at a time with a CPU each; `trainer-asha`, the same with the Trainer's best
flags for this machine and ASHA, which may stop a configuration after one fold and after three and gets them in a
shuffled order; `raysft`, `raysft tune` with a head that starts at the means of its labels; `raysft-ties`, the same with
`tune.ties`; `raysft-full`, without racing and early stopping. All train on the same rows and folds: the peers read
those that `raysft data` prepared, at no cost to them, while raysft prepares its own each time. `wall s`
is from the start of the process to its end, without the fit of the chosen configuration on all rows and its scoring on
test, `refit s`. `idle` is the share of two slots over that wall time in which nothing trains or
evaluates. Out-of-fold macro-F1 is of the chosen configuration, all its folds together, with a 95% interval
(raysft/metrics/interval.py).

`--logs` keeps what each engine printed and one line for each finished fold, from which `--table` prints its lines; an
engine that has ended is not run again. `--share 0.2` trains one fold of five of each configuration with `trainer`, each
fold as often as the others; nothing is chosen then, and wall time is projected: seconds within folds count five times,
start-up, of Ray and of trials, once. ASHA decides as it goes, so `trainer-asha` runs whole.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from banking77 import FEWSHOT, to_csv
from data import BASE, MAX_LENGTH

Found = dict[str, Any]
RATES = [1e-5, 4e-5, 1.3e-4, 5e-4]
BATCHES = [16, 32, 64]
FOLDS = 5
JOB = """\
name: sweep
model: {{base: {base}, max_length: {longest}}}
data: {{train: train.csv, test: test.csv}}
folds: {{k: {folds}, test: 0%}}
train: {{epochs: {epochs}, device: cpu}}
output: {output}
"""
TUNE = """\
tune:
  search:
    train.learning_rate: {rates}
    train.batch_size: {batches}
"""
PEERS = {"trainer": False, "trainer-asha": True}  # whether with the best flags and ASHA
MEANS = "model.head_start=means"  # few rows a class: what our tutorial says to do then
OURS = {
    "raysft": (MEANS,),
    "raysft-ties": (MEANS, "tune.ties=true"),
    "raysft-full": (MEANS, "tune.racing=false", "tune.early=false"),
}
ENGINES = [*PEERS, *OURS]
HEADER = (
    "| engine | wall s | ratio | folds | chosen: rate, batch | out-of-fold macro-F1 | idle | refit s | test accuracy |"
)


@dataclass(frozen=True)
class Row:
    """One line of the table; what is not known is None."""

    engine: str
    wall_s: float
    folds: int
    idle: float
    chosen: tuple[float, int] | None = None
    out_of_fold: Found | None = None  # value, low, high
    refit_s: float | None = None
    accuracy: Found | None = None
    note: str = ""


def main() -> None:
    """Run the engines that have not ended yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, help="folder that keeps the logs; without it they are not kept")
    parser.add_argument("--table", type=Path, nargs="+", help="run nothing, print the table of these folders of logs")
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--share", type=float, default=1.0, help="of the folds of each configuration, for `trainer`")
    parser.add_argument("--data", type=Path, default=FEWSHOT, help="folder with the parts")
    parser.add_argument("--part", default="train_5", help="training part")
    parser.add_argument("--rows", type=int, help="training rows at most, of whole classes; test rows are of those too")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument(
        "--configurations", type=int, nargs=2, default=[len(RATES), len(BATCHES)], help="rates, batch sizes: the first"
    )
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--longest", type=int, default=MAX_LENGTH, help="tokens kept of a text")
    parser.add_argument("--engine", choices=list(PEERS), help="internal: one peer in this process")
    parser.add_argument("--folder", type=Path, help="internal")
    arguments = parser.parse_args()
    if arguments.engine:
        peer(arguments.engine, arguments.folder, arguments.logs)
    elif arguments.table:
        print_table(arguments.table)
    else:
        if not (arguments.data / arguments.part).is_dir():
            raise SystemExit(f"{arguments.data / arguments.part} is not there; name its folder with --data")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        with tempfile.TemporaryDirectory() as name:
            logs = (arguments.logs or Path(name) / "logs").resolve()
            compare(arguments, Path(name), logs)
            print_table([logs])


def compare(arguments: argparse.Namespace, folder: Path, logs: Path) -> None:
    """Run the engines one after the other; each leaves logs/ENGINE/result.json."""
    common = write_job(arguments, folder)
    prepared = ""
    for engine in arguments.only:
        kept, setup = logs / engine, dict(common)
        if engine == "trainer":
            setup["share"] = max(1, round(arguments.share * arguments.folds))
        if (kept / "result.json").is_file():
            if json.loads((kept / "result.json").read_text(encoding="utf-8"))["setup"] != setup:
                raise SystemExit(f"{kept} is of another sweep; name another folder with --logs")
            print(f"{engine} has ended: {kept}", file=sys.stderr)
            continue
        shutil.rmtree(kept, ignore_errors=True)  # of a run that did not end
        kept.mkdir(parents=True)
        output = kept / "output.json"
        if engine in PEERS:
            prepared = prepared or prepare(folder)
            (folder / "peer.json").write_text(json.dumps({**setup, "prepared": prepared}), encoding="utf-8")
            command = [__file__, "--engine", engine, "--folder", folder, "--logs", kept]
        else:
            overrides = [f"output={kept / 'results'}", *OURS[engine]]
            command = ["-m", "raysft", "tune", folder / "tune.yaml", "--json"]
            command += [word for override in overrides for word in ("--set", override)]
        print(f"{engine}: {kept}", file=sys.stderr, flush=True)
        seconds = run(command, output, kept / "log.txt")
        printed = output.read_text(encoding="utf-8")
        found = json.loads(printed.splitlines()[-1] if engine in PEERS else printed)
        result = {"engine": engine, "setup": setup, "all_s": seconds, "found": found}
        (kept / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


def write_job(arguments: argparse.Namespace, folder: Path) -> Found:
    """train.csv, test.csv and the job, without and with its sweep; returns what the engines have in common."""
    labels: set[str] | None = None
    rows = 0
    for part, target in ((arguments.part, "train.csv"), ("test", "test.csv")):
        to_csv(arguments.data / part, folder / target)
        if arguments.rows:
            labels = cut(folder / target, arguments.rows, labels)
        with (folder / target).open(encoding="utf-8", newline="") as file:
            rows = rows or sum(1 for _ in csv.DictReader(file))
    setup = {
        "base": arguments.base,
        "longest": arguments.longest,
        "epochs": arguments.epochs,
        "folds": arguments.folds,
        "rates": RATES[: arguments.configurations[0]],
        "batches": BATCHES[: arguments.configurations[1]],
        "rows": rows,
        "share": arguments.folds,  # that each configuration trains
    }
    job = JOB.format(output=folder / "prepared", **setup)
    (folder / "job.yaml").write_text(job, encoding="utf-8")
    (folder / "tune.yaml").write_text(job + TUNE.format(**setup), encoding="utf-8")
    return setup


def cut(path: Path, most: int, labels: set[str] | None) -> set[str]:
    """Keep the rows of these labels, else of the first labels that have at most so many rows together."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if labels is None:
        labels = set()
        for label in dict.fromkeys(row["label"] for row in rows):
            if sum(row["label"] in {*labels, label} for row in rows) > most:
                break
            labels.add(label)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["label"] in labels)
    return labels


def prepare(folder: Path) -> str:
    """The folder of the corpus with its folds."""
    command = [sys.executable, "-m", "raysft", "data", str(folder / "job.yaml"), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), check=True)
    return str(json.loads(done.stdout)["folder"])


def environment() -> dict[str, str]:
    """Of every engine: no hub, and a Ray of its own."""
    known = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**known, "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def run(command: list[Any], output: Path, log: Path) -> float:
    """Run Python with its output and errors in files; returns its seconds. What ends this process ends that one."""
    started = time.perf_counter()
    with output.open("wb") as out, log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=out, stderr=errors, env=environment())
        try:
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}; see {log} and {output}")
    return time.perf_counter() - started


def peer(engine: str, folder: Path, logs: Path) -> None:
    """Sweep, and where all folds were trained, fit the chosen configuration and score it; prints its JSON last."""
    from peers_sweep import SLOTS, Work, read_rows, refit, sweep

    from raysft.storage.pretrained import resolve_base

    setup, best = json.loads((folder / "peer.json").read_text(encoding="utf-8")), PEERS[engine]
    work = Work(
        base=str(resolve_base(setup["base"]).folder),
        max_length=setup["longest"],
        epochs=setup["epochs"],
        folds=setup["folds"],
        share=setup["share"],
        rates=setup["rates"],
        batches=setup["batches"],
        best=best,
        rows=read_rows(Path(setup["prepared"]), "open"),
        logs=logs,
        scratch=folder / f"scratch-{engine}",
    )
    chosen = sweep(work)
    found: Found = {"slots": SLOTS}
    if work.share == work.folds:
        found |= {"chosen": chosen, **refit(chosen, work, read_rows(Path(setup["prepared"]), "test"))}
    print(f"\n{json.dumps(found)}")


def read_peer(result: Found, kept: Path) -> Row:
    """From result.json and the lines of the folds."""
    found, setup = result["found"], result["setup"]
    lines = [json.loads(line) for line in (kept / "folds.jsonl").read_text(encoding="utf-8").splitlines()]
    busy = sum(line["train_s"] + line["evaluate_s"] for line in lines)
    refit_s = found.get("refit_s", 0.0) + found.get("test_s", 0.0)
    wall = result["all_s"] - refit_s
    if setup["share"] < setup["folds"]:
        times = setup["folds"] / setup["share"]
        wall += (times - 1) * sum(line["fold_s"] for line in lines) / found["slots"]
        some = "one fold" if setup["share"] == 1 else f"{setup['share']} folds"
        note = f"x{times:g} from {some} of each configuration"
        return Row(result["engine"], wall, len(lines), 1 - times * busy / (found["slots"] * wall), note=note)
    chosen = found["chosen"]
    its = [line["logits"] for line in lines if all(line[name] == value for name, value in chosen.items())]
    return Row(
        engine=result["engine"],
        wall_s=wall,
        folds=len(lines),
        idle=1 - busy / (found["slots"] * wall),
        chosen=(chosen["learning_rate"], chosen["batch_size"]),
        out_of_fold=scores([kept / name for name in its])["f1_macro"],
        refit_s=refit_s,
        accuracy=scores([kept / "test.npz"])["accuracy"],
    )


def scores(files: list[Path]) -> dict[str, Found]:
    """Every measure over the rows of these files together."""
    from raysft.metrics.interval import estimates

    parts = [np.load(file) for file in files]
    labels, logits = (np.concatenate([part[name] for part in parts]) for name in ("labels", "logits"))
    return {name: vars(each) for name, each in estimates(labels, logits, np.arange(len(labels))).items()}


def read_raysft(result: Found) -> Row:
    """From what `raysft tune --json` printed; the one place that knows its form."""
    found = result["found"]
    timing, settings = found["timing"], found["chosen"]["settings"]
    wall = result["all_s"] - timing["refit_s"]
    return Row(
        engine=result["engine"],
        wall_s=wall,
        folds=sum(trial["folds_done"] for trial in found["trials"]),
        idle=1 - timing["busy_s"] / (timing["slots"] * wall),
        chosen=(settings["train.learning_rate"], settings["train.batch_size"]),
        out_of_fold=found["chosen"]["out_of_fold"]["f1_macro"],
        refit_s=timing["refit_s"],
        accuracy=found["metrics"]["test"]["accuracy"],
    )


def print_table(folders: list[Path]) -> None:
    """A line for each engine that has ended; where several folders have one, the last of them."""
    files = {file.parent.name: file for folder in folders for file in sorted(folder.glob("*/result.json"))}
    results = {name: json.loads(files[name].read_text(encoding="utf-8")) for name in ENGINES if name in files}
    if not results:
        raise SystemExit("no engine has ended")
    setups = [{k: v for k, v in each["setup"].items() if k != "share"} for each in results.values()]
    if any(setup != setups[0] for setup in setups):
        raise SystemExit(f"these are not the same sweep: {setups}")
    rows = [
        read_peer(each, files[name].parent) if name in PEERS else read_raysft(each) for name, each in results.items()
    ]
    walls = {row.engine: row.wall_s for row in rows}
    setup = setups[0]
    print(
        f"{setup['rows']} rows, rates {setup['rates']}, batch sizes {setup['batches']}, {setup['folds']} folds, "
        f"{setup['epochs']} epochs\n\n{HEADER}\n{'|---' * (HEADER.count('|') - 1)}|"
    )
    for row in rows:
        print(line(row, walls.get("raysft")))


def line(row: Row, ours: float | None) -> str:
    chosen = f"{row.chosen[0]:g}, {row.chosen[1]}" if row.chosen else "-"
    cells = [
        row.engine,
        f"{row.wall_s:,.0f}" + (f" ({row.note})" if row.note else ""),
        f"{row.wall_s / ours:.2f}" if ours else "-",
        str(row.folds),
        chosen,
        "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row.out_of_fold) if row.out_of_fold else "-",
        f"{row.idle:.0%}",
        f"{row.refit_s:.0f}" if row.refit_s is not None else "-",
        "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row.accuracy) if row.accuracy else "-",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
