"""Numbers as text, and the interval of a proportion."""

import pytest

from nascore.figures import formatting


def test_numbers_have_units_and_few_digits() -> None:
    assert [formatting.duration(s) for s in (0.417, 12.34, 245, 12_000)] == [
        *("0.42 s", "12.3 s", "4 min 05 s", "3 h 20 min")
    ]
    assert formatting.duration(59.97) == "1 min 00 s"
    assert [formatting.short_count(n) for n in (999_999, 3_421_222, 2.5e9)] == [
        *("999,999", "3.42 M", "2.5 G")
    ]
    assert [formatting.milliseconds(ms) for ms in (0.8123, 12, 1234)] == [
        "0.812 ms",
        "12.0 ms",
        "1,234 ms",
    ]
    assert formatting.percent(None) == formatting.MISSING


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    assert formatting.wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert formatting.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
