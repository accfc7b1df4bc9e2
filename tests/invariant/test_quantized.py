"""A base in 4 bits trains its adapters and goes on bit for bit; the artifact computes what was trained.

bitsandbytes computes on CPU too, slowly: that is enough here, though jobs are refused it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raysft.config.sections import ModelSection
from raysft.model.classifier import build_classifier, load_classifier
from raysft.model.lora import merge_adapters
from raysft.model.quantize import dequantized, without_quantizing
from raysft.storage.pretrained import Base, resolve_base
from raysft.training import ranks
from tests.invariant import test_approaches
from tests.invariant.test_approaches import LABELS, changed, make_loop, require_export_without_flash, state
from tests.support.jobs import write_base

pytest.importorskip("bitsandbytes", reason="the extra `qlora` is not installed")
LORA = {"lora": {"r": 4, "dropout": 0.1, "variant": "dora", "quantize": "4bit"}}
SETTINGS = ModelSection.model_validate(LORA)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model's layers are too narrow for the packing that bitsandbytes has for some CPUs."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    monkeypatch.setitem(test_approaches.APPROACHES, "qlora", (LORA, {}))


def test_adapters_and_head_learn_and_the_run_goes_on_bit_for_bit(base: Base, tmp_path: Path) -> None:
    loop = make_loop(base, tmp_path / "run", "qlora")
    before = state(loop.model)
    loop.run()
    listed = {each for part in loop.approach.recipe.groups for each in part.tensors}
    assert changed(before, state(loop.model)) == listed
    for newest in sorted((tmp_path / "run" / "checkpoints").iterdir())[1:]:
        if newest.name.startswith("step-000018"):
            (newest / "optimizer.safetensors").write_bytes(b"torn")
    again = make_loop(base, tmp_path / "run", "qlora")
    again.run()
    assert again.resumed_from == 16
    assert ranks.weights_digest(again.model) == ranks.weights_digest(loop.model)


def test_the_artifact_is_stock_and_computes_what_was_trained(base: Base, tmp_path: Path) -> None:
    """Dequantized weights against products with 4-bit weights, in float32: other sums, some 1e-7 of values near 1."""
    small = build_classifier(base, SETTINGS, LABELS, 3).eval()
    ids = torch.arange(5, 69).reshape(4, 16)
    with torch.inference_mode():
        for name, parameter in small.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        trained = small(input_ids=ids).logits
    whole = dequantized(small, build_classifier(base, without_quantizing(SETTINGS), LABELS, 3)).eval()
    merge_adapters(whole)
    whole.save_pretrained(tmp_path)  # type: ignore[operator]
    with torch.inference_mode():
        torch.testing.assert_close(load_classifier(tmp_path)(input_ids=ids).logits, trained, rtol=0, atol=1e-6)


def test_what_flash_attention_trained_over_four_bits_is_exported_without_either(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_export_without_flash(base, tmp_path, "qlora", monkeypatch)
