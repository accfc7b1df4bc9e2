"""What may be run on a cluster: verbs of the command that take a job file."""

from __future__ import annotations

VERBS = ("train", "tune", "cv", "data", "evaluate", "predict")
