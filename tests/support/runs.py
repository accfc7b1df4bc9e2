"""What a loop leaves behind, and a loop that is interrupted at a step of one's choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysft.training.loop import Loop


class Stopped(Exception):
    """What an interruption is to the loop that it hits."""


def run_until(loop: Loop, step: int) -> None:
    """Run, and be interrupted before the update that follows `step`. It must come to that."""
    take: Callable[[Any], None] = loop._step

    def limited(batch: Any) -> None:
        if loop.progress.step == step:
            raise Stopped
        take(batch)

    loop._step = limited  # type: ignore[method-assign,assignment]
    try:
        loop.run()
    except Stopped:
        return
    raise AssertionError(f"the loop ended before it came to step {step}")


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trajectory(folder: Path) -> list[tuple[float, float]]:
    """(loss, gradient norm) of every step."""
    return [(line["loss"], line["grad_norm"]) for line in lines_of(folder) if "loss" in line]
