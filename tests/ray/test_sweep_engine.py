"""Ray Tune under a search: a process that fails is replaced, and a full disk is no fault of a configuration."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raysft.errors import NotAllowed, OutputError, TrainingFailed, UnlikeNode
from raysft.storage.layout import SweepFolder
from raysft.storage.lease import lease
from raysft.tuning import engine
from raysft.tuning.deaths import LOW
from raysft.tuning.director import Errand, FoldJob
from raysft.tuning.engine import run_search
from raysft.tuning.relay import RETRIES, Relay
from raysft.tuning.slots import Slots
from raysft.tuning.work import FoldId

pytestmark = pytest.mark.ray


@dataclass
class Cursed:
    """Work whose every task fails as CUDA does, in whichever process."""

    folder: SweepFolder
    error: Exception
    pids: Path = field(init=False)

    def __post_init__(self) -> None:
        self.pids = self.folder.path.parent / "pids"

    def task(self, trial: int, settings: dict[str, Any], fold: FoldId) -> Any:
        with self.pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        raise self.error


def searched(folder: Path, error: Exception, folds: int = 1) -> tuple[Errand, list[str]]:
    """What became of an errand, and the process of each attempt."""
    work: Any = Cursed(SweepFolder(folder / "sweep"), error)
    errand = Errand([FoldJob(1, {}, FoldId(place)) for place in range(folds)])
    run_search(work, errand, Slots(1, 1, gpu=False))
    return errand, work.pids.read_text().split()


def test_a_process_that_failed_trains_nothing_more(cluster: None, tmp_path: Path) -> None:
    errand, pids = searched(tmp_path, RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert list(errand.failures.values()) == ["RuntimeError: CUDA error: an illegal memory access was encountered"]
    assert len(pids) == len(set(pids)) == RETRIES + 1


def test_a_full_disk_ends_the_search_and_no_configuration_is_blamed(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"):
        searched(tmp_path, OSError(errno.ENOSPC, "No space left on device"), folds=2)
    assert len((tmp_path / "pids").read_text().split()) == 1


def test_a_node_that_lacks_the_base_ends_the_search_and_no_configuration_is_blamed(
    cluster: None, tmp_path: Path
) -> None:
    with pytest.raises(UnlikeNode, match="no such folder") as ended:
        searched(tmp_path, UnlikeNode("on far: no such folder", "Put it there."), folds=2)
    assert ended.value.next_step == "Put it there." and len((tmp_path / "pids").read_text().split()) == 1


@dataclass
class Spent(Errand):
    """Whose budget is over after a while."""

    until: float = 0.0
    given_up: list[FoldJob] = field(default_factory=list)

    def nothing_left(self) -> bool:
        return bool(self.given_up) or super().nothing_left()

    def is_over(self) -> bool:
        return time.monotonic() > self.until

    def left(self, job: FoldJob) -> None:
        self.given_up.append(job)


def test_folds_for_which_no_room_comes_are_given_up_with_the_budget(cluster: None, tmp_path: Path) -> None:
    """As where all nodes were taken away: no epoch tells that the hours are over."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    cpus = int(ray.cluster_resources()["CPU"])
    held = placement_group([{"CPU": 1}] * cpus)
    ray.get(held.ready(), timeout=60)
    try:
        work: Any = Cursed(SweepFolder(tmp_path / "sweep"), TrainingFailed("it was trained"))
        errand = Spent([FoldJob(1, {}, FoldId(place)) for place in range(3)], until=time.monotonic() + 3)
        run_search(work, errand, Slots(2, 1, gpu=False))
    finally:
        remove_placement_group(held)
    assert len(errand.given_up) == 1 and errand.failures == {}  # others were not asked for yet


def burst(spent: str) -> str:
    """Ends this process, the first time."""
    if not Path(spent).exists():
        Path(spent).touch()
        os._exit(1)
    return "nothing left"


@dataclass
class Bomb:
    """Ends the process in which it arrives."""

    spent: str

    def __deepcopy__(self, _: Any) -> Bomb:
        return self

    def __reduce__(self) -> Any:
        return burst, (self.spent,)


def test_a_process_that_dies_between_two_folds_costs_no_configuration(cluster: None, tmp_path: Path) -> None:
    """Tune tries none again whose process dies before its first step, though it had trained others."""
    work: Any = Cursed(SweepFolder(tmp_path / "sweep"), TrainingFailed("trained, or as good as that"))
    jobs = [FoldJob(1, {}, FoldId(0)), FoldJob(2, {"train.seed": Bomb(str(tmp_path / "spent"))}, FoldId(0))]
    errand = Errand(list(jobs))
    run_search(work, errand, Slots(1, 1, gpu=False))
    assert (tmp_path / "spent").exists()
    assert {job.trial: why for job, why in errand.failures.items()} == dict.fromkeys(
        (1, 2), "trained, or as good as that"
    )


def test_a_process_that_ray_ends_for_want_of_memory_is_replaced(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what to do is said."""
    from ray.air.execution._internal import event_manager
    from ray.exceptions import OutOfMemoryError

    usual = event_manager.ray.get

    def get(future: Any) -> Any:
        found = usual(future)
        if isinstance(found, dict) and found.get("found") == ("failed", "short of memory"):
            raise OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.\nMemory: ...")
        return found

    monkeypatch.setattr(event_manager, "ray", SimpleNamespace(get=get, wait=event_manager.ray.wait))
    monkeypatch.setattr(engine, "RETRIES", 1)
    errand, pids = searched(tmp_path, TrainingFailed("short of memory"))
    assert list(errand.failures.values()) == [LOW] and len(pids) == len(set(pids)) == 2


def test_a_process_that_is_killed_is_told_of_in_one_line(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRIES", 0)

    @dataclass
    class Killed(Cursed):
        def task(self, trial: int, settings: dict[str, Any], fold: FoldId) -> Any:
            os._exit(1)

    errand = Errand([FoldJob(1, {}, FoldId(0))])
    work: Any = Killed(SweepFolder(tmp_path / "sweep"), RuntimeError())
    run_search(work, errand, Slots(1, 1, gpu=False))
    (why,) = errand.failures.values()
    assert why.startswith("its process died: ") and len(why) < 200 and "ray stop" not in why


@pytest.mark.parametrize(("status", "told"), [("ERROR", False), ("RUNNING", True)])
def test_a_death_is_told_where_tune_does_not_try_again(status: str, told: bool, monkeypatch: Any) -> None:
    """Of those that it recovers from it tells too, once the trial is in error."""
    job, errand = FoldJob(1, {}, FoldId(0)), Errand([])
    monkeypatch.setitem(engine._SEARCHES, "x", Relay(errand, 1))
    trial: Any = SimpleNamespace(
        status=status,
        config={"job": job},
        should_recover=lambda: True,
        pickled_error_file=None,
    )
    engine._scheduler("x").on_trial_error(None, trial)
    assert errand.failures == ({job: "its process died"} if told else {})


def test_a_fold_that_another_process_trains_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of a command that was killed, which is still within its epoch."""
    monkeypatch.setattr(engine, "IN_USE_S", 0.3)
    fold: Any = engine._trainable(several_workers=False)
    one = fold.__new__(fold)
    folder = SweepFolder(tmp_path / "sweep").fold(1, "0")
    work: Any = SimpleNamespace(
        task=lambda *_: SimpleNamespace(run=folder, threads=1), folder=SweepFolder(tmp_path / "sweep"), measures=()
    )
    one.setup({"job": FoldJob(1, {}, FoldId(0))}, work, Slots(1, 1, gpu=False))
    with lease(folder.lock, "the fold"), pytest.raises(NotAllowed, match="in use by another process"):
        one.step()
    assert not folder.path.exists()


def test_an_error_of_tune_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that names itself as its cause would keep whoever looks for the first cause for ever."""

    def fails(_: Any) -> None:
        raise RuntimeError("Tune gave up")

    monkeypatch.setattr(engine, "fit_aside", fails)
    with pytest.raises(RuntimeError, match="Tune gave up") as raised:
        searched(tmp_path, RuntimeError())
    assert raised.value.__cause__ is None


def test_a_full_disk_is_found_behind_an_error_of_tune() -> None:
    def raised(cause: Exception) -> Exception:
        try:
            try:
                raise cause
            except OSError:
                raise RuntimeError("The Ray Tune run failed")  # noqa: B904  # as its context
        except RuntimeError as error:
            return error

    full = OSError(errno.ENOSPC, "No space left on device")
    assert engine._unwritten(raised(full)) is full
    assert engine._unwritten(raised(FileNotFoundError(errno.ENOENT, "looked for, and not needed"))) is None
