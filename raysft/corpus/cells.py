"""One cell of a file -> text, list or part (times: corpus/times.py): understood, or refused with a named reason."""

from __future__ import annotations

import ast
import json
import math
import re
from datetime import date, time
from decimal import Decimal
from typing import Any

from raysft.corpus.cleaning import SURROGATE, clean, readable

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval"), TEST),
}
# A list as Python prints it (pandas writes such cells): strings, numbers, names, brackets. Nothing else is evaluated.
STRING = r"""'(?:[^'\\\n]|\\[\\'"nrtxuU])*'|"(?:[^"\\\n]|\\[\\'"nrtxuU])*\""""
VALUE = rf"{STRING}|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|None|True|False"
PIECE = re.compile(rf"\s*(?:(?P<value>{VALUE})|(?P<open>[\[({{])|(?P<close>[\])}}])|[,:])", re.ASCII)
DEEPEST = 8  # brackets in brackets of a Python list; people have two or three
EXACT = 10**15  # whole floats below are printed as whole numbers


class Unusable(Exception):
    """A row that cannot be used: the name of the reason, and what was seen."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def text_of(cell: Any, role: str) -> str:
    """Clean text of a cell; "" where there is nothing.

    Numbers, truth values and dates become text: True -> true, 3.0 -> 3.
    Raises Unusable: ROLE_is_not_text for a list or an object, not_utf8 for half a character.
    """
    if not isinstance(cell, str):
        cell = as_text(cell, role)
    if cell.isascii() and cell.isprintable():  # most rows: nothing but the space around can change
        return str(cell.strip())
    if not cell.isascii() and SURROGATE.search(cell):
        raise Unusable("not_utf8", f"in the {role}")
    return clean(cell)


def as_text(cell: Any, role: str) -> str:
    """A value as people would write it, not yet cleaned."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int | float | Decimal):
        return _number(cell, role)
    if isinstance(cell, date | time):  # a datetime is a date
        return cell.isoformat()
    if isinstance(cell, bytes):
        return _decoded(cell, role)
    raise Unusable(f"{role}_is_not_text", f"found {kind(cell)}")


def _number(cell: float | Decimal, role: str) -> str:
    """A whole number without a point, others as they are; not-a-number is how some programs write nothing."""
    if isinstance(cell, int):
        if abs(cell) >= 10**100:  # Python refuses to print numbers of thousands of digits
            raise Unusable(f"{role}_is_not_text", "found a number of more than 100 digits")
        return str(cell)
    if cell.is_nan() if isinstance(cell, Decimal) else math.isnan(cell):
        return ""
    whole = -EXACT < cell < EXACT and cell == int(cell)
    return str(int(cell)) if whole else str(cell)


def _decoded(cell: bytes, role: str) -> str:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        raise Unusable("not_utf8", f"in the {role}") from None


def list_of(cell: Any) -> list[Any] | None:
    """A list, or the list that stands in a text as JSON or as Python prints it; None: it is something else."""
    if isinstance(cell, list | tuple):
        return list(cell)
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = _python_list(cell.strip())
    return found if isinstance(found, list) else None


def _python_list(cell: str) -> Any:
    """A list as Python prints it, else None.

    numpy prints lists without commas, and Python would join the strings of such a list to one: so two values must
    not stand side by side. Depth is limited because deep input can exhaust the stack of the parser.
    """
    depth, place, after_value = 0, 0, False
    while place < len(cell):
        piece = PIECE.match(cell, place)
        if piece is None or (after_value and piece["value"]):
            return None
        depth += bool(piece["open"]) - bool(piece["close"])
        if depth > DEEPEST:
            return None
        place, after_value = piece.end(), bool(piece["value"])
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError):
        return None


def part_of(cell: Any) -> str:
    """train, validation or test, from the names people give them. Raises Unusable: unknown_split."""
    name = text_of(cell, "split")
    try:
        return PARTS[name.casefold()]
    except KeyError:
        found = short(name) if name else "nothing"
        raise Unusable("unknown_split", f"found {found}; allowed: {', '.join(PARTS)}") from None


def group_of(cell: Any) -> str:
    """What must stay together. Raises Unusable: missing_group."""
    name = text_of(cell, "group")
    if not name:
        raise Unusable("missing_group")
    return name


def shown(cell: Any) -> str:
    """Any cell as readable text for a list of rejected rows; never fails."""
    if isinstance(cell, str):
        return clean(readable(cell))
    if isinstance(cell, list | tuple) and all(isinstance(item, str) for item in cell):
        return clean(readable(" ".join(cell)))
    try:
        return text_of(cell, "cell")
    except Unusable:
        return _listed(cell)


def _listed(cell: Any) -> str:
    try:
        return clean(readable(json.dumps(cell, ensure_ascii=False, default=str)))
    except (TypeError, ValueError, RecursionError):
        return f"({kind(cell)})"


def short(cell: Any) -> str:
    """A cell for a sentence: quoted, at most 60 characters."""
    text = shown(cell)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def kind(cell: Any) -> str:
    """What sort of value a cell holds, in plain words."""
    if isinstance(cell, list | tuple):
        return f"a list of {len(cell)}"
    return "an object" if isinstance(cell, dict) else f"a value of type {type(cell).__name__}"
