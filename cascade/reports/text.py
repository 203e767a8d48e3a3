"""Numbers as texts."""

import math

__all__ = ["cell", "count", "number", "percent", "points", "rows", "shortened", "times_less"]

MISSING = "\N{EN DASH}"


def percent(share: float | None) -> str:
    """A share in [0, 1] with one decimal; only 0 and 1 are shown as 0 % and 100 %."""
    if share is None or math.isnan(share):
        return MISSING
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %" if share < 0.99995 else f"{math.floor(share * 1e5) / 1e3:.3f} %"
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    text = f"{100 * difference:+.2f}"
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def count(value: int) -> str:
    """A count with thousands separators."""
    return f"{value:,}"


def rows(value: int) -> str:
    """A count and its noun."""
    return f"{value:,} row" if value == 1 else f"{value:,} rows"


def number(value: float) -> str:
    """Three significant digits, or all digits before the point; never an exponent for everyday sizes."""
    if not math.isfinite(value):
        return MISSING
    if value != 0 and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.2e}"
    decimals = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def times_less(ratio: float | None) -> str:
    """A cost that is 1 / ``ratio`` of another one, in words."""
    if ratio is None:
        return MISSING
    if 0.995 <= ratio < 1.005:
        return "the same"
    return f"{number(ratio)} times less" if ratio > 1 else f"{number(1 / ratio)} times more"


def cell(value: object) -> str:
    """A cell of a table, of any type."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return number(value) if isinstance(value, float) else str(value)


def shortened(name: str, most: int) -> str:
    """A name of at most ``most`` characters, for pictures; tables show it in full."""
    return name if len(name) <= most else name[: most - 1] + "…"
