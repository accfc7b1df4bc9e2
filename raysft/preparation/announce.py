"""The lines that a person sees when data is ready: the books, the parts, and what deserves a look."""

from __future__ import annotations

import os
from typing import Any

from raysft.events import Listener
from raysft.reading.encoding import is_guess

NAMED = 3  # files of one encoding that are named


def announce(audit: dict[str, Any], files: list[str] | None, listener: Listener) -> None:
    """Say what became of the rows. audit: Prepared.audit, with rows per part. files: of this job, where it found the
    work done; None: it did the work."""
    if files is not None:
        listener.note(f"prepared before{_from_elsewhere(audit['sources'], files)}")
    columns = audit["columns"]
    guessed = set(columns["guessed"])
    shown = (
        f"{role} = {name}{' (found by its name)' if role in guessed else ''}"
        for role, name in columns.items()
        if role != "guessed"
    )
    listener.note("columns: " + ", ".join(shown))
    _announce_guesses(audit["sources"], listener)
    rows = audit["rows"]
    left = {**rows["rejected"], **rows["quarantined"]}
    rejected, quarantined = sum(rows["rejected"].values()), sum(rows["quarantined"].values())
    listener.note(
        f"rows: {rows['read']} read = {rows['kept']} kept + {rejected} rejected"
        + (f" + {quarantined} quarantined" if quarantined else "")
        + (f" ({', '.join(f'{reason} {count}' for reason, count in left.items())})" if left else "")
    )
    parts = audit["parts"]
    listener.note(
        "parts: "
        + ", ".join(
            f"{name} {parts.get(name, 0)}"
            for name in ("train", "validation", "test", "later", "left out")
            if name in ("train", "validation", "test") or name in parts
        )
        + (f"; {len(audit['labels'])} labels" if audit["labels"] else "")
    )
    for finding in audit["findings"]:
        if finding["level"] == "warning":
            listener.warn(f"{finding['title']}: {finding['found']} {finding['unit']}. {finding['explanation']}")
    for check in audit["proof"]:
        # Texts that stand in the person's own files too are findings; here are groups, and what must never be.
        if check["crossing"] and (check["what"].startswith("groups") or not check["what"].endswith("your files")):
            listener.warn(
                f"{check['what']}: {check['crossing']} of {check['checked']} cross a boundary. {check['note']}"
            )


def _from_elsewhere(sources: list[dict[str, Any]], files: list[str]) -> str:
    """What places in the audit mean, where the same contents were read from other files than this job's."""
    mine = {_place(file) for file in files}
    others = [source["path"] for source in sources if _place(source["path"]) not in mine]
    if not others:
        return ""
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f", from files of the same contents, by which places are named: {', '.join(others[:NAMED])}{more}"


def _place(path: str) -> str:
    """One name for each file, however a job came to it."""
    return path if "://" in path else os.path.realpath(path)


def _announce_guesses(sources: list[dict[str, Any]], listener: Listener) -> None:
    """One warning for each encoding that nobody named: a file that is read wrongly must not stay unseen."""
    files: dict[str, list[str]] = {}
    for source in sources:
        if is_guess(source["encoding"]):
            files.setdefault(source["encoding"], []).append(source["path"])
    for encoding, paths in files.items():
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        listener.warn(
            f"{', '.join(paths[:NAMED])}{more}: not UTF-8, read as {encoding}. "
            "Look whether the texts read right; if not, name the encoding with data.encoding."
        )
