"""The one place that knows path names below the output folder.

<output>/data/<digest>/   corpus/ tokenized/ audit.json audit.html rejected.parquet quarantine.csv manifest.json
<output>/bases/<digest>/  config.json model.safetensors tokenizer.json ... manifest.json: a model.init as a base
<output>/runs/<name>/     job.yaml identity.json plan.json metrics.jsonl checkpoints/ model/ ... result.json
<output>/sweeps/<name>/   job.yaml identity.json trials.jsonl folds/ predictions.parquet report.html best/ result.json
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from raysft.errors import OutputError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DataFolder:
    """Everything that preparation leaves behind, addressed by content."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path.parent / f".{self.path.name}.lock"

    @property
    def partial(self) -> Path:
        """What an unfinished preparation has done so far; the same command goes on from it."""
        return self.path.with_name(f"{self.path.name}.partial")

    def refused(self, name: str) -> Path:
        """Every row that was left out of data that could not be used, with file, line and reason."""
        return self.path.parent / f"{name}.refused.csv"

    @property
    def started(self) -> Path:
        """Whose preparation this is; gone when it is complete."""
        return self.path / "started.json"

    @property
    def rows(self) -> Path:
        """Rows as they were read, with their features; gone when the preparation is complete."""
        return self.path / "rows"

    @property
    def points(self) -> Path:
        """Folder of embeddings of the rows that are looked at for wrong labels; gone when all is complete."""
        return self.path / "points"

    @property
    def decided(self) -> Path:
        """Written when the corpus files are complete: only tokenizing is left to do."""
        return self.path / "decided.json"

    def corpus(self, sealed: bool) -> Path:
        """Kept rows of training and validation, or of the sealed test part."""
        return self.path / "corpus" / ("test.parquet" if sealed else "open.parquet")

    @property
    def rejected(self) -> Path:
        return self.path / "rejected.parquet"

    @property
    def findings(self) -> Path:
        """One line a row and finding, whatever became of the row."""
        return self.path / "findings.parquet"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine.csv"

    @property
    def suspects(self) -> Path:
        """Every row with which the probe for wrong labels disagrees, ranked; there where it was asked."""
        return self.path / "suspects.parquet"

    @property
    def audit(self) -> Path:
        return self.path / "audit.json"

    @property
    def audit_page(self) -> Path:
        return self.path / "audit.html"

    def tokens(self, sealed: bool) -> Path:
        """Shards of the open rows, or of the sealed test rows that only `evaluate` opens."""
        return self.path / "tokenized" / ("test" if sealed else "open")


@dataclass(frozen=True)
class BaseFolder:
    """A base that a job file describes (model.init), addressed by all that it depends on."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path.parent / f".{self.path.name}.lock"


@dataclass(frozen=True)
class RunFolder:
    """Everything that one run leaves behind."""

    path: Path
    kind: ClassVar[str] = "run"

    @property
    def begun(self) -> bool:
        """Whether there is anything that the same command would go on from."""
        return self.outcome.exists() or any(self.checkpoints.glob("step-*"))

    @property
    def job(self) -> Path:
        return self.path / "job.yaml"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files, where train.track asks for them."""
        return self.path / "tensorboard"

    @property
    def mlruns(self) -> Path:
        """MLflow's files, where train.track asks for them and names no server."""
        return self.path / "mlruns"

    @property
    def mlflow_id(self) -> Path:
        """Id of the MLflow run, so that a resumed run goes on in it."""
        return self.path / "mlflow-run.txt"

    @property
    def groups(self) -> Path:
        """Which parameters train, and how: rows of a table, written before the first step."""
        return self.path / "groups.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def outcome(self) -> Path:
        """What training ended with; its presence means that training is complete."""
        return self.path / "training.json"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def probe(self) -> Path:
        """Inputs and logits that the reloaded model must reproduce."""
        return self.path / "probe.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def card(self) -> Path:
        return self.path / "model_card.md"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def lock(self) -> Path:
        """Beside the folder, so that a run refused before its start leaves none."""
        return self.path.parent / f".{self.path.name}.lock"

    @property
    def ray(self) -> Path:
        """Ray Train's own bookkeeping; nothing of ours is read from it."""
        return self.path / ".ray"


@dataclass(frozen=True)
class FoldFolder(RunFolder):
    """What training one configuration on all folds but one leaves behind; only what belongs to scores is kept."""

    def epoch(self, number: int) -> Path:
        """What the evaluation after this epoch found; gone when the fold is complete."""
        return self.path / f"epoch-{number:04d}.npz"

    @property
    def held_out(self) -> Path:
        """What was decided about the rows of the fold after each epoch."""
        return self.path / "held_out.npz"

    @property
    def done(self) -> Path:
        """Scores after each epoch, and what they cost; written last."""
        return self.path / "fold.json"


@dataclass(frozen=True)
class SweepFolder:
    """Everything that one sweep leaves behind."""

    path: Path
    kind: ClassVar[str] = "sweep"

    @property
    def begun(self) -> bool:
        return self.trials.exists()

    @property
    def lock(self) -> Path:
        return self.path.parent / f".{self.path.name}.lock"

    @property
    def job(self) -> Path:
        return self.path / "job.yaml"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def trials(self) -> Path:
        """One line for each configuration that was proposed, and for what became of it."""
        return self.path / "trials.jsonl"

    def fold(self, trial: int, fold: str) -> FoldFolder:
        """fold: the number of the one that validates, or of both where another is left out: `2`, `2-without-0`."""
        return FoldFolder(self.path / "folds" / f"trial-{trial:04d}" / f"fold-{fold}")

    @property
    def precision(self) -> Path:
        """The precision in which all folds are computed, where train.precision is auto."""
        return self.path / "precision"

    @property
    def states(self) -> Path:
        """What frozen layers give for each row, computed once; gone when the sweep is complete."""
        return self.path / "states"

    @property
    def aside(self) -> Path:
        """The result of a search that is being continued; gone when the sweep is complete."""
        return self.path / "result.before.json"

    @property
    def predictions(self) -> Path:
        """Out-of-fold predictions of every configuration that was trained on all folds."""
        return self.path / "predictions.parquet"

    @property
    def best(self) -> RunFolder:
        """The chosen configuration, trained on all folds."""
        return RunFolder(self.path / "best")

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def ray(self) -> Path:
        """Ray Tune's own bookkeeping; nothing of ours is read from it."""
        return self.path / ".ray"


@dataclass(frozen=True)
class Output:
    """The root that a job file names with `output`."""

    root: Path

    def data(self, digest: str) -> DataFolder:
        return DataFolder(self.root / "data" / digest)

    def unfinished(self) -> list[DataFolder]:
        """Every preparation that was begun and not completed."""
        return [DataFolder(path.with_suffix("")) for path in sorted((self.root / "data").glob("*.partial"))]

    def base(self, digest: str) -> BaseFolder:
        return BaseFolder(self.root / "bases" / digest)

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.root / "runs" / name)

    def sweep(self, name: str) -> SweepFolder:
        return SweepFolder(self.root / "sweeps" / name)


def home_path(text: str) -> Path:
    """A path as written, `~` standing for the home folder; `~x.csv` is a file where no user is named so."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def open_output(output: str) -> Output:
    """The output root as an absolute path; created and proven writable.

    Raises OutputError when it is a URI (not supported yet), a file, or not writable.
    """
    if "://" in output:
        raise OutputError(
            f"output: {output} is a remote URI; this version writes to local or mounted folders",
            "Use a folder, for example output: results.",
        )
    root = home_path(output).absolute()
    probe = root / f".writable-{uuid.uuid4().hex[:8]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"output: cannot write to {root}: {error.strerror}",
            "Choose another folder with --set output=FOLDER, or mend its permissions.",
        ) from None
    return Output(root)
