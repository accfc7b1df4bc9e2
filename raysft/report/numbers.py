"""How numbers are written: scores with three digits, shares with one, a real minus sign."""

from __future__ import annotations

from raysft.metrics.interval import Estimate

MINUS = "−"  # as wide as plus in tabular figures


def score(value: float) -> str:
    """`0.873`."""
    return f"{value:.3f}".replace("-", MINUS)


def signed(value: float) -> str:
    """`+0.094`; a number that rounds to zero carries no sign."""
    shown = f"{value:+.3f}".replace("-", MINUS)
    return "0.000" if shown[1:] == "0.000" else shown


def interval(estimate: Estimate) -> str:
    """`0.831 to 0.912`."""
    return f"{score(estimate.low)} to {score(estimate.high)}"


def signed_interval(estimate: Estimate) -> str:
    """`+0.041 to +0.150`."""
    return f"{signed(estimate.low)} to {signed(estimate.high)}"


def percent(share: float) -> str:
    """`12.5%`."""
    return f"{100 * share:.1f}%"


def count(number: float) -> str:
    """`12,345`."""
    return f"{round(number):,}"


def rows(number: int) -> str:
    """`1 row`, `220 rows`."""
    return plural(number, "row")


def plural(number: int, noun: str, nouns: str = "") -> str:
    """`1 class`, `18 classes`; `nouns` where the plural takes more than an s."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"


def rate(value: float) -> str:
    """A learning rate or a decay in its shortest form: `0.0002` is `2e-4`."""
    if value == 0 or 1e-3 < abs(value) < 1e4:
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def seconds(value: float) -> str:
    """`0.42 s`, `73.1 s`, `12 min 5 s`, `3 h 20 min`."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def clip(text: str, limit: int) -> str:
    """A long text cut to `limit` characters, saying how many are left out."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]} … ({plural(left, 'more character')})"
