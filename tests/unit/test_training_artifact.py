"""What the artifact is built from: settings that its users compute with, a probe that fits, the best threshold."""

from __future__ import annotations

import numpy as np
import pytest

from raysft.config import JobConfig
from raysft.config.sections import ModelSection
from raysft.corpus.tokens import from_lists
from raysft.training import artifact
from raysft.training.artifact import exported, probe_rows
from raysft.training.tasks import decision_facts

QUANTIZED = {"r": 4, "variant": "dora", "quantize": "4bit"}
WHOLE = {"r": 4, "variant": "dora"}


@pytest.mark.parametrize("attention", ["flash_attention_2", "auto"])
@pytest.mark.parametrize("lora", [None, WHOLE, QUANTIZED])
def test_neither_flash_attention_nor_four_bits_are_exported(attention: str, lora: dict[str, object] | None) -> None:
    asked = ModelSection.model_validate({"attention": attention, "lora": lora, "max_length": 77})
    expected = ModelSection.model_validate({"attention": "auto", "lora": lora and WHOLE, "max_length": 77})
    assert exported(asked) == expected


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_what_a_cpu_computes_too_is_exported_as_it_is(attention: str) -> None:
    asked = ModelSection.model_validate({"attention": attention, "lora": WHOLE})
    assert exported(asked) == asked


def test_the_probe_is_one_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = from_lists([[1] * length for length in (3, 5, 2, 9, 1)], [0] * 5)
    for tokens, count in ((1, 1), (9, 1), (10, 2), (15, 3), (35, 3), (36, 4), (1000, 5)):
        monkeypatch.setattr(artifact, "PROBE_TOKENS", tokens)
        assert probe_rows(rows).row_id.tolist() == rows.row_id[:count].tolist()
    many = from_lists([[1, 2]] * 100, [0] * 100)
    assert np.array_equal(probe_rows(many).row_id, many.row_id[: artifact.PROBE_ROWS])


def test_the_threshold_is_that_of_the_best_epoch() -> None:
    job = {"name": "x", "task": "classification", "data": {"train": "x.csv", "multi_label": True}}
    several = JobConfig.model_validate(job)
    assert decision_facts(several, {"f1_micro": 0.9, "threshold": 0.3}) == {"threshold": 0.3}
    assert decision_facts(several, {}) == {"threshold": 0.5}  # without a validation part
    with pytest.raises(KeyError):
        decision_facts(several, {"f1_micro": 0.9})
    one = JobConfig.model_validate({**job, "data": {"train": "x.csv"}})
    assert decision_facts(one, {"accuracy": 0.9}) == {}
