"""Schedules in cron's notation, as KFP reads them: six fields, seconds first, in UTC.

KFP's scheduler uses robfig/cron 1: a day of the week is 0 (Sunday) to 6, and both day fields given
mean either of them. It takes five fields too, but as seconds to months, so `0 3 * * 1`, meant for
Mondays at three, would start a run three minutes past every hour of January.

The times are found here and not by a library: croniter 7 takes the weekday `0-0` for every day, and
a range of all values for a star, which changes what two day fields mean together.
"""

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nascore.errors import InputError, Problem

EXAMPLE = "0 0 3 * * 1"
_YEARS = 5  # robfig/cron looks no further
_STARS = ("*", "?")


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int | None:
        if text.lower() in self.words:
            return self.low + self.words.index(text.lower())
        return int(text) if re.fullmatch(r"\d{1,4}", text, re.ASCII) else None

    def values(self, text: str) -> list[int]:
        """What a checked field holds, sorted."""
        found: set[int] = set()
        for item in text.split(","):
            span, slash, step = item.partition("/")
            first, dash, last = span.partition("-")
            is_open = span in _STARS or (slash and not dash)  # N/step goes on to the highest
            start = self.low if span in _STARS else self.number(first)
            end = self.high if is_open else self.number(last or first)
            assert start is not None
            assert end is not None
            found.update(range(start, end + 1, int(step or 1)))
        return sorted(found)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, _DAYS),
)
_DAY, _WEEKDAY = 3, 5


def check(expression: str, key: str = "--cron") -> str:
    """The expression with single spaces between its fields.

    Raises:
        InputError: KFP would refuse it, read it in another way than it looks, or never start it.
    """
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise InputError.of(key, expression, _wrong_number(parts))
    problems = [
        Problem(key, expression, f"{field.name} {part!r} {message}")
        for field, part in zip(_FIELDS, parts, strict=True)
        if (message := _wrong(field, part)) is not None
    ]
    if not problems and _is_misleading(parts):
        message = (
            "with */N for one kind of day and a choice for the other KFP starts only on days that "
            f"fit both; list the days, or give one of them as {_STARS[0]}"
        )
        problems = [Problem(key, expression, message)]
    checked = " ".join(parts)
    if not problems and len(_FIELDS[0].values(parts[0])) > 1:
        message = (
            f"starts more than one run a minute; give one second, such as '0 {' '.join(parts[1:])}'"
        )
        problems = [Problem(key, expression, message)]
    if not problems and not next_times(checked, datetime.now(UTC), 1):
        problems = [Problem(key, expression, f"names no day of the next {_YEARS} years")]
    if problems:
        raise InputError(problems)
    return checked


def words(expression: str) -> str:
    """What a checked expression says, such as `At 03:00, only on Monday`."""
    from cron_descriptor import Options, get_description

    options = Options()
    options.use_24hour_time_format = True
    return str(get_description(expression, options))


def next_times(expression: str, after: datetime, count: int) -> list[datetime]:
    """The next times of a checked expression, in UTC; fewer when it has no more."""
    parts = expression.split()
    fields = [field.values(part) for field, part in zip(_FIELDS, parts, strict=True)]
    seconds, minutes, hours, days, months, weekdays = fields
    is_both = any(parts[index].startswith(_STARS) for index in (_DAY, _WEEKDAY))
    after = after.astimezone(UTC)
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    found: list[datetime] = []
    for offset in range(_YEARS * 366):
        day = midnight + timedelta(days=offset)
        fits = (day.day in days, day.isoweekday() % 7 in weekdays)
        if day.month not in months or not (all(fits) if is_both else any(fits)):
            continue
        for hour, minute, second in itertools.product(hours, minutes, seconds):
            time = day.replace(hour=hour, minute=minute, second=second)
            if time > after:
                found.append(time)
            if len(found) == count:
                return found
    return found


def _wrong_number(parts: list[str]) -> str:
    if len(parts) == len(_FIELDS) - 1:
        return (
            f"has five fields; KFP wants six, seconds first: put the seconds before it, "
            f"'0 {' '.join(parts)}'"
        )
    return (
        f"must have six fields (second, minute, hour, day of the month, month, day of the week), "
        f"as in '{EXAMPLE}', not {len(parts)}"
    )


def _wrong(field: _Field, text: str) -> str | None:
    """What is wrong with one field; None when nothing is."""
    items = text.split(",")
    if len(items) > 1 and any(item.startswith(_STARS) for item in items):
        return "lists a star among others; a star takes all"
    return next(filter(None, (_wrong_item(field, item) for item in items)), None)


def _wrong_item(field: _Field, item: str) -> str | None:
    span, slash, step = item.partition("/")
    if slash and not re.fullmatch(r"0*[1-9]\d{0,3}", step, re.ASCII):
        return "must have a whole number above 0 behind the slash"
    if span in _STARS:
        return None
    ends = [field.number(end) for end in span.split("-")]
    if None in ends or len(ends) > 2:
        known = f", {field.words[0]} to {field.words[-1]}" if field.words else ""
        return f"must be {field.low} to {field.high}{known}, a range A-B, a list A,B or a star"
    low, high = ends[0], ends[-1]
    assert low is not None
    assert high is not None
    if low < field.low or high > field.high:
        sunday = "; Sunday is 0" if field.words == _DAYS else ""
        return f"must be within {field.low} to {field.high}{sunday}"
    return "begins after its end" if low > high else None


def _is_misleading(parts: list[str]) -> bool:
    """One kind of day is */N, of which robfig/cron says that both must fit; cron says either."""
    days = (parts[_DAY], parts[_WEEKDAY])
    return not any(day in _STARS for day in days) and any(day.startswith(_STARS) for day in days)
