"""A run that is told to stop or to move saves the step at hand, and is then the run it would have been, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysft.config.sections import ModelSection
from raysft.errors import Interrupted
from raysft.storage.pretrained import Base, resolve_base
from raysft.training.loop import Loop
from raysft.training.notice import MOVE, STOP, Moving, Notices
from tests.support.jobs import write_base
from tests.support.loops import SETTINGS, STEPS, losses, make_loop, weights

TWICE = SETTINGS.model_copy(update={"epochs": 2})
DROPOUT = ModelSection(dropout=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def told(loop: Loop, word: str, step: int) -> Loop:
    """The loop, told so after a step; it asks after each."""

    def source() -> str:
        return word if loop.progress.step == step else ""

    loop._notices = Notices(source)
    loop._notices._pace = lambda _: 1  # type: ignore[method-assign, assignment]
    return loop


@pytest.mark.parametrize("step", [1, 5, STEPS, STEPS + 1])
@pytest.mark.parametrize(("word", "error"), [(STOP, Interrupted), (MOVE, Moving)])
def test_it_goes_on_from_the_step_at_which_it_was_told(
    base: Base, tmp_path: Path, step: int, word: str, error: type[Exception]
) -> None:
    whole = make_loop(base, tmp_path / "whole", TWICE, model=DROPOUT)
    whole.run()
    cut: Callable[[], Loop] = lambda: make_loop(base, tmp_path / "cut", TWICE, model=DROPOUT)  # noqa: E731
    with pytest.raises(error, match=f"step {step}"):
        told(cut(), word, step).run()
    gone_on = cut()
    gone_on.run()
    assert gone_on.resumed_from == step
    assert torch.equal(weights(gone_on.model), weights(whole.model))
    assert losses(gone_on) == losses(whole)
    assert gone_on.progress.best_scores == whole.progress.best_scores


def test_told_at_the_last_step_it_is_complete(base: Base, tmp_path: Path) -> None:
    loop = told(make_loop(base, tmp_path, SETTINGS), STOP, STEPS)
    assert loop.run().ended
