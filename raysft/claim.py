"""What makes two runs the same, and how a run folder becomes ours."""

from __future__ import annotations

import io
import json
from typing import Any

from raysft.config import Job
from raysft.errors import RunConflict
from raysft.storage.commit import digest_of, read_json, sweep_aside, write_bytes, write_json
from raysft.storage.layout import RunFolder, SweepFolder, home_path
from raysft.storage.pretrained import LOCAL, Base

# Settings that change how fast or where a run goes, never what it computes. Another strategy, like another number of
# workers or another micro-batch, adds up in another order, which rounds otherwise (1e-7 a step in float32); a run may
# go on under any of them. On GPU, where dropout masks belong to micro-batches, workers and micro_batch also draw other
# masks, as running out of memory does: still one run, of the same batches, and out of memory it must be able to go on.
# on_nonfinite: a run that was stopped has no result, and one in which nothing went wrong never asked.
# Not neutral: `compile`, which is nothing that a run needs in order to go on and on GPU draws other masks; nor
# data.audit.max_rejected, which is part of the address of the prepared data and stops a run before it has begun.
NEUTRAL = {
    "train": {
        "workers",
        "micro_batch",
        "save_every",
        "track",
        "strategy",
        "offload",
        "activation_checkpointing",
        "on_nonfinite",
    },
    "data": {"engine"},
    "tune": True,
    "output": True,
}


def identity(job: Job, base: Base, data_digest: str) -> dict[str, Any]:
    """What makes two runs the same: every setting that can change the result, the base's weights and the data."""
    settings = json.loads(job.config.model_dump_json(exclude=NEUTRAL))  # type: ignore[arg-type]
    for part in ("train", "validation", "test"):
        settings["data"].pop(part)  # the files' contents count, by the data digest, not where they lie
    settings["model"] = {**settings["model"], "base": base.identity, "revision": None}
    settings["model"].pop("init")  # the base that was built from it says all
    return {"settings": settings, "data": data_digest}


def refuse_other(job: Job, mine: dict[str, Any], run: RunFolder | SweepFolder) -> None:
    """Raise RunConflict when the folder holds a run or sweep, begun or finished, with another identity."""
    if not run.begun or not run.identity.exists():
        return
    theirs = read_json(run.identity)
    if digest_of(theirs) != digest_of(mine):
        raise RunConflict(
            f"{job.where('name')}: a {run.kind} named {job.config.name} exists in {run.path} with other settings: "
            + "; ".join(_differences(theirs, mine)),
            "Choose another name with --set name=NAME, or remove that folder.",
        )


def claim(job: Job, base: Base, mine: dict[str, Any], run: RunFolder | SweepFolder) -> None:
    """Make the run folder ours, and clear away what an interrupted writer left. Call while holding the run's lock."""
    run.path.mkdir(parents=True, exist_ok=True)
    sweep_aside(run.path)
    write_bytes(run.job, _yaml(job, base).encode())
    write_json(run.identity, mine)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for name in sorted({*old, *new}):
            found += _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    if old == new:
        return []
    name = key.removeprefix("settings.")
    return ["the data files have changed" if name == "data" else f"{name} was {old}, now {new}"]


def _found_from_anywhere(job: Job, entry: str | dict[str, str]) -> str | dict[str, str]:
    if isinstance(entry, dict):
        return {name: str(_found_from_anywhere(job, path)) for name, path in entry.items()}
    return entry if "://" in entry else str(job.folder / home_path(entry))


def _find_tokenizer_from_anywhere(job: Job, init: dict[str, Any]) -> None:
    """The folder of a tokenizer as it is found from anywhere; a hub id stays."""
    if init["tokenizer"] is not None and (folder := job.folder / home_path(init["tokenizer"])).exists():
        init["tokenizer"] = str(folder)


def _yaml(job: Job, base: Base) -> str:
    from ruamel.yaml import YAML

    settings = json.loads(job.config.model_dump_json())
    for part in ("train", "validation", "test"):
        if settings["data"][part]:
            # Paths as they are found from anywhere, so that this file can be run again from where it lies.
            settings["data"][part] = [_found_from_anywhere(job, entry) for entry in settings["data"][part]]
    if settings["train"]["batch_tokens"] is not None:
        del settings["train"]["batch_size"]  # written beside it, it is refused
    if settings["model"]["init"] is not None:
        del settings["model"]["base"]  # written beside it, it is refused
        _find_tokenizer_from_anywhere(job, settings["model"]["init"])
    elif base.revision == LOCAL:
        settings["model"]["base"] = str(base.folder)
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump(settings, stream)
    return f"# effective settings of run {job.config.name}, defaults included\n{stream.getvalue()}"
