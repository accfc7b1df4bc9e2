"""One cell -> a point in time that rows can be ordered by: seconds of a date, or a plain number."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from raysft.corpus.cells import Unusable, short, text_of

DATES_ONLY, NUMBERS_ONLY = "dates", "numbers"  # what a column holds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
COMPACT_DATE = re.compile(r"(?:19|20|21)\d{6}", re.ASCII)
ZONE = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)|\s+(?:UTC|GMT|Z)$", re.ASCII)
# Forms beside ISO 8601 that can be read in one way only; 01/02/2024 is not among them.
DATES = ("%Y/%m/%d", "%Y-%m-%d", "%d.%m.%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%a, %d %b %Y")
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %H:%M:%S%z", " %H:%M%z")
FORMS = (*(day + clock for day in DATES for clock in CLOCKS), "%a %b %d %H:%M:%S %z %Y")
LONGEST_DATE = 64  # characters


def time_of(cell: Any, form: str | None = None) -> float:
    """Seconds since 1970 of a date (UTC where no zone is written), or a number as it is.

    form: whether the column holds DATES_ONLY or NUMBERS_ONLY, since 2024 and 2024-01-31 in one column would be on two
    scales; None: either. Among dates 20240131 is one.
    Raises Unusable: missing_time, bad_time.
    """
    if isinstance(cell, date):
        return _date_among(form, cell, cell)
    number = isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)
    text = "" if number else text_of(cell, "time")
    if not number and not text:
        raise Unusable("missing_time")
    if not number and not NUMBER.fullmatch(text):
        return _date_among(form, cell, _date(text))
    found = _finite(cell if number else text)
    if form != DATES_ONLY:
        return found
    day = compact_date(cell)
    if day is None:
        raise Unusable("bad_time", f"found {short(cell)}, a number in a column of dates; write it as 2024-01-31")
    return _seconds(day)


def _date_among(form: str | None, cell: Any, moment: date) -> float:
    if form == NUMBERS_ONLY:
        raise Unusable("bad_time", f"found {short(cell)}, a date in a column of numbers; write all rows in one form")
    return _seconds(moment)


def compact_date(cell: Any) -> date | None:
    """The day that stands there as 20240131, a text or a whole number; else None."""
    text = str(cell).strip() if isinstance(cell, str) or (type(cell) is int and 0 < cell < 10**8) else ""
    if not COMPACT_DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def written(time: float | None, form: str | None) -> float | str | None:
    """What `time_of` read, so that a column of this form gives it back; None where the calendar does not reach."""
    if time is None or form != DATES_ONLY:
        return time
    try:
        return (EPOCH + timedelta(seconds=time)).isoformat()
    except OverflowError:
        return None


def _finite(cell: Any) -> float:
    try:
        found = float(cell)
    except (OverflowError, ValueError):
        found = math.inf
    if math.isnan(found):
        raise Unusable("missing_time")
    if math.isinf(found):
        raise Unusable("bad_time", "the number is too large")
    return found


def _date(text: str) -> datetime:
    """ISO 8601 first, then the other forms."""
    if len(text) <= LONGEST_DATE:
        text = ZONE.sub(lambda found: "+00:00" if found[0].strip() else "", text)
        for form in (None, *FORMS):
            try:
                return datetime.strptime(text, form) if form else datetime.fromisoformat(text)
            except ValueError:
                continue
    raise Unusable("bad_time", f"found {short(text)}; write a number, 2024-01-31 or 2024-01-31T10:00:00+01:00")


def _seconds(moment: date) -> float:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return (moment - EPOCH).total_seconds()
    except (ValueError, OverflowError):
        raise Unusable("bad_time", f"found {short(moment)}") from None
