"""What is learnt of conversations, for the terminal: in colour, or in brackets where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from raysft.report.learnt import Lesson

LEARNT, READ = "green", "dim"


def lessons_text(lessons: Sequence[Lesson], coloured: bool) -> Text:
    """A legend, and each conversation below its place. coloured: whether whoever reads it sees colours."""
    found = Text("what is learnt: ", style="bold")
    if coloured:
        found.append_text(Text.assemble(("text in this colour", LEARNT), ("; the rest is only read", READ)))
    else:
        found.append("what stands in [brackets]; the rest is only read", style="not bold")
    for each in lessons:
        found.append(f"\n{each.where}: {each.facts}\n", style="not bold")
        for learnt, runs in groupby(each.runs, key=lambda run: run.learnt):
            text = "".join(run.text for run in runs)
            found.append(
                text if coloured or not learnt else f"[{text}]", style=f"not bold {LEARNT if learnt else READ}"
            )
    return found
