"""Likely wrong labels: embed a sample of the training rows with the frozen base, and let a probe doubt their labels."""

from __future__ import annotations

from typing import Any

from raysft.audit.finding import Finding


def check_wrong_labels(*_: Any) -> tuple[Finding, dict[str, Any]]:
    raise NotImplementedError
