"""One thing that is wrong in a rendered cluster file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Where a rule is broken, what that means, and what to do about it."""

    file: str  # name of the rendered file, such as "raycluster.yaml"
    key: str  # dotted path inside it, such as "spec.headGroupSpec.template.spec"
    what: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.what}\n  -> {self.fix}"
