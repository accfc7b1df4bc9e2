"""raysft: a labelled corpus in, a fine-tuned model whose quality is known out.

    import raysft

    raysft.check("job.yaml")                     # valid? what will it take?
    result = raysft.train("job.yaml")            # the whole journey; resumes after an interruption
    result.measure("f1_macro")                   # 0.806 [0.762, 0.854] on the sealed test rows
    raysft.predict("job.yaml", texts=["my parcel is late"])

The command `raysft` does the same; raysft/pipeline.py is where to start reading. Importing this package loads nothing
heavy: each function imports what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysft.initialise import init
    from raysft.pipeline import check, cv, data, evaluate, predict, train, tune

_PLACES = {
    **dict.fromkeys(("check", "data", "train", "cv", "tune", "evaluate", "predict"), "raysft.pipeline"),
    "init": "raysft.initialise",
}


def schema() -> dict[str, Any]:
    """The JSON schema of the job file."""
    from raysft.config.reference import json_schema

    return json_schema()


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        import importlib

        return getattr(importlib.import_module(_PLACES[name]), name)
    if name == "__version__":
        from raysft.version import VERSION

        return VERSION
    raise AttributeError(f"module 'raysft' has no attribute {name!r}")


__all__ = ["check", "cv", "data", "evaluate", "init", "predict", "schema", "train", "tune"]
