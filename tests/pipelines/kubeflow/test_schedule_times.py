"""Schedules: what is refused, and that the next times are those that KFP's scheduler would take."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nascore.errors import InputError
from pipelines.kubeflow import schedule_times

START = datetime(2026, 11, 25, 3, 12, 30, tzinfo=UTC)


def refused(expression: str) -> str:
    with pytest.raises(InputError) as caught:
        schedule_times.check(expression)
    return str(caught.value)


def test_five_fields_are_refused_with_the_six_that_were_meant() -> None:
    message = refused("0 3 * * 1")
    assert "seconds first" in message
    assert "'0 0 3 * * 1'" in message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "six fields"),
        ("@daily", "six fields"),
        ("0 0 3 * * 1 2027", "not 7"),
        ("60 0 3 * * 1", "second '60' must be within 0 to 59"),
        ("0 0 24 * * 1", "hour '24' must be within 0 to 23"),
        ("0 0 3 0 * *", "day of the month '0' must be within 1 to 31"),
        ("0 0 3 L * *", "day of the month 'L' must be within 1 to 31"),
        ("0 0 3 * 13 *", "month '13'"),
        ("0 0 3 * * 7", "Sunday is 0"),
        ("0 0 3 * * 1#2", "day of the week '1#2'"),
        ("0 0 3 * * fri-mon", "day of the week 'fri-mon' must be within 0 to 6 or sun to sat"),
        ("0 */0 3 * * 1", "minute '*/0'"),
        ("0 1-2-3 3 * * 1", "minute '1-2-3'"),
        ("0 1,,2 3 * * 1", "minute '1,,2'"),
        ("0 1,* 3 * * 1", "minute '1,*' must be within 0 to 59: one value, a range A-B, a list"),
        ("0 0 -3 * * 1", "hour '-3'"),
        ("0 0 ٣ * * 1", "hour '٣'"),
        ("0 0 3 * fri jan", "month 'fri'"),
        ("0 0 3 30 2 *", "names no day"),
        ("* * * * * *", "more than one run a minute; give one second, such as '0 * * * * *'"),
        ("*/30 0 3 * * 1", "more than one run a minute"),
        ("0 0 3 */2 * 1", "days that fit both"),
        ("0 */90 * * * *", "with minute '*/90' KFP starts at minute 0 alone, and not every 90"),
        (
            "0 0 */36 * * *",
            "with hour '*/36' KFP starts at hour 0 alone, and not every 36; write 0",
        ),
        ("0 0 3 */40 * *", "starts at day of the month 1 alone, and not every 40; write 1, or a"),
        ("0 0 3 * */12 *", "or a number up to 11"),
        ("0 0 3 * * */8", "with day of the week '*/8' KFP starts at day of the week 0 alone"),
    ],
)
def test_what_kfp_refuses_or_reads_otherwise_is_refused(expression: str, message: str) -> None:
    assert message in refused(expression)


def test_every_wrong_field_is_reported() -> None:
    message = refused("60 60 24 32 13 8")
    for name in ("second", "minute", "hour", "day of the month", "month", "day of the week"):
        assert f" {name} '" in message


def test_a_schedule_as_text() -> None:
    assert schedule_times.describe(schedule_times.check(" 0  0 3 * * 1 ")) == "At 03:00 on Monday"
    assert (
        schedule_times.describe(schedule_times.check("0 30 2 ? * mon-fri"))
        == "At 02:30 on Monday through Friday"
    )


def test_the_next_times() -> None:
    times = schedule_times.next_times("0 0 3 * * 1", START, 3)
    assert [time.isoformat() for time in times] == [
        "2026-11-30T03:00:00+00:00",
        "2026-12-07T03:00:00+00:00",
        "2026-12-14T03:00:00+00:00",
    ]


def test_the_next_times_are_utc_whatever_the_clock_of_the_caller() -> None:
    from zoneinfo import ZoneInfo

    there = START.astimezone(ZoneInfo("America/New_York"))
    assert schedule_times.next_times("0 0 4 * * *", there, 1) == [
        datetime(2026, 11, 25, 4, tzinfo=UTC)
    ]


def test_a_time_that_is_now_is_not_the_next() -> None:
    now = datetime(2026, 11, 25, 4, tzinfo=UTC)
    assert schedule_times.next_times("0 0 4 * * *", now, 1) == [now + timedelta(days=1)]


def test_either_of_two_days() -> None:
    days = [time.day for time in schedule_times.next_times("0 0 3 1,15 * mon", START, 4)]
    assert days == [30, 1, 7, 14]


# --- against a second reading of robfig/cron's rules, minute by minute -----------------------


def items(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, 20)
    plain = st.one_of(number.map(str), span)
    stepped = st.tuples(plain, step).map(lambda parts: f"{parts[0]}/{parts[1]}")
    return st.lists(st.one_of(plain, stepped), min_size=1, max_size=3).map(",".join)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    starred = st.integers(1, 20).map(lambda step: f"*/{step}")
    return st.one_of(st.sampled_from(["*", "?"]), starred, items(low, high))


def values(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        if first in "*?":
            start, end = low, high
        else:
            start = int(first)
            end = int(last) if dash else (high if step else start)
        found.update(range(start, end + 1, int(step or 1)))
    return found


@example(minute="*", hour="*", day="*", weekday="0-0")
@example(minute="7", hour="*", day="5", weekday="0-6")
@example(minute="7-7/3", hour="*", day="*", weekday="1/2")
@example(minute="7", hour="1", day="?", weekday="6/1")
@settings(max_examples=60, deadline=None)
@given(minute=field(0, 59), hour=field(0, 23), day=field(1, 31), weekday=field(0, 6))
def test_times_are_those_of_the_scheduler(minute: str, hour: str, day: str, weekday: str) -> None:
    expression = f"0 {minute} {hour} {day} * {weekday}"
    limit = 20_000
    fits_day, fits_weekday = values(day, 1, 31), values(weekday, 0, 6)
    minutes, hours = values(minute, 0, 59), values(hour, 0, 23)
    combine = all if day[0] in "*?" or weekday[0] in "*?" else any
    expected = []
    time = START.replace(second=0)
    for _ in range(limit):
        time += timedelta(minutes=1)
        if time.minute not in minutes or time.hour not in hours:
            continue
        if combine((time.day in fits_day, time.isoweekday() % 7 in fits_weekday)):
            expected.append(time)
        if len(expected) == 3:
            break
    found = schedule_times.next_times(expression, START, 3)
    last = START.replace(second=0) + timedelta(minutes=limit)
    assert [time for time in found if time <= last] == expected
