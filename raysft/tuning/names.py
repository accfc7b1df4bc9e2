"""Keys as they stand in tables."""

from __future__ import annotations

from collections.abc import Sequence


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Key -> the shortest of its endings that no other key has: learning_rate, lora.dropout."""
    found = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]
        others = [f".{other}" for other in keys if other != key]
        found[key] = next((end for end in endings if not any(each.endswith(f".{end}") for each in others)), key)
    return found
