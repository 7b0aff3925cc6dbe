"""Cron expressions as KFP reads them: six fields, seconds first, in UTC.

KFP's scheduler uses robfig/cron 1: a day of the week is 0 (Sunday) to 6, and both day fields given
mean either of them. It takes five fields too, but as seconds to months, so `0 3 * * 1`, meant for
Mondays at three, would start a run three minutes past every hour of January.

cronsim computes the times. What it reads in another way than robfig/cron is refused or rewritten
here: 7 for Sunday, `L` and `#`, `?` for a star, N/S of weekdays up to day 7, and N-N/S as N/S.
"""

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nascore.errors import InputError, Problem

if TYPE_CHECKING:
    from cronsim import CronSim

EXAMPLE = "0 0 3 * * 1"
_YEARS = 5  # robfig/cron looks no further
_FIELDS = {  # the names of the fields and their values
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day of the month": "1 to 31",
    "month": "1 to 12 or jan to dec",
    "day of the week": "0 to 6 or sun to sat, Sunday is 0",
}
_SPANS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_DAY, _WEEKDAY = 3, 5
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_VALUE = r"(?:[0-9]{1,4}|[a-z]{3})"
_FIELD = re.compile(
    rf"[*?](?:/[0-9]{{1,4}})?|(?:{_VALUE}(?:-{_VALUE})?(?:/[0-9]{{1,4}})?(?:,(?!$)|$))+",
    re.IGNORECASE,
)


def check(expression: str, key: str = "--cron") -> str:
    """Return the expression with single spaces between its fields.

    Raises:
        InputError: KFP would refuse it, read it in another way than it looks, or never start it.
    """
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise InputError.of(key, expression, _wrong_number(parts))
    problems = [
        Problem(
            key,
            expression,
            f"{name} {part!r} must be within {values}: one value, a range A-B, a list A,B, each "
            "optionally with /N for every Nth, or a star alone",
        )
        for index, ((name, values), part) in enumerate(zip(_FIELDS.items(), parts, strict=True))
        if not _is_field(index, part)
    ]
    checked = " ".join(parts)
    if not problems and (message := _unsuitable(checked)):
        problems = [Problem(key, expression, message)]
    if problems:
        raise InputError(problems)
    return checked


def describe(expression: str) -> str:
    """Return a checked expression as a text, such as `At 03:00 on Monday`."""
    return _cronsim(expression).explain()


def next_times(expression: str, after: datetime, count: int) -> list[datetime]:
    """Return the next times of a checked expression, in UTC; fewer when it has no more."""
    from cronsim import CronSimError

    after = after.astimezone(UTC)
    try:
        times = _cronsim(expression, after)
    except CronSimError:  # each field is right, but no month of these has such a day
        return []
    end = after + timedelta(days=_YEARS * 366)
    return list(itertools.takewhile(lambda time: time < end, itertools.islice(times, count)))


def _cronsim(expression: str, after: datetime | None = None) -> "CronSim":
    """Return cronsim's reading of an expression, rewritten where it differs from robfig/cron's."""
    from cronsim import CronSim

    *others, month, weekday = expression.lower().replace("?", "*").split()
    month, weekday = _numbers(month, _MONTHS, 1), _numbers(weekday, _DAYS, 0)
    weekday = re.sub(r"(?<![-\w])(\w+)/", r"\1-6/", weekday)  # N/S: cronsim goes on to day 7
    rewritten = re.sub(r"\b0*(\d+)-0*\1/\d+", r"\1", " ".join([*others, month, weekday]))
    return CronSim(rewritten, after or datetime.now(UTC))


def _numbers(text: str, names: list[str], first: int) -> str:
    for number, name in enumerate(names, start=first):
        text = text.replace(name, str(number))
    return text


def _is_field(index: int, part: str) -> bool:
    from cronsim import CronSimError

    if _FIELD.fullmatch(part) is None:
        return False
    fields = ["*"] * len(_FIELDS)
    fields[index] = part
    try:
        times = _cronsim(" ".join(fields))
    except CronSimError:
        return False
    return part.startswith(("*", "?")) or index != _WEEKDAY or 7 not in times.weekdays


def _wrong_number(parts: list[str]) -> str:
    if len(parts) == len(_FIELDS) - 1:
        return (
            f"has five fields; KFP wants six, seconds first: put the seconds before it, "
            f"'0 {' '.join(parts)}'"
        )
    return f"must have six fields ({', '.join(_FIELDS)}), as in '{EXAMPLE}', not {len(parts)}"


def _unsuitable(expression: str) -> str | None:
    """Return why an expression whose fields are right makes no schedule; None when it does."""
    for name, (first, last), part in zip(_FIELDS, _SPANS, expression.split(), strict=True):
        step = part[2:] if part.startswith(("*/", "?/")) else ""
        if step and first + int(step) > last:  # KFP counts from the first value again
            return (
                f"with {name} {part!r} KFP starts at {name} {first} alone, and not every {step}; "
                f"write {first}, or a number up to {last - first}"
            )
    second, _, rest = expression.partition(" ")
    days = [expression.split()[index] for index in (_DAY, _WEEKDAY)]
    if not {"*", "?"} & {*days} and any(day.startswith(("*", "?")) for day in days):
        return (
            "with */N for one kind of day and a choice for the other KFP starts only on days that "
            "fit both; list the days, or give one of them as *"
        )
    if len(_cronsim(second + " * * * * *").seconds) > 1:
        return f"starts more than one run a minute; give one second, such as '0 {rest}'"
    if not next_times(expression, datetime.now(UTC), 1):
        return f"names no day of the next {_YEARS} years"
    return None
