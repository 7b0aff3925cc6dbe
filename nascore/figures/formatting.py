"""Numbers as text. A missing value is shown as not available."""

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
MISSING = "not available"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Return a fraction in percent."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}%"


def points(fraction: float | None, digits: int = 2) -> str:
    """Return a difference of accuracies in percentage points, with its sign."""
    return MISSING if fraction is None else f"{100 * fraction:+.{digits}f}"


def count(number: float | None) -> str:
    """Return a whole number with thousands separators."""
    return MISSING if number is None else f"{int(number):,}"


def short_count(number: float | None) -> str:
    """Return a number with three digits and a unit from a million on: 3.42 M."""
    if number is None:
        return MISSING
    for size, unit in _UNITS[:2]:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return count(number)


def milliseconds(value: float | None) -> str:
    """Return milliseconds with three digits: 0.812 ms, 12.0 ms, 340 ms."""
    if value is None:
        return MISSING
    return f"{value:#.3g} ms" if value < 100 else f"{value:,.0f} ms"


def duration(seconds: float | None) -> str:
    """Return a duration: 0.42 s, 12.3 s, 4 min 05 s, 3 h 20 min."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def p_value(p: float | None) -> str:
    """Return a p-value with two digits."""
    return MISSING if p is None else f"{p:.2g}"


def wilson_interval(fraction: float, num: int) -> tuple[float, float]:
    """Return the 95% interval of a proportion of `num` independent images (Wilson 1927)."""
    from scipy.stats import binomtest  # takes a second to load

    interval = binomtest(round(fraction * num), num).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
