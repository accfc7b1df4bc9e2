"""Proof that the artifact is what was trained: a fresh Python process loads it and must compute the same logits.

Run as `python -m raysft.evaluation.reload MODEL_FOLDER PROBE_JSON`; it uses transformers alone and prints the largest
difference between its logits and those of the trained model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from raysft.child import child_command
from raysft.errors import TrainingFailed
from raysft.storage.commit import TornFolder, verified_folder

# Same weights, float32, but another process: threads and batch layout may differ. Logits are of order 1 to 10 and
# float32 keeps 7 digits; 1e-3 is far below what changes a decision and far above rounding. A bf16 or GPU run
# records its probe in float32; the reload computes on CPU.
TOLERANCE = 1e-3


def largest_difference(model_folder: Path, probe: Path) -> float:
    """Load the folder as any user of transformers would, and compare with the recorded logits."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

    recorded = json.loads(probe.read_bytes())
    if "task" in recorded:
        return _largest_of_language(model_folder, recorded)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tags = "lengths" in recorded  # tokens have logits, not texts
    kind: Any = AutoModelForTokenClassification if tags else AutoModelForSequenceClassification
    model = kind.from_pretrained(model_folder, dtype=torch.float32).eval()
    inputs = tokenizer(recorded["texts"], padding=True, truncation=True, padding_side="right", return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits
    differences = (logits - torch.tensor(recorded["logits"])).abs()
    if tags:  # what padding has for logits means nothing
        lengths = zip(differences, recorded["lengths"], strict=True)
        differences = torch.cat([row[:length].flatten() for row, length in lengths])
    return float(differences.max())  # not a number where one of them is none


def _largest_of_language(model_folder: Path, recorded: dict[str, Any]) -> float:
    """Of a language model: the logits of each token of the texts, at its own place. Where prompt and answer were
    tokenized apart there is no text, and the tokens are recorded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    kind: Any = AutoModelForMaskedLM if recorded["task"] == "masked-lm" else AutoModelForCausalLM
    tokenizer, model = AutoTokenizer.from_pretrained(model_folder), kind.from_pretrained(model_folder).float().eval()
    marks = recorded.get("marks", True)  # conversations may have those that their template writes
    differences = [torch.zeros(1)]
    tokens = recorded.get("ids") or [None] * len(recorded["texts"])
    for text, own, wanted in zip(recorded["texts"], tokens, recorded["logits"], strict=True):
        if text is not None:
            own = tokenizer(text, truncation=True, add_special_tokens=marks)["input_ids"]
        ids = torch.tensor([own])
        with torch.inference_mode():
            logits = (
                model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].gather(1, ids[0][:, None])[:, 0]
            )
        differences.append((logits - torch.tensor(wanted)).abs())
    return float(torch.cat(differences).max())


class ReloadCheck:
    """The fresh process, running while this one does other work."""

    def __init__(self, model_folder: Path, probe: Path) -> None:
        try:
            verified_folder(model_folder)
        except TornFolder as error:
            raise TrainingFailed(
                f"the artifact is damaged: {error}",
                "Type the same command again: it trains on from the newest checkpoint.",
            ) from None
        command = child_command("raysft.evaluation.reload", str(model_folder), str(probe))
        self._process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> ReloadCheck:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def finish(self) -> float:
        """The largest difference. Raises TrainingFailed when the folder does not load or computes something else."""
        out, err = self._process.communicate()
        if self._process.returncode:
            reason = (err.strip().splitlines() or ["no message"])[-1]
            raise TrainingFailed(f"the artifact does not load in a fresh process: {reason}", "Please report this.")
        found = float(out.strip().splitlines()[-1])
        if not found <= TOLERANCE:
            raise TrainingFailed(
                f"the reloaded artifact computes other logits (largest difference {found:.2g}, allowed {TOLERANCE:g})",
                "Please report this, with the run's folder.",
            )
        return found


if __name__ == "__main__":
    print(largest_difference(Path(sys.argv[1]), Path(sys.argv[2])))  # noqa: T201
