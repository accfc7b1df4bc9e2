"""One process trains fold after fold: each begins with the weights of a fresh model, read from disk once."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysft.config import Job, JobConfig, load_job
from raysft.corpus.tokens import read_shards
from raysft.errors import UnlikeNode
from raysft.preparation.prepared import Prepared
from raysft.storage.layout import DataFolder, SweepFolder
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import precision
from raysft.training.forward import predict_logits
from raysft.training.precision import Precision
from raysft.training.tasks import build_model
from raysft.training.worker import Task
from raysft.tuning import work as module
from raysft.tuning.fold import read_held_out, read_record, train_fold
from raysft.tuning.parameter import canonical
from raysft.tuning.space import Space
from raysft.tuning.spread import LEFT, FoldWorker
from raysft.tuning.work import FoldId, Work, Workbench
from tests.support.jobs import corpus_rows
from tests.support.language import write_causal_base
from tests.support.loops import LABELS, weights
from tests.support.preparing import job_of, run

SEARCH: dict[str, Any] = {
    "train.learning_rate": [5e-3, 1e-3],
    "model.dropout": [0.0, 0.1],
    "train.seed": [3, 4],
    "model.freeze.layers": [0, 1],
}
PLAIN = Precision.plain(torch.device("cpu"))
FIRST, OTHER = {"train.learning_rate": 5e-3}, {"train.learning_rate": 1e-3}
DROPPED, SEEDED, FROZEN = {"model.dropout": 0.1}, {"train.seed": 4}, {"model.freeze.layers": 1}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def work(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    job = job_of(folder, base_folder, corpus_rows(120), train={"epochs": 1, "track": ["tensorboard"]})
    return work_of(job, run(job), folder)


def work_of(job: Job, prepared: Prepared, folder: Path, search: dict[str, Any] | None = None) -> Work:
    values = {**job.values, "tune": {"search": SEARCH if search is None else search}}
    space = Space.of(Job(JobConfig.model_validate(values), job.path, values=values))
    base = resolve_base(job.config.model.base)
    return Work(space, SweepFolder(folder / "sweep"), {canonical({}): (base, prepared)}, ("f1_macro", "loss"), 1, False)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[JobConfig]:
    """The jobs for which a model was read from disk."""
    found: list[JobConfig] = []

    def watched(config: JobConfig, base: Base, labels: tuple[str, ...]) -> nn.Module:
        found.append(config)
        return build_model(config, base, labels)

    monkeypatch.setattr(module, "build_model", watched)
    return found


def assert_fresh(model: nn.Module, task: Task) -> None:
    """The weights are those of a fresh model; of the embeddings there are perhaps only those of tokens that occur."""
    rows = read_shards(task.data.folder.tokens(sealed=False))
    used = np.unique(np.concatenate([[0], *(rows.tokens(row) for row in range(len(rows)))]))  # 0: the padding
    mine, theirs = (dict(each.named_parameters()) for each in (model, build_model(task.config, task.base, LABELS)))
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        expected = theirs[name].detach()
        if weight.shape != expected.shape:
            assert "word_embeddings" in name
            expected = expected[torch.from_numpy(used.astype(np.int64))]
        assert torch.equal(weight.detach(), expected), name


def train(bench: Workbench, task: Task) -> nn.Module:
    loop = bench.loop(task)
    assert_fresh(loop.model, task)
    before = weights(loop.model)
    for _ in train_fold(loop, task.run, bench.work.measures):  # type: ignore[arg-type]
        pass
    assert not torch.equal(weights(loop.model), before)
    return loop.model


def test_every_fold_begins_with_the_weights_of_a_fresh_model(work: Work, built: list[JobConfig]) -> None:
    """Whatever was trained before; of as many configurations as have the same model one is read."""
    bench = Workbench(work)
    models = [
        train(bench, work.task(1, FIRST, FoldId(0))),
        train(bench, work.task(1, FIRST, FoldId(1))),
        train(bench, work.task(2, OTHER, FoldId(0))),
    ]
    assert len(built) == 1
    assert len({weight.data_ptr() for model in models for weight in model.parameters()}) == sum(
        len(list(model.parameters())) for model in models
    )
    train(bench, work.task(3, DROPPED, FoldId(0)))
    train(bench, work.task(4, SEEDED, FoldId(0)))
    train(bench, work.task(1, FIRST, FoldId(2)))
    assert len(built) == 4 and len(bench._models) == 1  # one at a time


def test_a_fold_that_is_left_off_leaks_nothing_into_the_next(work: Work) -> None:
    bench = Workbench(work)
    loop = bench.loop(work.task(5, FIRST, FoldId(0)))
    epochs = train_fold(loop, work.task(5, FIRST, FoldId(0)).run, work.measures)  # type: ignore[arg-type]
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    train(bench, work.task(5, FIRST, FoldId(1)))


def test_a_model_has_as_many_parameters_whatever_of_it_trains(work: Work) -> None:
    """Tokens that no row has are left out of some, and count all the same: configurations are chosen by their size."""
    bench, trained = Workbench(work), []
    for trial, settings in ((20, FIRST), (21, FROZEN)):
        task = work.task(trial, settings, FoldId(0))
        model = train(bench, task)
        whole = build_model(task.config, task.base, LABELS)
        record = read_record(work.fold_folder(trial, FoldId(0)))
        assert record.parameters == sum(weight.numel() for weight in whole.parameters())
        trained.append((record.trained, sum(weight.numel() for weight in model.parameters())))
    assert trained[0][0] == record.parameters > trained[1][0]
    assert trained[0][1] < record.parameters == trained[1][1]  # something was left out of the first


@pytest.mark.parametrize("settings", [FIRST, DROPPED, FROZEN])
def test_what_a_fold_scores_does_not_depend_on_what_the_process_trained_before(
    work: Work, settings: dict[str, Any]
) -> None:
    """Dropout and hooks of a model belong to its copy."""
    bench = Workbench(work)
    for trial, place in ((10, 1), (11, 0)):  # first another fold, then this one
        train(bench, work.task(trial, settings, FoldId(place)))
    train(Workbench(work), work.task(12, settings, FoldId(0)))
    used, new = (work.fold_folder(trial, FoldId(0)) for trial in (11, 12))
    assert np.array_equal(read_held_out(used).influence["loss"], read_held_out(new).influence["loss"])
    assert read_record(used).train_loss == read_record(new).train_loss


@pytest.mark.parametrize(("hours", "epochs"), [(-1.0, 1), (1.0, 3)])
def test_workers_leave_off_at_their_deadline_and_go_on_later(work: Work, hours: float, epochs: int) -> None:
    """They train a whole fold before anyone hears of it. The epoch at which they left off is trained again."""
    trial = 30 + epochs
    task = work.task(trial, {**FIRST, "train.epochs": 3}, FoldId(0))
    said = FoldWorker(work.measures, work.folder.precision, time.time() + 3600 * hours)(task)
    assert said == (LEFT if epochs < 3 else "done") and task.run.path.joinpath("fold.json").exists() == (epochs == 3)
    lines = [json.loads(text) for text in task.run.metrics.read_text().splitlines()]
    assert len([line for line in lines if "validation_loss" in line]) == epochs
    assert FoldWorker(work.measures, work.folder.precision)(task) == "done"
    assert len(read_record(work.fold_folder(trial, FoldId(0))).scores) == 3


@pytest.mark.parametrize("epochs", [{"train.epochs": 1}, {"train.epochs": 4, "train.stop_at": 1}])
def test_workers_do_not_leave_off_what_is_nearly_done(work: Work, epochs: dict[str, Any]) -> None:
    task = work.task(40 + len(epochs), {**FIRST, **epochs}, FoldId(0))
    assert FoldWorker(work.measures, work.folder.precision, 0.0)(task) == "done"


def test_no_checkpoints_are_kept_and_no_trackers_told(work: Work) -> None:
    task = work.task(6, FIRST, FoldId(0))
    assert work.space.job.config.train.track and task.config.train.track == ()
    train(Workbench(work), task)
    assert not task.run.checkpoints.exists() and not task.run.tensorboard.exists()
    assert task.run.path == work.folder.path / "folds" / "trial-0006" / "fold-0"


def test_a_task_has_the_settings_of_its_configuration_and_the_rows_of_its_fold(work: Work) -> None:
    task = work.task(7, OTHER, FoldId(2, without=1))
    assert task.config.train.learning_rate == 1e-3 and task.config.tune is None
    assert (task.data.validation, task.data.without, task.run.path.name) == (2, 1, "fold-2-without-1")
    whole = work.task(7, OTHER, FoldId(2))
    held, learnt = (set(task.data.tokens(part).row_id.tolist()) for part in ("validation", "train"))
    assert held == set(whole.data.tokens("validation").row_id.tolist()) and not held & learnt
    without = set(work.task(7, OTHER, FoldId(1)).data.tokens("validation").row_id.tolist())
    assert without and learnt == set(whole.data.tokens("train").row_id.tolist()) - without
    scoring = work.task(7, OTHER, FoldId(1, nested=True))
    assert set(scoring.data.tokens("validation").row_id.tolist()) == without and scoring.data.without is None


def test_work_travels_to_other_processes(work: Work) -> None:
    again: Work = pickle.loads(pickle.dumps(work))  # noqa: S301  # ours
    task = again.task(8, FIRST, FoldId(0))
    assert task == work.task(8, FIRST, FoldId(0))


def test_data_is_that_of_the_settings_that_change_it(tmp_path: Path, base_folder: Path) -> None:
    base = resolve_base(str(base_folder))
    values = {"name": "tiny", "data": {"train": "rows.csv"}, "tune": {"search": {"model.max_length": [16, 32]}}}
    space = Space.of(Job(JobConfig.model_validate(values), Path("job.yaml"), values=values))
    found = {
        canonical({"model.max_length": length}): (base, Prepared(str(length), DataFolder(tmp_path), (), 0, 2, "random"))
        for length in (16, 32)
    }
    made = Work(space, SweepFolder(tmp_path), found, ("loss",), 1, False)
    assert made.data({"train.epochs": 3, "model.max_length": 32})[1].digest == "32"
    assert made.task(1, {"model.max_length": 16}, FoldId(0)).data.digest == "16"


def test_bases_that_differ_in_their_config_alone_are_two(tmp_path: Path, base_folder: Path) -> None:
    """As where heads of model.init are searched: the weights have the same shapes, and come from the same seed."""
    other = tmp_path / "other"
    shutil.copytree(base_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_attention_heads": 4}))
    rests = {"freeze": {"embeddings": True, "layers": 1}, "dropout": 0.0}
    job = job_of(tmp_path, base_folder, corpus_rows(60), train={"epochs": 1}, model=rests)
    prepared, names = run(job), [str(base_folder), str(other)]
    made = work_of(job, prepared, tmp_path, {"model.base": names})
    found = {canonical({"model.base": name}): (resolve_base(name), prepared) for name in names}
    assert len({base.weights_sha256 for base, _ in found.values()}) == 1
    bench = Workbench(replace(made, prepared=found))
    for name, heads in zip(names, (2, 4), strict=True):
        own = replace(bench.work, folder=SweepFolder(tmp_path / f"with {heads} alone"))
        tasks = [each.task(heads, {"model.base": name}, FoldId(0)) for each in (bench.work, own)]
        both: list[Any] = [bench.loop(tasks[0]).model, Workbench(own).loop(tasks[1]).model]
        assert [model.config.num_attention_heads for model in both] == [heads, heads]
        mine, theirs = (predict_logits(model, tasks[0].data.tokens("validation"), 0, PLAIN) for model in both)
        assert np.array_equal(mine, theirs)


def test_a_model_in_few_bits_is_read_anew_for_each_fold(
    work: Work, built: list[JobConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_quantized", lambda _: True)
    bench = Workbench(work)
    first, second = (bench.loop(work.task(9, FIRST, FoldId(place))).model for place in (0, 1))
    assert first is not second and len(built) == 2 and bench._models == {}


def test_a_language_model_is_built_anew_for_each_fold(tmp_path: Path, built: list[JobConfig]) -> None:
    """What its head computes knows the very modules that it was made for."""
    base = write_causal_base(tmp_path / "base")
    job = load_job(
        job_of(
            tmp_path,
            base,
            corpus_rows(60),
            task="causal-lm",
            data={"label": None, "group": None},
            train={"epochs": 1},
        ).path
    )
    made = work_of(job, run(job), tmp_path, {"train.learning_rate": [5e-3, 1e-3]})
    made = Work(made.space, made.folder, made.prepared, ("loss",), 1, False)
    bench = Workbench(made)
    for place in (0, 1):
        train(bench, made.task(1, FIRST, FoldId(place)))
    assert len(built) == 2 and bench._models == {}


def test_a_node_with_other_weights_trains_nothing(work: Work) -> None:
    task = work.task(14, FIRST, FoldId(0))
    with pytest.raises(UnlikeNode, match=r"holds other weights \(.{12}\) than the driver \(000000000000\)"):
        Workbench(work).loop(replace(task, base=replace(task.base, weights_sha256="0" * 64)))


def test_a_node_without_the_base_is_unlike_the_driver_and_no_configuration_is_blamed(
    work: Work, tmp_path: Path
) -> None:
    task = work.task(15, FIRST, FoldId(0))
    half = tmp_path / "half copied"
    half.mkdir()
    for folder in (tmp_path / "nothing here", half):
        elsewhere = replace(task, base=replace(task.base, folder=folder))
        with pytest.raises(UnlikeNode, match=f"on {socket.gethostname()}: "):
            Workbench(work).loop(elsewhere)


def test_all_folds_are_computed_in_the_precision_of_the_first_one(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they are trained: of two kinds of machine one has bf16, and the other would choose fp32."""
    made = replace(work, folder=SweepFolder(work.folder.path / "unlike machines"))
    asked = made.task(1, FIRST, FoldId(0))
    task = replace(asked, config=changed(asked.config, train={"precision": "auto"}))
    names = []
    for best in ("bf16", "fp32"):
        monkeypatch.setattr(precision, "_best", lambda _device, best=best: best)
        names.append(Workbench(made).loop(task).precision.name)
    assert names == ["bf16", "bf16"]
    assert Workbench(made).loop(asked).precision.name == "fp32"
    monkeypatch.setattr(precision, "_no_effect", lambda *_: "bf16 needs another processor; or so")
    with pytest.raises(UnlikeNode, match="was begun in bf16, but bf16 needs another processor"):
        Workbench(made).loop(task)


def changed(config: JobConfig, **sections: dict[str, Any]) -> JobConfig:
    found = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    return config.model_copy(update=found)
