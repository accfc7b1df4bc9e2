"""One key that is searched: what it may be, and under which values of other keys it matters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from raysft.config.values import parse_share

if TYPE_CHECKING:
    from optuna.trial import Trial

Settings = dict[str, Any]  # key of the job file -> value
Place = tuple[str, ...]  # within the entry of a key: ("log", "0")
FORMS = "[VALUE, VALUE], {log: [LOW, HIGH]}, {uniform: [LOW, HIGH]}, {int: [LOW, HIGH]} or {choices: [VALUE, VALUE]}"
RANGES = ("log", "uniform", "int")
BESIDE = {"choices": {"when"}, "log": {"when"}, "uniform": {"when"}, "int": {"when", "step", "log"}}


class EntryError(ValueError):
    """What is wrong with an entry of the search, and where in it."""

    def __init__(self, text: str, *place: str) -> None:
        super().__init__(text)
        self.place: Place = place


@dataclass(frozen=True)
class Parameter:
    """A key and its values: one of `choices`, or, where these are None, a number from low to high, both included."""

    key: str
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    step: int | None = None  # between whole numbers; None: any number of the range
    log: bool = False  # as many proposals between 1 and 10 as between 10 and 100
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # another key -> its values that are asked for
    form: Place = ()  # where the values stand: () for a list, ("log",) and so on

    @property
    def finite(self) -> bool:
        """Whether its values can be counted."""
        return self.choices is not None or self.step is not None

    def values(self) -> Iterator[Any]:
        """Every value, in order. Only for a finite one."""
        if self.choices is not None:
            yield from self.choices
        else:
            assert self.step is not None
            yield from range(int(self.low), int(self.high) + 1, self.step)

    def limits(self) -> tuple[Any, ...]:
        """The values that must all be allowed for every one to be: all choices, or both ends of a range."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def place(self, value: Any) -> Place:
        """Where in the entry a value of `limits` stands."""
        known = [canonical(each) for each in self.limits()]
        return (*self.form, str(known.index(canonical(value)))) if canonical(value) in known else self.form

    def contains(self, value: Any) -> bool:
        """Whether it may be this value."""
        if self.choices is not None:
            return _is_among(value, self.choices)
        if not _is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or (isinstance(value, int) and (value - int(self.low)) % self.step == 0)

    def read(self, value: Any) -> Any:
        """A value as a person writes it: a share such as 10%, which a range has as 0.1, is that number."""
        try:
            return _number(value) if self.choices is None else value
        except EntryError:
            return value

    def far(self, value: Any, own: Any) -> float:
        """How far a value is from another, 0 to 1: numbers by their places among the values, others the same or not."""
        if canonical(value) == canonical(own):
            return 0.0
        if not _is_number(value) or not _is_number(own) or not self.finite:
            return 1.0
        known = sorted(each for each in self.values() if _is_number(each))
        nearest = min(known, key=lambda each: abs(math.log(each / own)) if each > 0 < own else abs(each - own))
        return abs(known.index(value) - known.index(nearest)) / len(known)

    def matters(self, settings: Settings) -> bool:
        """Whether its condition holds. settings: of at least the keys that it names, where these matter themselves."""
        return all(key in settings and _is_among(settings[key], values) for key, values in self.when.items())

    def suggest(self, trial: Trial) -> Any:
        """The value that an optuna trial gives it."""
        if self.choices is not None:  # by its place: optuna stores no lists and mappings
            return self.choices[trial.suggest_categorical(self.key, tuple(range(len(self.choices))))]
        if self.step is not None:
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=self.step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def stored(self, value: Any) -> Any:
        """A value as optuna stores it: the counterpart of `suggest`."""
        if self.choices is None:
            return value
        return [canonical(each) for each in self.choices].index(canonical(value))


def canonical(value: Any) -> str:
    """The same text for the same value, whatever the order of its keys; 1 and 1.0 are the same number."""
    return json.dumps(_whole(value), sort_keys=True, ensure_ascii=False, default=str)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_among(value: Any, values: tuple[Any, ...]) -> bool:
    return canonical(value) in map(canonical, values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parameter(key: str, entry: Any) -> Parameter:
    """What an entry of `search` says, its condition aside. Raises EntryError."""
    if isinstance(entry, list):
        return _choices(key, entry)
    # {int: [1, 64], log: true} is a range of whole numbers.
    named = [name for name in ("choices", "int", "uniform", "log") if isinstance(entry, dict) and name in entry][:1]
    if not named:
        raise EntryError(f"must be {FORMS}, found {shown(entry)}")
    form = named[0]
    for name in entry:
        if name not in {form, *BESIDE[form]}:
            raise EntryError(f"{form} stands with {' or '.join(sorted(BESIDE[form]))} only, found {name} too", name)
    if form == "choices":
        return replace(_choices(key, entry[form], form), form=(form,))
    return _whole_range(key, entry) if form == "int" else _range(key, form, entry[form])


def _choices(key: str, values: Any, *place: str) -> Parameter:
    if not isinstance(values, list):
        raise EntryError(f"must be a list of values, found {shown(values)}", *place)
    if not values:
        raise EntryError("must have at least one value, found []", *place)
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if seen.setdefault(canonical(value), index) != index:
            raise EntryError(f"{shown(value)} stands there twice; remove one", *place, str(index))
    return Parameter(key, tuple(values))


def _range(key: str, form: str, ends: Any) -> Parameter:
    low, high = _ends(form, ends)
    if form == "log" and low <= 0:
        raise EntryError(f"a range by logarithm lies above 0, found {shown(ends)}; write {{uniform: [...]}}", form)
    return Parameter(key, low=float(low), high=float(high), log=form == "log", form=(form,))


def _whole_range(key: str, entry: dict[str, Any]) -> Parameter:
    low, high = _ends("int", entry["int"])
    if not (isinstance(low, int) and isinstance(high, int)):
        raise EntryError(f"must be whole numbers, found {shown(entry['int'])}; write {{uniform: [...]}}", "int")
    step, log = entry.get("step", 1), entry.get("log", False)
    if not isinstance(step, int) or isinstance(step, bool) or not 1 <= step <= high - low:
        raise EntryError(f"must be a whole number from 1 to {high - low}, found {shown(step)}", "step")
    if not isinstance(log, bool):
        raise EntryError(f"must be true or false, found {shown(log)}", "log")
    if log and (low < 1 or step != 1):
        raise EntryError("a range by logarithm begins at 1 or above and has no step; change one of these", "log")
    return Parameter(key, low=low, high=high - (high - low) % step, step=step, log=log, form=("int",))


def _ends(form: str, ends: Any) -> tuple[float, float]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise EntryError(f"must be [LOW, HIGH], found {shown(ends)}", form)
    low, high = (_number(end, form, str(index)) for index, end in enumerate(ends))
    if low >= high:
        raise EntryError(f"the first must be below the second, found {shown(ends)}", form)
    return low, high


def _number(value: Any, *place: str) -> float:
    """A number, or a share such as 15%."""
    try:
        number = float(parse_share(value)) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not _is_number(number):
        raise EntryError(f"must be a number, found {shown(value)}", *place)
    assert isinstance(number, int | float)
    return number


def shown(value: Any) -> str:
    """A value as it stands in a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
