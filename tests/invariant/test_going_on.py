"""A run that stopped may go on under the settings that its error prescribes, and is then the run it would have been."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.config.sections import ModelSection
from raysft.errors import TrainingFailed
from raysft.storage.pretrained import Base, resolve_base
from tests.support.jobs import write_base
from tests.support.loops import SETTINGS, assert_near, losses, make_loop, nan, spoil, weights

STOP = SETTINGS.model_copy(update={"save_every": 3})
SKIP = STOP.model_copy(update={"on_nonfinite": "skip"})
DROPOUT = ModelSection(dropout=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


def test_other_micro_batches_and_skipping_go_on_from_a_checkpoint(base: Base, tmp_path: Path) -> None:
    """Stopped in step 5, of which the checkpoint of step 3 knows nothing; with dropout, whose masks belong to rows."""
    never_stopped = make_loop(base, tmp_path / "whole", SKIP, model=DROPOUT)
    spoil(never_stopped, 5, nan)
    never_stopped.run()
    stopped = make_loop(base, tmp_path / "cut", STOP, model=DROPOUT)
    spoil(stopped, 5, nan)
    with pytest.raises(TrainingFailed, match="step 5"):
        stopped.run()
    gone_on = make_loop(base, tmp_path / "cut", SKIP, micro=3, model=DROPOUT)
    spoil(gone_on, 5, nan)
    gone_on.run()
    assert (gone_on.resumed_from, gone_on.progress.skipped) == (3, 1)
    assert_near(weights(gone_on.model), weights(never_stopped.model))
    assert losses(gone_on) == pytest.approx(losses(never_stopped), rel=1e-4)
